"""Confidence intervals of calibration, by a bootstrap over the cells that its rows are counted in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from labelsmooth.measure.arrays import Counts, Floats
from labelsmooth.measure.bins import ReliabilityBins, equal_mass
from labelsmooth.measure.calibration_result import CalibrationResult
from labelsmooth.measure.interval import (
    Interval,
    bootstrap_counts,
    bootstrap_sums,
    percentile_interval,
    share_interval,
    shrinking_interval,
)
from labelsmooth.measure.smooth import smooth_ece_interval
from labelsmooth.measure.table import NLL, WW, CellTable, W, interval_of, joined

# The bootstrap joins cells to equal intervals, of this number for means and for the smooth calibration
# error, which needs fewer replicates too, as each takes a few Fourier transforms.
_COARSE = 64
_FIELD, _FIELD_REPLICATES = 512, 250


def intervals(
    table: CellTable, result: CalibrationResult, num_bins: int, replicates: int, level: float, seed: int
) -> dict[str, Interval]:
    """The intervals of `Calibration.intervals`."""
    rng = np.random.default_rng(seed)
    means = _draw_means(table, rng, replicates)
    intervals: dict[str, Interval] = {}
    effective = table.sums[W].sum() ** 2 / table.sums[WW].sum()
    shares = {"accuracy": result.accuracy} | {f"top_{k}_accuracy": share for k, share in result.top_k.items()}
    for name, value in shares.items():
        intervals[name] = share_interval(value, effective, level)
    for name in ("nll", "brier", "mean_confidence", "over_confidence", "entropy"):
        value = getattr(result, name)
        intervals[name] = (
            percentile_interval(value, means[name], level)
            if math.isfinite(value)
            else Interval(value=value, low=value, high=value)
        )
    gaps, noise, share = _draw_gaps(table, rng, replicates, table.layout.bin_of_cell, result.bins)

    def ece(gap: Floats) -> Any:
        return np.abs(gap).sum(-1)

    def l2(gap: Floats) -> Any:
        return np.sqrt((np.square(gap) / share).sum(-1))

    def largest(gap: Floats) -> Any:
        return (np.abs(gap) / share).max(-1)

    intervals["ece"] = shrinking_interval(result.ece, gaps, noise, ece, level)
    if result.ece_ratio is not None:
        ends = {end: getattr(intervals["ece"], end) / result.ece_by_chance for end in ("low", "high")}
        intervals["ece_ratio"] = Interval(value=result.ece_ratio, **ends)
    intervals["ece_l2"] = shrinking_interval(result.ece_l2, gaps, noise, l2, level)
    intervals["mce"] = shrinking_interval(result.mce, gaps, noise, largest, level)
    l2_interval, value = intervals["ece_l2"], result.debiased_l2
    low, high = min(value, l2_interval.low), max(value, l2_interval.high)
    intervals["debiased_l2"] = Interval(value=value, low=low, high=high)
    mass_of_cell, _ = equal_mass(table, num_bins)
    gaps, noise, _ = _draw_gaps(table, rng, replicates, mass_of_cell, result.equal_mass_bins)
    intervals["ece_equal_mass"] = shrinking_interval(result.ece_equal_mass, gaps, noise, ece, level)
    intervals["smece"] = smooth_ece_interval(result.smece, *_draw_fields(table, rng), level)
    return intervals


def _draw_means(table: CellTable, rng: np.random.Generator, replicates: int) -> dict[str, Floats]:
    n, right, w, ww, confidence, *scores = _per_row(table, _COARSE)
    gap = confidence - right * w
    # means over the rows of a cell of w·x and (w·x)²
    totals = {
        "mean_confidence": (confidence, ww * np.square(confidence / w)),
        "over_confidence": (gap, ww * np.square(gap / w)),
        "nll": (scores[0], scores[1]),
        "brier": (scores[2], scores[3]),
        "entropy": (scores[4], scores[5]),
    }
    draws: dict[str, list[Floats]] = {name: [] for name in totals}
    for drawn in bootstrap_counts(rng, n, int(n.sum()), replicates):
        for name, (wx, wx_sq) in totals.items():
            # of w·(x − mean), so that weights alone, which a mean is divided by, add no noise
            mean = (n @ wx) / (n @ w)
            centred = wx - mean * w
            variance = wx_sq - 2 * mean * ww * wx / w + mean**2 * ww - centred**2
            sums = bootstrap_sums(rng, drawn, centred, np.maximum(variance, 0))
            draws[name].append(mean + sums / (drawn @ w))
    return {name: np.concatenate(parts) for name, parts in draws.items()}


def _draw_fields(table: CellTable, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Residuals' shares of the weight in equal intervals (M,), and draws of them (R, M)."""
    interval_of_cell = interval_of(table.layout.cells.middles, _FIELD)
    residual = table.confidence - np.array([[0.0], [1.0]]) * table.sums[W]
    total = table.sums[W].sum()
    n = joined(table.counts, interval_of_cell, _FIELD).reshape(-1)
    sums = joined(residual, interval_of_cell, _FIELD)
    filled = n > 0
    place = np.flatnonzero(filled) % _FIELD
    mean = sums.reshape(-1)[filled] / n[filled]
    draws = np.zeros((_FIELD_REPLICATES, _FIELD))
    start = 0
    for drawn in bootstrap_counts(rng, n[filled], int(n.sum()), _FIELD_REPLICATES):
        np.add.at(draws.T[:, start : start + len(drawn)], place, (drawn * mean).T)
        start += len(drawn)
    return sums.sum(0) / total, draws / total


