"""Predictions in .parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from labelsmooth.files import reading
from labelsmooth.predictions.arrow import DAMAGE, ArrowTable, is_list, width

# What a header of a damaged file may ask for; the names of a hundred thousand classes need less.
_LIMITS = {"thrift_string_size_limit": 2**26, "thrift_container_size_limit": 2**20}


class ParquetTable(ArrowTable):
    """The columns of a .parquet file."""

    def __init__(self, path: Path) -> None:
        with reading(path, DAMAGE), pq.ParquetFile(path, **_LIMITS) as file:
            rows = file.metadata.num_rows
            fields = [(field.name, field.type) for field in file.schema_arrow]
            widths = {name: _width(file, name) if rows else 0 for name, kind in fields if is_list(kind)}
        super().__init__(path, fields, rows, widths)

    def _batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        with self._reading():
            file = pq.ParquetFile(self.path, **_LIMITS)
        with file:
            with self._reading():
                batches = file.iter_batches(batch_size=rows, columns=list(names), use_threads=False)
            while True:
                with self._reading():
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch


def _width(file: Any, name: str) -> int:
    batches = file.iter_batches(batch_size=1, columns=[name], use_threads=False)
    first = next((batch.column(0) for batch in batches if batch.num_rows), None)
    if first is None:
        raise EOFError(f"no row in the column {name}")
    return width(first)
