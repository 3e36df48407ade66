"""A number with what its rows leave open."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.arrays import Counts, Floats

# numbers drawn at a time: 2 MB, so that they stay in cache through all that is done with them
_SLICE = 2**18

# the most by which `shrinking_interval` lengthens gaps, and how finely it looks, in standard deviations
_LONGEST, _STEP = -3.0, 0.02


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured number and its confidence interval, low ≤ high."""

    value: float
    low: float
    high: float


def require_replicates(replicates: int, level: float) -> None:
    """Raise unless there are at least 100 replicates and `level` lies strictly between 0 and 1."""
    if isinstance(replicates, bool) or not isinstance(replicates, int):
        raise InputTypeError(f"replicates must be an int, got {type(replicates).__name__}")
    if replicates < 100:
        raise InputError(f"replicates must be at least 100, got {replicates}")
    require_level(level)


def require_level(level: float) -> None:
    """Raise unless `level` lies strictly between 0 and 1."""
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}")


def simultaneous_level(intervals: int, level: float = 0.95) -> float:
    """The level of each of several intervals for which all of them together hold at `level` (Bonferroni)."""
    return 1 - (1 - level) / max(intervals, 1)


def bootstrap_counts(
    rng: np.random.Generator,
    weight: Counts | Floats,  # (C,)
    rows: int,
    replicates: int,
) -> Iterator[Counts]:
    """Multinomial draws of how many of all rows fall into each of C cells, a slice of replicates at a time.

    Args:
        weight: in proportion to the probabilities of the cells, or how many rows each holds; leave out empty
            cells, as they cost as much.

    Returns:
        (R, C) arrays, of 2 MB or one replicate each, whose R sum to `replicates`.

    Cost: at most 0.25 µs a cell and replicate, so 0.5 s for 2,000 cells and 1,000 replicates; less where
        whole numbers of rows are given, and few to a cell.
    """
    cells = len(weight)
    at_a_time = max(1, _SLICE // cells)
    sizes = (min(at_a_time, replicates - start) for start in range(0, replicates, at_a_time))
    if not np.issubdtype(weight.dtype, np.integer) or rows > 8 * cells:
        yield from (rng.multinomial(rows, weight / weight.sum(), size=size) for size in sizes)
        return
    cell_of_row = np.repeat(np.arange(cells), weight.astype(np.int64))
    for size in sizes:  # the rows one after another
        drawn = cell_of_row[rng.integers(0, len(cell_of_row), (size, rows))]
        drawn += cells * np.arange(size)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=size * cells).reshape(size, -1)


def bootstrap_sums(
    rng: np.random.Generator,
    counts: Counts,  # (R, C)
    mean: Floats,  # (C,)
    variance: Floats,  # (C,)
) -> Floats:  # (R,)
    """Sums over all cells of what the drawn rows hold, each cell's rows having this mean and variance.

    A sum of n rows of a cell is n·mean + √n·sd·(a standard normal); these normals are independent, so one
    normal with the variance of all of them together does.
    """
    spread = np.sqrt(counts @ variance)
    sums: Floats = counts @ mean + spread * rng.standard_normal(len(counts))
    return sums


def percentile_interval(value: float, draws: Floats, level: float) -> Interval:
    """The middle `level` of bootstrap draws (R,), extended to the value where it lies outside."""
    if math.isnan(value):
        return Interval(value=value, low=value, high=value)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))


def share_interval(share: float, rows: float, level: float) -> Interval:
    """Wilson's interval of a share of independent rows (their effective number where they are weighted).

    A bootstrap says nothing of a share of 0 or 1, and too little near these.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2)
    low, high = float(middle - half), float(middle + half)
    return Interval(value=share, low=min(share, max(0.0, low)), high=max(share, min(1.0, high)))


def paired_shares_interval(only_a: int, only_b: int, rows: int, level: float) -> Interval:
    """Agresti and Min's interval of the difference of two shares of the same rows.

    Args:
        only_a, only_b: how many rows count for one share alone.
    """
    value, z = (only_a - only_b) / rows, NormalDist().inv_cdf((1 + level) / 2)
    # half a row more in each cell of the two-by-two table
    discordant, more = only_a + only_b + 1, rows + 2
    middle = (only_a - only_b) / more
    half = z * math.sqrt(discordant - (only_a - only_b) ** 2 / more) / more
    return Interval(value=value, low=min(middle - half, value), high=max(middle + half, value))


def shrinking_interval(
    value: float,
    gaps: Floats,  # (B,)
    noise: Floats,  # (R, B)
    error: Callable[[Any], Any],
    level: float,
    *,
    statistic: Callable[[Any], Any] | None = None,
) -> Interval:
    """An interval of a calibration error, a norm of B gaps, that knows how noise lengthens it.

    Noise adds to a norm of gaps and never cancels, so near perfect calibration a bootstrap of the error lies
    wholly above its true value. Here candidates of the true gaps come from the measured ones by shrinking
    each by τ of its standard deviations towards 0 (soft thresholding; τ < 0 lengthens them). A candidate is
    kept if the measured error is ordinary among the errors of candidate + noise, and the interval spans the
    errors of the candidates that are kept. It holds 0 where the measured error is what noise alone would
    give.

    "Ordinary" is tested at half the error 1 − level: the measured gaps, and so the path of candidates, are
    noisy themselves. With the whole of it, coverage falls to 88 % where all gaps are one or two standard
    deviations.

    Args:
        value: the measured error; the interval is extended to it where it lies outside.
        gaps: signed, in any unit.
        noise: draws of the measured minus the true gaps.
        error: the norm, of arrays (…, B) to (…), with values in 0..1.
        statistic: what is compared with its measured value, where something other than the error is cheaper
            and orders draws about the measured value as the error does.
    """
    noise = noise - noise.mean(0)
    deviation = noise.std(0)
    uncertain = deviation > 0
    if not uncertain.any():
        return Interval(value=value, low=value, high=value)
    compared = statistic or error
    measured = compared(gaps)
    tail = (1 - level) / 4

    def candidate(shrinkage: float) -> Floats:
        shrunk: Floats = np.sign(gaps) * np.maximum(np.abs(gaps) - shrinkage * deviation, 0)
        return shrunk

    def not_too_small(shrinkage: float) -> bool:
        return bool(np.quantile(compared(candidate(shrinkage) + noise), 1 - tail) >= measured)

    def not_too_large(shrinkage: float) -> bool:
        return bool(np.quantile(compared(candidate(shrinkage) + noise), tail) <= measured)

    zero = float((np.abs(gaps[uncertain]) / deviation[uncertain]).max())
    low = float(error(candidate(_last(not_too_small, _LONGEST, zero))))
    high = float(error(candidate(_last(not_too_large, zero, _LONGEST))))
    return Interval(value=value, low=min(low, value), high=max(min(high, 1.0), value))


def _last(holds: Callable[[float], bool], start: float, end: float) -> float:
    """Where between start and end a condition that holds at the start ceases to; the end if it never does."""
    if holds(end):
        return end
    while abs(end - start) > _STEP:
        middle = (start + end) / 2
        if holds(middle):
            start = middle
        else:
            end = middle
    return start
