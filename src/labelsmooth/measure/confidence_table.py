"""The table of distinct confidences that selective prediction counts rows in, and its fixed grid."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Bools, Floats, State

# What each group of rows holds: the weight of its rows and of the wrong ones, whole numbers where no row has
# a weight of its own. Else these are followed by how many both are, and the sums of their squared weights.
Columns: TypeAlias = tuple[npt.NDArray[Any], ...]

NAMES = ("weight", "error_weight", "count", "errors", "squared_weight", "squared_error_weight")

# rows put aside before they are sorted into the groups
_PENDING = 2**17

# bits of a float64's significand that a cell of the grid leaves open: 2048 cells to a factor of two
_OPEN_BITS = np.int64(52 - 11)
# magnitudes beyond these are not told apart by the grid
_SMALLEST, _LARGEST = 2.0**-64, 2.0**64


class ConfidenceTable:
    """Distinct confidences with what is counted of each, on a grid once there are more than `capacity`.

    Attributes:
        exact: whether confidences are kept apart, rather than joined to cells of the grid.
        confidence: (G,), rising; a cell's lowest where not exact.
        columns: (G,) each; without what waits to be sorted in (`fold`).
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.exact = True
        self.confidence: Floats = np.zeros(0)
        self.columns: Columns = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._pending: list[tuple[Floats, Columns]] = []
        self._num_pending = 0

    def add_rows(self, confidence: Floats, correct: Bools, weights: Tensor | None = None) -> None:
        """Count rows; those of weight 0 do not count."""
        if weights is not None:
            counts = weights.numpy() > 0
            confidence, correct, weight = confidence[counts], correct[counts], weights.numpy()[counts]
        wrong = ~correct
        columns: Columns = (np.ones(confidence.shape, np.int64), wrong.astype(np.int64))
        if weights is not None:
            columns = (weight, wrong * weight, *columns, weight**2, wrong * weight**2)
        self.add(confidence, columns)

    def add(self, confidence: Floats, columns: Columns, *, exact: bool = True) -> None:
        """Count groups of rows, which of a grid are its cells."""
        if not exact and self.exact:
            self.fold()
            self._to_grid()
        if len(columns) > len(self.columns):
            self.fold()
            self.columns = with_weights(self.columns)
        elif len(columns) < len(self.columns):
            columns = with_weights(columns)
        self._pending.append((confidence, columns))
        self._num_pending += confidence.size
        if self._num_pending >= _PENDING:
            self.fold()

    def fold(self) -> None:
        """Sort what is pending into the table."""
        if not self._pending:
            return
        confidences, columns = zip(*self._pending, strict=True)
        self._pending, self._num_pending = [], 0
        together = tuple(np.concatenate(parts) for parts in zip(*columns, strict=True))
        self._insert(np.concatenate(confidences), together)
        if self.exact and self.confidence.size > self.capacity:
            self._to_grid()

    def _to_grid(self) -> None:
        confidence, columns = self.confidence, self.columns
        self.exact = False
        self.confidence, self.columns = confidence[:0], tuple(column[:0] for column in columns)
        for start in range(0, confidence.size, _PENDING):
            part = slice(start, start + _PENDING)
            self._insert(confidence[part], tuple(column[part] for column in columns))

    def _insert(self, confidence: Floats, columns: Columns) -> None:
        """Add rows to the table with a copy of one column at a time: sorting it anew would take many."""
        confidence, columns = _grouped(confidence if self.exact else cells_of(confidence), columns)
        at = np.searchsorted(self.confidence, confidence)
        known = at < self.confidence.size
        known[known] = self.confidence[at[known]] == confidence[known]
        for total, values in zip(self.columns, columns, strict=True):
            total[at[known]] += values[known]
        at, new = at[~known], ~known
        self.confidence = np.insert(self.confidence, at, confidence[new])
        self.columns = tuple(
            np.insert(total, at, values[new]) for total, values in zip(self.columns, columns, strict=True)
        )

    def falling(self) -> tuple[Floats, Columns]:
        """The table from the highest confidence down; `ValueError` without a row."""
        self.fold()
        if self.confidence.size == 0:
            raise InputError("selective prediction needs at least one row that counts, got none")
        return self.confidence[::-1].copy(), tuple(column[::-1] for column in self.columns)

    def merge(self, other: ConfidenceTable) -> None:
        """Count the rows that another table has counted."""
        other.fold()
        self.add(other.confidence, other.columns, exact=other.exact)
        self.fold()  # while the other table is what it was

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, by name."""
        self.fold()
        columns = zip(NAMES, with_weights(self.columns), strict=True)
        return {"exact": np.array(self.exact), "confidence": self.confidence.copy()} | {
            name: column.copy() for name, column in columns
        }

    def add_arrays(self, arrays: State) -> None:
        """Count what was counted in other `arrays`.

        Raises:
            ValueError: they are not of one length.
        """
        shapes = {name: arrays[name].shape for name in ("confidence", *NAMES)}
        if len(set(shapes.values())) > 1 or arrays["confidence"].ndim != 1:
            raise InputError(f"confidences and what is counted of them must have one length, got {shapes}")
        columns = unweighted(tuple(arrays[name] for name in NAMES))
        self.add(arrays["confidence"], columns, exact=bool(arrays["exact"]))
        self.fold()

    def sums(self) -> dict[str, npt.NDArray[Any]]:
        """The counts on the grid of shares, as arrays of one size, whatever was counted.

        Raises:
            ValueError: a confidence is not in 0..1.
        """
        self.fold()
        cells = cells_of(self.confidence)
        if cells.size and not (cells[0] >= 0 and cells[-1] <= 1):
            outside = self.confidence[0 if cells[0] < 0 else -1]
            raise InputError(f"sums need confidences in 0..1, got {outside}")
        grid = grid_of_shares()
        at = np.searchsorted(grid, cells, "right") - 1
        columns = zip(NAMES, with_weights(self.columns), strict=True)
        return {name: np.bincount(at, values, grid.size).astype(values.dtype) for name, values in columns}

    def add_sums(self, sums: State) -> None:
        """Count what was counted in other `sums`."""
        filled = sums["count"] > 0
        columns = unweighted(tuple(sums[name][filled] for name in NAMES))
        self.add(grid_of_shares()[filled], columns, exact=False)


def with_weights(columns: Columns) -> Columns:
    """The columns of rows that have weights; of rows that have none they are 1."""
    if len(columns) == len(NAMES):
        return columns
    weights = tuple(column.astype(np.float64) for column in columns)
    return (*weights, *columns, *(weight.copy() for weight in weights))


def counts_of(columns: Columns) -> Columns:
    """The number of rows of each group, and of the wrong ones among them."""
    return columns[2:4] or columns


def unweighted(columns: Columns) -> Columns:
    """The columns of rows without weights where every weight is 1, which Σ w = Σ w² = n says."""
    weight, _, count, errors, squared_weight, _ = columns
    return (count, errors) if (weight == count).all() and (squared_weight == count).all() else columns


def _grouped(confidence: Floats, columns: Columns) -> tuple[Floats, Columns]:
    """Equal confidences as one, rising."""
    order = np.argsort(confidence)
    confidence = confidence[order]
    first = np.flatnonzero(np.diff(confidence, prepend=np.nan) != 0)
    if first.size == 0:
        return confidence, columns
    return confidence[first], tuple(np.add.reduceat(column[order], first) for column in columns)


def cells_of(confidence: Floats) -> Floats:
    """The lowest value of the grid's cell that each lies in; of itself for such a value."""
    upper = (confidence >= 0.5) & (confidence <= 1)
    # 1 − c is exact there; the lowest confidence of a cell is the highest of its 1 − c
    return np.where(upper, 1 - _away_from_zero(np.where(upper, 1 - confidence, 0)), _downwards(confidence))


