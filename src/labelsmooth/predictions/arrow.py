"""Columns of files that Apache Arrow reads: what .parquet, .feather and .csv have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labelsmooth.errors import InputError
from labelsmooth.files import reading
from labelsmooth.predictions.table import Array, Column

DAMAGE = (pa.ArrowException, OSError, EOFError, ValueError, RuntimeError, TypeError, KeyError)


class ArrowTable(ABC):
    """Named columns, some of them of lists that are all of one length.

    Args:
        path: of the file.
        fields: names and Arrow's types of the columns.
        rows: as the file announces.
        widths: numbers of values in the lists of the columns that hold lists.
    """

    def __init__(
        self, path: Path, fields: Sequence[tuple[str, Any]], rows: int, widths: dict[str, int]
    ) -> None:
        self.path = path
        self.columns: dict[str, Column] = {}
        for name, kind in fields:
            if name in self.columns:
                raise InputError(f"{path} has several columns with the name {name}")
            if name in widths:
                self.columns[name] = Column(shape=(rows, widths[name]), kind=_kind(kind.value_type))
            else:
                self.columns[name] = Column(shape=(rows,), kind=_kind(kind))

    @abstractmethod
    def _batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """Iterate over record batches of these columns, of at most so many rows."""

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        seen = 0
        for batch in self._batches(names, rows):
            seen += batch.num_rows
            if batch.num_rows:
                yield {name: self._array(name, batch.column(name)) for name in names}
        announced = self.columns[names[0]].shape[0]
        if seen != announced:
            raise InputError(f"{self.path} announces {announced} rows and holds {seen}")

    def _array(self, name: str, array: Any) -> npt.NDArray[Any]:
        """The values of a column, or of all its lists, which must be of equal length."""
        if array.null_count:
            raise InputError(f"{self.path} has rows without a value in the column {name}")
        rows, shape = len(array), self.columns[name].shape
        if is_list(array.type):
            with self._reading():
                lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
            if (lengths != shape[1]).any():
                raise InputError(
                    f"{self.path} must have lists of equal length in the column {name}, "
                    f"got {shape[1]} and {lengths[lengths != shape[1]][0]} values"
                )
            with self._reading():
                array = array.flatten()
            if array.null_count:
                raise InputError(f"{self.path} has lists with missing values in the column {name}")
        with self._reading():
            if pa.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
            plain = values.astype(str) if values.dtype == object else values
        return plain.reshape(rows, *shape[1:])

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, DAMAGE)


def slices(batch: Any, rows: int) -> Iterator[Any]:
    """Cut a record batch into some of at most so many rows."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is one of lists of values."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def width(array: Any) -> int:
    """The number of values in the lists of a column, by the type or the first of them."""
    if pa.types.is_fixed_size_list(array.type):
        return int(array.type.list_size)
    return int(pc.list_value_length(array)[0].as_py() or 0)


def _kind(kind: Any) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_integer(kind):
        return "integer"
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return "text" if is_text else str(kind)
