"""The standard error of a number from the influence of each row on it.

A number moves with its rows as number − true value ≈ mean φ_i, with φ_i the influence of row i, and has the
standard error sd(φ_i)/√N. All influences here are such that their mean is the number itself. They need to
know the numbers of all rows, so that rows that do not fit into memory are gone through twice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.measure.arrays import IN_CACHE, Bools, Counts, Floats, pieces
from labelsmooth.measure.interval import Interval, paired_shares_interval
from labelsmooth.measure.rows import RowNumbers
from labelsmooth.measure.selective import Selective
from labelsmooth.measure.selective_result import SelectiveResult

NUM_BINS = 15  # of the calibration errors that two models are compared by
_EDGES: Floats = np.linspace(0, 1, NUM_BINS + 1)


class Mean:
    """The weighted mean of one number a row, from batches, and how far other rows could have moved it."""

    def __init__(self) -> None:
        self._pivot = 0.0  # near the mean, so that squares keep their digits
        self._sums: Floats = np.zeros(5)  # Σ w, w·x, w², w²·x, w²·x² with the distance x from the pivot

    def update(
        self,
        values: Floats,  # (n,)
        weights: Floats | None = None,  # (n,)
    ) -> None:
        """Count rows; those of weight 0 do not count, whatever their value."""
        if weights is not None:
            values, weights = values[weights > 0], weights[weights > 0]
        if values.size == 0:
            return
        w = np.ones_like(values) if weights is None else weights
        with np.errstate(invalid="ignore", over="ignore"):  # inf − inf, and squares of huge numbers
            if self._sums[0] == 0:
                mean = float((w @ values) / w.sum())
                self._pivot = mean if math.isfinite(mean) else 0.0
            x = values - self._pivot
            self._sums += [w.sum(), w @ x, w @ w, w @ (w * x), w @ (w * x * x)]

    def interval(self, level: float = 0.95) -> Interval:
        """The mean with its interval; where it is not finite, so are the ends, and nan without rows."""
        if self._sums[0] == 0:
            return Interval(value=math.nan, low=math.nan, high=math.nan)
        weight, first, *second = self._sums.tolist()
        mean = first / weight
        value = self._pivot + mean
        if not math.isfinite(value):
            return Interval(value=value, low=value, high=value)
        variance = (second[2] - 2 * mean * second[1] + mean * mean * second[0]) / weight**2
        half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(max(variance, 0.0))  # nan stays nan
        return Interval(value=value, low=value - half, high=value + half)


class AurcInfluence:
    """The influence of rows on the AURC of a curve.

    φ_i = R(c_i) + Σ_{j: c_j ≤ c_i} (error_i − R(c_j))/A(c_j), with the risk R(c) of the A(c) rows at or above
    the confidence c, both of weight where rows have weights.
    """

    def __init__(self, curve: SelectiveResult) -> None:
        share = (np.diff(curve.accepted, prepend=0) / curve.accepted)[::-1]
        self._rising = curve.threshold[::-1].copy()
        self._risk = curve.risk[::-1].copy()
        # over the thresholds at or below each: a row is one of those accepted there
        self._accepted = np.cumsum(share)
        self._expected = np.cumsum(share * self._risk)

    def of(self, confidence: Floats, correct: Bools) -> Floats:  # (n,)
        at = np.searchsorted(self._rising, confidence, "right") - 1
        influence: Floats = self._risk[at] + ~correct * self._accepted[at] - self._expected[at]
        return influence


def log_temperature_influence(
    logits: npt.NDArray[np.floating[Any]],  # (N, K) that it was fitted on; −inf is a class that a row lacks
    labels: npt.NDArray[np.int64],  # (N,)
    temperature: float,
) -> Floats:
    """The influence of each row on the logarithm of a fitted temperature, of mean 0.

    At the T of the lowest mean NLL, with p = softmax(z/T), φ_i = −T·(z_y − Σ p·z)/mean Var_p(z).
    """
    columns = []
    for piece, label in pieces(torch.from_numpy(logits), torch.from_numpy(labels), numbers=IN_CACHE):
        z, y = piece.numpy(), label.numpy()
        shifted = z - z.max(-1, keepdims=True)
        p = np.exp(shifted / temperature)
        p /= p.sum(-1, keepdims=True)
        of_label = np.take_along_axis(shifted, y[:, None], -1)[:, 0]
        shifted[p == 0] = 0
        mean = (p * shifted).sum(-1)
        variance = (p * np.square(shifted)).sum(-1) - np.square(mean)
        columns.append((of_label - mean, variance))
    excess, variance = np.concatenate(columns, axis=-1)
    influence: Floats = -temperature * (excess - excess.mean()) / variance.mean()
    return influence


class Influences:
    """The influences of rows on the numbers that all of them have, those of `Comparison`.

    Args:
        edges: (B + 1,), of bins (lo, hi] of confidence.
        over: (B,), the sign of Σ confidence − correct over the rows of each.
        curve: of all rows.
    """

    def __init__(self, edges: Floats, over: Floats, curve: SelectiveResult) -> None:
        self._inner_edges = edges[1:-1]
        self._over = over
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
            "aurc": self._aurc.of(rows.confidence, rows.correct),
        }


class PairedDifferences:
    """The differences a − b of two sets of predictions on the same rows, from batches.

    Without weights, the accuracies' difference has Agresti and Min's interval.
    """

    def __init__(self, influences_of_a: Influences, influences_of_b: Influences) -> None:
        self._influences_of_a, self._influences_of_b = influences_of_a, influences_of_b
        self._means: defaultdict[str, Mean] = defaultdict(Mean)
        self._rows = self._only_a = self._only_b = 0  # rows, and those that only one has right
        self._weighted = False

    def update(self, a: RowNumbers, b: RowNumbers, weights: Floats | None = None) -> None:
        """Count rows of both."""
        second = self._influences_of_b.of(b)
        for name, first in self._influences_of_a.of(a).items():
            with np.errstate(invalid="ignore"):  # inf − inf where both give the label the probability 0
                difference = first - second[name]
            self._means[name].update(difference, weights)
        self._rows += len(a)
        self._only_a += int((a.correct & ~b.correct).sum())
        self._only_b += int((b.correct & ~a.correct).sum())
        self._weighted |= weights is not None

    def intervals(self, level: float = 0.95) -> dict[str, Interval]:
        """Each difference with its interval."""
        intervals = {name: mean.interval(level) for name, mean in self._means.items()}
        if not self._weighted:
            intervals["accuracy"] = paired_shares_interval(self._only_a, self._only_b, self._rows, level)
        return intervals


def influences(rows: RowNumbers) -> Influences:
    """A reckoner of the influence of each of these rows on the numbers that all of them have."""
    totals = np.bincount(_bins(rows), rows.confidence - rows.correct, NUM_BINS)
    selective = Selective(len(rows))  # each confidence by itself
    selective.update_scores(rows.confidence, rows.correct)
    return Influences(_EDGES, np.sign(totals), selective.compute())


def ece_l2_influence(rows: RowNumbers) -> Floats:
    """The influence of each row on the root-mean-square calibration error, which is their mean.

    Its square is Σ_b g_b²/n_b/N of the sums g_b of confidence − correct over the n_b rows of each bin, which
    a row of the bin moves by 2·(g_b/n_b)·(confidence − correct) − (g_b/n_b)².
    """
    gap, bin_of_row = rows.confidence - rows.correct, _bins(rows)
    of_bin = np.bincount(bin_of_row, gap, NUM_BINS) / np.bincount(bin_of_row, minlength=NUM_BINS).clip(1)
    mean_gap = of_bin[bin_of_row]
    square: Floats = 2 * mean_gap * gap - np.square(mean_gap)
    error = math.sqrt(max(0.0, square.mean()))
    return error + (square - square.mean()) / (2 * error) if error else np.zeros_like(square)


def _bins(rows: RowNumbers) -> Counts:
    """The bin of each row's confidence."""
    return np.searchsorted(_EDGES[1:-1], rows.confidence, "left")