@cache
def grid_of_shares() -> Floats:
    """The lowest values of the grid's cells in 0..1, rising; from 0 the next is 2⁻²⁴."""
    fractions = 1 + np.arange(2048) / 2048
    below = np.concatenate([fractions * 2.0**e for e in range(-24, -1)])
    # 1 − c is a multiple of 2⁻⁵³ where c lies in 0.5..1
    above = 1 - np.concatenate([[0, 0.5], *(fractions * 2.0**e for e in range(-53, -1))])
    return np.unique(cells_of(np.concatenate([[0], below, above])))


def _downwards(values: Floats) -> Floats:
    size = np.abs(values)
    cut = (size.view(np.int64) >> _OPEN_BITS << _OPEN_BITS).view(np.float64)
    rising = np.where(size < _SMALLEST, 0, np.minimum(cut, _LARGEST))
    falling = np.where(
        size > _LARGEST, np.finfo(np.float64).max, _away_from_zero(np.maximum(size, _SMALLEST))
    )
    return np.where(values >= 0, rising, -falling)


def _away_from_zero(size: Floats) -> Floats:
    """Sizes ≥ 0 with the open bits rounded up."""
    bits = size.view(np.int64)
    rounded: Floats = ((bits + ((np.int64(1) << _OPEN_BITS) - 1)) >> _OPEN_BITS << _OPEN_BITS).view(
        np.float64
    )
    return rounded