def _per_row(table: CellTable, intervals: int) -> list[Floats]:
    """Numbers of cells joined to equal intervals, right and wrong rows apart, where there are rows (G,):
    how many, whether right, and the means over them of w, w², w·c, and all from w·nll on.
    """
    interval_of_cell = interval_of(table.layout.cells.middles, intervals)
    n = joined(table.counts, interval_of_cell, intervals).reshape(-1)
    filled = n > 0
    right = np.arange(2 * intervals)[filled] >= intervals
    sums = [table.sums[W], table.sums[WW], table.confidence, *table.sums[NLL:]]
    means = [joined(total, interval_of_cell, intervals).reshape(-1)[filled] / n[filled] for total in sums]
    return [n[filled], right, *means]


def _draw_gaps(
    table: CellTable,
    rng: np.random.Generator,
    replicates: int,
    bin_of_cell: Counts,
    bins: ReliabilityBins,
) -> tuple[Floats, Floats, Floats]:
    """Gaps of the bins that have rows, share·(confidence − accuracy) (B,), draws (R, B), and shares (B,).

    Each bin gets one more row, right with the probability that its confidence says: where all its rows
    were right, or all wrong, drawing from them alone would leave no doubt.
    """
    filled = bins.count > 0
    num = len(filled)
    n = joined(table.counts, bin_of_cell, num)[:, filled]  # (2, B)
    total = table.sums[W].sum()
    confidence, share = bins.confidence[filled], bins.share[filled]
    outcome = np.array([[0.0], [1.0]])
    residual = joined(table.confidence - outcome * table.sums[W], bin_of_cell, num)[:, filled]
    square = joined(table.sums[WW] * np.square(table.layout.cells.middles - outcome), bin_of_cell, num)[
        :, filled
    ]
    weight = share * total / n.sum(0)  # mean weight of a row of the bin
    extra = np.where(outcome == 1, confidence, 1 - confidence)  # (2, B)
    extra = np.clip(extra, 0, 1)
    mean = (residual + extra * weight * (confidence - outcome)) / (n + extra + (n + extra == 0))
    square = (square + extra * np.square(weight * (confidence - outcome))) / (n + extra + (n + extra == 0))
    variance = np.maximum(square - mean**2, 0)
    draws = []
    for drawn in bootstrap_counts(rng, (n + extra).reshape(-1), int(table.counts.sum()), replicates):
        each = drawn.reshape(-1, 2, n.shape[1])
        noise = np.sqrt(each * variance) * rng.standard_normal(each.shape)
        draws.append((each * mean + noise).sum(1) / total)
    return residual.sum(0) / total, np.concatenate(draws), share
