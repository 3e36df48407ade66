"""The variance of a number of trained networks over the seeds of the training, crossed with the test rows.

All networks of a study are judged on the same rows, so that their scatter over seeds says nothing of which
rows were drawn. In the table of n seeds by N rows, whose means are the numbers of the seeds, the mean squares
of seeds, of rows and of what is left over tell the three apart:

    variance of the mean = (MS_seeds + MS_rows − MS_rest)/(n·N)

Source: Searle, Casella & McCulloch 1992, "Variance Components", §4.3 (two-way crossed, random);
Satterthwaite 1946, "An approximate distribution of estimates of variance components".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from labelsmooth.measure.arrays import Floats


@dataclass(frozen=True, kw_only=True)
class Variance:
    """The variance of a mean over seeds and rows, in its parts: mean squares divided by n·N.

    There may be several sets of rows, which share none: those of the test, and those that something was
    fitted on. Each has its own number of rows, mean square and rest.
    """

    seeds: int  # n, at least 2
    rows: tuple[int, ...]  # N of each set, at least 2
    from_seeds: float  # the squared standard error over seeds alone
    from_rows: tuple[float, ...]
    from_rest: tuple[float, ...]

    @property
    def total(self) -> float:
        """MS_seeds + Σ (MS_rows − MS_rest), where seeds cannot scatter less than the rest makes them."""
        return max(self.from_seeds - sum(self.from_rest), 0.0) + sum(self.from_rows)

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite's, total²/Σ (part²/its degrees of freedom), but no fewer than the fewest of a part.

        Since a part is subtracted, the formula alone can fall far below: two seeds that scattered as the rest
        makes them had 0.35, and an interval a hundred times as long. Infinite where the variance is 0.
        """
        seeds = self.seeds - 1
        parts = self.from_seeds**2 / seeds
        for rows, from_rows, from_rest in zip(self.rows, self.from_rows, self.from_rest, strict=True):
            parts += from_rows**2 / (rows - 1) + from_rest**2 / (seeds * (rows - 1))
        fewest = min(seeds, *(rows - 1 for rows in self.rows)) if self.rows else seeds
        return max(self.total**2 / parts, fewest) if self.total else float("inf")

    def resized(self, seeds: int, times: float) -> Variance:
        """Expect the variance of so many seeds, and of `times` as many rows in every set."""
        fewer = self.seeds / seeds
        from_rest = tuple(part * fewer / times for part in self.from_rest)
        return Variance(
            seeds=seeds,
            rows=tuple(round(rows * times) for rows in self.rows),
            from_seeds=max(self.from_seeds - sum(self.from_rest), 0.0) * fewer + sum(from_rest),
            from_rows=tuple(
                max(rows - rest, 0.0) / times + left
                for rows, rest, left in zip(self.from_rows, self.from_rest, from_rest, strict=True)
            ),
            from_rest=from_rest,
        )


@dataclass(frozen=True, eq=False)
class Crossed:
    """A number of the network of each seed, and the influence of every row on it.

    A number moves with its rows as number − true value ≈ mean φ_i. Of a mean of rows, φ_i is the row's own
    value; `influence` has those of other numbers. Differences and multiples of numbers on the same rows and
    seeds are paired by both.

    Args:
        values: (n,), the number of each seed.
        influences: by the name of a set of rows, (n, N) φ; their mean over rows may be anything. Where there
            are none, only the seeds vary.

    Example:
        >>> losses = np.array([[0.2, 0.9, 0.4], [0.3, 1.1, 0.1]])  # two seeds, three rows
        >>> crossed = Crossed(losses.mean(1), {"test": losses})
        >>> round(crossed.mean, 3), round(crossed.variance.total, 4)
        (0.5, 0.0625)
    """

    values: Floats
    influences: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(self.values.mean())

    @cached_property
    def variance(self) -> Variance | None:
        """The variance of the mean; None of a single seed or row, or where a value is not finite."""
        seeds, tables = len(self.values), list(self.influences.values())
        if seeds < 2 or not np.isfinite(self.values).all():
            return None
        if any(table.shape[1] < 2 or not np.isfinite(table).all() for table in tables):
            return None
        from_rows, from_rest = [], []
        for table in tables:
            centred = table - table.mean(1, keepdims=True)
            mean = centred.mean(0)
            freedom = table.shape[1] - 1
            from_rows.append(float(mean @ mean) / freedom / table.shape[1])
            left = float(np.square(centred - mean).sum())
            from_rest.append(left / ((seeds - 1) * freedom) / table.size)
        return Variance(
            seeds=seeds,
            rows=tuple(table.shape[1] for table in tables),
            from_seeds=float(self.values.var(ddof=1)) / seeds,
            from_rows=tuple(from_rows),
            from_rest=tuple(from_rest),
        )

    def __sub__(self, other: Crossed) -> Crossed:
        return self + -1.0 * other

    def __add__(self, other: Crossed) -> Crossed:
        influences = dict(self.influences)
        for name, table in other.influences.items():
            influences[name] = influences[name] + table if name in influences else table
        return Crossed(self.values + other.values, influences)

    def __rmul__(self, factor: float) -> Crossed:
        scaled = {name: factor * table for name, table in self.influences.items()}
        return Crossed(factor * self.values, scaled)
