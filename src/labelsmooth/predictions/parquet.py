"""Predictions in .parquet files: a column of lists, or one column for each class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelsmooth.errors import InputError
from labelsmooth.predictions.table import Array, Column, reading

_DAMAGE = (pa.ArrowException, OSError, EOFError, ValueError, RuntimeError, MemoryError, TypeError, KeyError)
# What a header of a damaged file may ask for; the names of a thousand classes need less.
_LIMITS = {"thrift_string_size_limit": 2**26, "thrift_container_size_limit": 2**20}


class ParquetTable:
    """The columns of a .parquet file; `logit_0`, `logit_1`, … are the array `logit` too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, Column] = {}
        self._parts: dict[str, list[str]] = {}  # names of the columns of each array
        with reading(path, _DAMAGE), pq.ParquetFile(path, **_LIMITS) as file:
            rows = file.metadata.num_rows
            schema = [(field.name, field.type) for field in file.schema_arrow]
            widths = {
                name: _width(file, name, kind) if rows else 0 for name, kind in schema if _is_list(kind)
            }
        for name, kind in schema:
            if name in self.columns:
                raise InputError(f"{path} has several columns with the name {name}")
            self._parts[name] = [name]
            if name in widths:
                self.columns[name] = Column(shape=(rows, widths[name]), kind=_kind(kind.value_type))
            else:
                self.columns[name] = Column(shape=(rows,), kind=_kind(kind))
        self._gather_numbered(rows)

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        wanted = [part for name in names for part in self._parts[name]]
        seen = 0
        with self._reading():
            file = pq.ParquetFile(self.path, **_LIMITS)
        with file:
            with self._reading():
                batches = file.iter_batches(batch_size=rows, columns=wanted, use_threads=False)
            while True:
                with self._reading():
                    batch = next(batches, None)
                if batch is None:
                    break
                seen += batch.num_rows
                if batch.num_rows:
                    yield {name: self._array(name, batch) for name in names}
        announced = self.columns[names[0]].shape[0]
        if seen != announced:
            raise InputError(f"{self.path} announces {announced} rows and holds {seen}")

    def _gather_numbered(self, rows: int) -> None:
        numbered: dict[str, dict[int, str]] = {}
        for name, column in self.columns.items():
            match = re.fullmatch(r"(.+?)_?([0-9]{1,9})", name)
            if match and len(column.shape) == 1 and column.kind == "float":
                numbered.setdefault(match[1], {})[int(match[2])] = name
        for prefix, parts in numbered.items():
            # where a number is missing there is no array
            if prefix not in self.columns and len(parts) > 1 and set(parts) == set(range(len(parts))):
                self._parts[prefix] = [parts[number] for number in range(len(parts))]
                self.columns[prefix] = Column(shape=(rows, len(parts)), kind="float")

    def _array(self, name: str, batch: Any) -> npt.NDArray[Any]:
        column = self.columns[name]
        arrays = [self._values(part, batch.column(part)) for part in self._parts[name]]
        if len(arrays) > 1:
            return np.stack(arrays, axis=-1)
        return arrays[0].reshape(batch.num_rows, *column.shape[1:])

    def _values(self, name: str, array: Any) -> npt.NDArray[Any]:
        """The values of a column or of all its lists, which must be of equal length."""
        if array.null_count:
            raise InputError(f"{self.path} has rows without a value in the column {name}")
        if _is_list(array.type):
            width = self.columns[name].shape[1]
            with self._reading():
                lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
            if (lengths != width).any():
                raise InputError(
                    f"{self.path} must have lists of equal length in the column {name}, "
                    f"got {width} and {lengths[lengths != width][0]} values"
                )
            with self._reading():
                array = array.flatten()
            if array.null_count:
                raise InputError(f"{self.path} has lists with missing values in the column {name}")
        with self._reading():
            if pa.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
            return values.astype(str) if values.dtype == object else values

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, _DAMAGE)


def _width(file: Any, name: str, kind: Any) -> int:
    """The number of values in the lists of a column, by its type or its first row."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    batches = file.iter_batches(batch_size=1, columns=[name], use_threads=False)
    first = next((batch.column(0) for batch in batches if batch.num_rows), None)
    if first is None:
        raise EOFError(f"no row in the column {name}")
    return int(pc.list_value_length(first)[0].as_py() or 0)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _kind(kind: Any) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_integer(kind):
        return "integer"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
