"""Confidence intervals of selective prediction, by a bootstrap over the groups of equal confidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.measure.arrays import Counts, Floats
from labelsmooth.measure.confidence_table import Columns, counts_of
from labelsmooth.measure.interval import Interval, bootstrap_counts, percentile_interval
from labelsmooth.measure.selective_result import SelectiveResult, oracle_aurc
from labelsmooth.measure.shares import ROUNDING, at_most, ratio

# neighbouring groups are drawn as one beyond this number
_BOOTSTRAP_CELLS = 4096


def intervals(
    columns: Columns,  # from the highest confidence down
    result: SelectiveResult,
    replicates: int,
    level: float,
    seed: int,
    risks: Sequence[float],
    coverages: Sequence[float],
) -> dict[str, Interval]:
    """The intervals of `Selective.intervals`."""
    risk_by_name = {f"coverage_at_{100 * r:.10g}pct_risk": ratio(r, "risk") for r in risks}
    coverage_by_name = {f"risk_at_{100 * c:.10g}pct_coverage": ratio(c, "coverage") for c in coverages}
    value = {name: getattr(result, name) for name in ("accuracy", "aurc", "augrc", "excess_aurc")}
    value |= {name: result.coverage_at(r) for name, r in zip(risk_by_name, risks, strict=True)}
    value |= {name: result.risk_at(c) for name, c in zip(coverage_by_name, coverages, strict=True)}

    count, _ = counts_of(columns)
    if count.size > _BOOTSTRAP_CELLS:
        cell = (np.cumsum(count) - 1) * _BOOTSTRAP_CELLS // int(count.sum())
        first = np.flatnonzero(np.diff(cell, prepend=-1))
        columns = tuple(np.add.reduceat(column, first) for column in columns)
    weight, wrong = columns[:2]
    num_wrong = counts_of(columns)[1].sum(keepdims=True)
    drawn_as_one = _measured(weight[None], wrong[None], num_wrong, risk_by_name, coverage_by_name)
    parts = [
        _measured(*draw, risk_by_name, coverage_by_name)
        for draw in _drawn(np.random.default_rng(seed), columns, replicates)
    ]
    intervals = {}
    for name, at in value.items():
        draws = np.concatenate([part[name] for part in parts]) + (at - drawn_as_one[name])
        intervals[name] = percentile_interval(at, np.clip(draws, 0, 1), level)
    return intervals


def _drawn(
    rng: np.random.Generator, columns: Columns, replicates: int
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], Counts]]:
    """Bootstrap draws of what cells hold: weights and wrong weights (R, C), and numbers of errors (R,)."""
    count, wrong_count = counts_of(columns)
    rows = np.concatenate([count - wrong_count, wrong_count])
    mean, variance = np.ones(rows.size), np.zeros(rows.size)
    if len(columns) > 2:
        weight, wrong, _, _, square, wrong_square = columns
        filled = np.maximum(rows, 1)
        mean = np.concatenate([weight - wrong, wrong]) / filled
        variance = np.concatenate([square - wrong_square, wrong_square]) / filled - mean**2
    mixed = np.flatnonzero(variance > ROUNDING * mean**2)  # what holds rows of several weights
    scale = variance[mixed] / mean[mixed]
    for drawn in bootstrap_counts(rng, rows, int(count.sum()), replicates):
        num_wrong = drawn[:, count.size :].sum(1)
        sums: npt.NDArray[Any] = drawn
        if len(columns) > 2:
            sums = drawn * mean
            sums[:, mixed] = scale * rng.standard_gamma(sums[:, mixed] / scale)
        right, wrong = np.split(sums, 2, axis=1)
        yield right + wrong, wrong, num_wrong


def _measured(
    weight: npt.NDArray[Any],  # (R, C), of the rows in each cell, from the highest confidence down
    errors: npt.NDArray[Any],  # (R, C), of the wrong ones
    num_errors: Counts,  # (R,)
    risk_by_name: dict[str, tuple[int, int]],
    coverage_by_name: dict[str, tuple[int, int]],
) -> dict[str, Floats]:  # (R,) each
    """The measures of `intervals` for R sets of rows; a cell without rows is no threshold."""
    accepted, wrong = np.cumsum(weight, 1), np.cumsum(errors, 1)
    total, total_errors = accepted[:, -1], wrong[:, -1]
    risk = wrong / np.where(accepted > 0, accepted, 1)
    areas = np.einsum("rc,rc->r", weight, risk) / total
    # mean of a cell's ends, 2·E − errors, over 2·N²
    augrc = np.einsum("rc,rc->r", weight, 2.0 * wrong - errors) / (2.0 * total * total)
    measured = {
        "accuracy": 1 - total_errors / total,
        "aurc": areas,
        "augrc": augrc,
        "excess_aurc": areas - oracle_aurc(total, total_errors, num_errors),
    }
    for name, (num, den) in risk_by_name.items():
        within = at_most(wrong, den, accepted, num)
        measured[name] = np.max(np.where(within, accepted, 0), 1) / total
    for name, (num, den) in coverage_by_name.items():
        enough = at_most(total[:, None], num, accepted, den) & (accepted > 0)
        measured[name] = np.take_along_axis(risk, enough.argmax(1)[:, None], 1)[:, 0]
    return measured
