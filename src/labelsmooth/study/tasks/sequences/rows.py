"""Rows of text in the order of their source, before they are split and made into tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

NEIGHBOURS = 10  # rows of a source that make a passage, where it has none of its own


@dataclass(frozen=True, kw_only=True)
class Rows(ABC):
    """Rows of text, of which every tuple of a subclass has an element."""

    passages: tuple[int, ...]  # neighbours, as the verses of a chapter, have the same

    @property
    @abstractmethod
    def columns(self) -> tuple[tuple[str, ...], ...]:
        """The texts none of which may be in two parts of the data."""

    def __len__(self) -> int:
        return len(self.passages)

    def select(self, rows: Sequence[int]) -> Self:
        """Take some of the rows."""
        return replace(
            self, **{name: tuple(column[row] for row in rows) for name, column in vars(self).items()}
        )


def neighbours(rows: int) -> tuple[int, ...]:
    """Number the passages of rows that are in no other order than their own."""
    return tuple(row // NEIGHBOURS for row in range(rows))


def left_out(counts: Mapping[str, int]) -> str:
    """Say how many rows were left out, by why; "" where none was.

    Example:
        >>> left_out({"of more than 100 tokens": 1200, "without a text": 0})
        '1,200 of more than 100 tokens'
    """
    return ", ".join(f"{count:,} {why}" for why, count in counts.items() if count)
