"""Predictions in .csv and .tsv files with a line of names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from labelsmooth.errors import InputError
from labelsmooth.files import reading
from labelsmooth.predictions.arrow import DAMAGE, ArrowTable, slices

# Bytes that are read at a time; Arrow reads up to 32 such blocks ahead. As a line must fit into a block,
# that is several times the line of names where there are very many.
_BLOCK, _LINES = 2**20, 8
# A number, with a comma where many languages write it.
_DECIMAL_COMMA = r"^[+-]?[0-9]*(,[0-9]+)?([eE][+-]?[0-9]+)?$"
# What a column is read as: the first of them that takes all its values.
_TYPES = (pa.int64(), pa.float64(), pa.string())


class CsvTable(ArrowTable):
    """The columns of a .csv or .tsv file; what they hold is told by a pass over all rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            line = stream.readline(2**24)
        self._block = max(_BLOCK, _LINES * len(line))
        self._separator = _separator(path, line)
        with reading(path, DAMAGE), self._open(pa.csv.ReadOptions(block_size=self._block)) as reader:
            names = [name.strip() for name in reader.schema.names]
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path} has several columns with the name {repeated}")
        self._names = names
        self._types = dict.fromkeys(names, _TYPES[0])
        rows = 0
        for batch in self._read(dict.fromkeys(names, pa.string())):
            rows += batch.num_rows
            for name in names:
                trimmed = pc.utf8_trim_whitespace(batch.column(name))
                self._types[name] = _type_of(trimmed, self._types[name])
                if self._types[name] == pa.string():
                    self._require_points(name, trimmed)
        super().__init__(path, list(self._types.items()), rows, {})

    def _batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        for batch in self._read({name: self._types[name] for name in names}):
            yield from slices(batch, rows)

    def _read(self, types: dict[str, Any]) -> Iterator[Any]:
        convert = pa.csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
        )
        read = pa.csv.ReadOptions(
            column_names=self._names, skip_rows=1, block_size=self._block, use_threads=False
        )
        with self._reading():
            reader = self._open(read, convert)
        with reader:
            while True:
                with self._reading():
                    batch = next(reader, None)
                if batch is None:
                    break
                yield batch

    def _open(self, read: Any, convert: Any = None) -> Any:
        return pa.csv.open_csv(self.path, read, pa.csv.ParseOptions(delimiter=self._separator), convert)

    def _require_points(self, name: str, texts: Any) -> None:
        """Refuse a column of text that would be numbers with points for commas."""
        with_comma = texts.filter(pc.match_substring(texts, ","))
        if len(with_comma) and pc.all(pc.match_substring_regex(texts, _DECIMAL_COMMA)).as_py():
            raise InputError(
                f"{self.path} must write numbers with a decimal point, got {with_comma[0]} in {name}"
            )


def _separator(path: Path, names: bytes) -> str:
    """Find the separator of the values: spreadsheets of many languages write semicolons in a .csv file."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if b";" in names and b"," not in names else ","


def _type_of(texts: Any, least: Any) -> Any:
    """The first of the types, from `least` on, that takes all the values."""
    for kind in _TYPES[_TYPES.index(least) :]:
        try:
            texts.cast(kind)
        except pa.ArrowInvalid:
            continue
        return kind
    raise AssertionError("every value is text")
