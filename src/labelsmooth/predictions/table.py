"""The base of every file of predictions: named arrays whose rows are read in blocks, as often as wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.errors import InputError

Array: TypeAlias = Tensor | npt.NDArray[Any]

# Blocks that are read before a file that is mapped into memory is mapped anew.
MAPPED_BLOCKS = 16


@dataclass(frozen=True, kw_only=True)
class Column:
    """The description of an array by its file."""

    shape: tuple[int, ...]  # (N, ...)
    kind: str  # "float", "integer", "text", "bool" or the name of what else it holds


class Table(Protocol):
    """An open file. Its claims about shapes are checked against its size before anything is allocated."""

    path: Path
    columns: dict[str, Column]

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        """Iterate over the named arrays, all of equal length, in blocks of at most so many rows.

        Raises:
            ValueError: the file is damaged, or its rows are not what it announced.
        """
        ...


class JoinedTable:
    """A file, and arrays of others with as many rows beside it.

    Args:
        table: whose blocks set the pace.
        others: tables, and which of their columns, by the names that these have in the joined table.
    """

    def __init__(self, table: Table, others: Mapping[str, tuple[Table, str]]) -> None:
        self.path = table.path
        self.columns = table.columns | {
            name: other.columns[column] for name, (other, column) in others.items()
        }
        self._table = table
        self._others = others

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        beside = [name for name in names if name in self._others]
        if list(names) == beside[:1]:
            table, column = self._others[names[0]]
            yield from ({names[0]: block[column]} for block in table.blocks([column], rows))
            return
        streams = {name: _Stream(*self._others[name], rows) for name in beside}
        for block in self._table.blocks([name for name in names if name not in beside], rows):
            count = len(next(iter(block.values())))
            yield block | {name: stream.take(count) for name, stream in streams.items()}


class OneRow:
    """A file whose arrays are one row, as those of a single map are.

    Args:
        table: an open file.
        names: of the arrays that get a first axis of one row; the others stay as they are.
    """

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self.path = table.path
        self._table = table
        self._names = {name for name in names if table.columns[name].shape}
        self.columns = table.columns | {
            name: replace(table.columns[name], shape=(1, *table.columns[name].shape)) for name in self._names
        }

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        if not self._names.issuperset(names):
            yield from self._table.blocks(names, rows)
            return
        lengths = {name: self._table.columns[name].shape[0] for name in names}
        yield {
            name: _Stream(self._table, name, length).take(length)[None] for name, length in lengths.items()
        }


class _Stream:
    """The rows of one column, taken a few at a time."""

    def __init__(self, table: Table, column: str, rows: int) -> None:
        self._path = table.path
        self._blocks = (block[column] for block in table.blocks([column], rows))
        self._left: list[Array] = []

    def take(self, count: int) -> Array:
        while sum(map(len, self._left)) < count:
            block = next(self._blocks, None)
            if block is None:
                raise InputError(f"{self._path} holds fewer rows than it announces")
            self._left.append(block)
        parts = self._left
        values: Array = (
            torch.cat([torch.as_tensor(part) for part in parts])
            if isinstance(parts[0], Tensor)
            else np.concatenate([np.asarray(part) for part in parts])
        )
        self._left = [values[count:]]
        return values[:count]


def as_tensor(values: Array) -> Tensor:
    """The values as a tensor, in the memory that they have."""
    return values if isinstance(values, Tensor) else torch.from_numpy(np.require(values, requirements="W"))


def as_numpy(values: Array) -> npt.NDArray[Any]:
    """The values as a NumPy array; floats of a tensor in float64, since NumPy knows no bfloat16."""
    if isinstance(values, Tensor):
        return (values.double() if values.is_floating_point() else values).numpy()
    return values
