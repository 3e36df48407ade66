"""Paired differences of two models on the same rows, in memory that does not grow with the rows.

A number moves with its rows as number − true value ≈ mean φ_i, where φ_i is the influence of row i. The
interval of a difference is ± 1.96·sd(φ_i(a) − φ_i(b))/√N, narrower than those of a and b where these share
the luck of the rows. `measure.Comparison` does the same from rows held in memory; here the numbers themselves
are known from one pass, and a second one adds up the influences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from labelsmooth.audit.predictions import Batch
from labelsmooth.measure import CalibrationResult, SelectiveResult
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.rows import RowNumbers

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

NORMAL = NormalDist().inv_cdf(0.975)


class Mean:
    """The weighted mean of one number a row, and how far other rows could have moved it."""

    def __init__(self) -> None:
        self._weight = self._sum = 0.0
        self._second: Floats = np.zeros(3)  # Σ w²·(1, x, x²)

    def update(self, values: Floats, weights: Floats | float = 1.0) -> None:  # (n,)
        w = np.broadcast_to(weights, values.shape)
        self._weight += float(w.sum())
        self._sum += float((w * values).sum())
        self._second += [float((w * w * values**power).sum()) for power in range(3)]

    @property
    def value(self) -> float:
        return self._sum / self._weight if self._weight else math.nan

    def around(self, value: float) -> Interval:
        """The 95 % interval of a number that moves with its rows as this mean does."""
        mean = self.value
        if not (math.isfinite(mean) and math.isfinite(value)):
            return Interval(value=value, low=math.nan, high=math.nan)
        variance = float(self._second @ [mean * mean, -2 * mean, 1]) / self._weight**2
        half = NORMAL * math.sqrt(max(0.0, variance))
        return Interval(value=value, low=value - half, high=value + half)


class AurcInfluence:
    """The influence of rows on the AURC of a curve: R(c_i) + Σ_{j: c_j ≤ c_i} (error_i − R(c_j))/A(c_j).

    R(c) is the risk of the A(c) rows at or above the confidence c.
    """

    def __init__(self, curve: SelectiveResult) -> None:
        share = (np.diff(curve.accepted, prepend=0) / curve.accepted)[::-1]
        self._rising = curve.threshold[::-1].copy()
        self._risk = curve.risk[::-1].copy()
        self._accepted = np.cumsum(share)
        self._expected = np.cumsum(share * self._risk)

    def of(self, confidence: Floats, wrong: Bools) -> Floats:  # (n,)
        at = np.searchsorted(self._rising, confidence, "right") - 1
        at = np.maximum(at, 0)
        influence: Floats = self._risk[at] + wrong * self._accepted[at] - self._expected[at]
        return influence


class Influences:
    """The influences of rows on the numbers that were found of all of them."""

    def __init__(self, calibration: CalibrationResult, curve: SelectiveResult) -> None:
        bins = calibration.bins
        self._inner_edges = bins.edges[1:-1]
        self._over = np.sign(np.nan_to_num(bins.confidence - bins.accuracy))
        self._aurc = AurcInfluence(curve)

    def of(self, rows: RowNumbers) -> dict[str, Floats]:
        gap = rows.confidence - rows.correct
        bin_of_row = np.searchsorted(self._inner_edges, rows.confidence, "left")
        return {
            "accuracy": rows.correct.astype(np.float64),
            "nll": rows.nll,
            "brier": rows.brier,
            "mean_confidence": rows.confidence,
            "over_confidence": gap,
            "entropy": rows.entropy,
            "ece": self._over[bin_of_row] * gap,
            "aurc": self._aurc.of(rows.confidence, ~rows.correct),
        }


UNWEIGHTED = ("aurc",)


def side_by_side(one: Iterable[Batch], two: Iterable[Batch]) -> Iterator[tuple[Batch, Batch]]:
    """The same rows of both, whatever the sizes of their blocks."""
    others = iter(two)
    right: Batch | None = None
    for left in one:
        start = 0
        while start < len(left.labels):
            right = right if right is not None and len(right.labels) else next(others)
            size = min(len(left.labels) - start, len(right.labels))
            yield left.select(slice(start, start + size)), right.select(slice(0, size))
            start, right = start + size, right.select(slice(size, None))
