"""Shares as exact fractions, so that a share on a border falls on the side that it is on."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Counts

# how far rounding may put a sum of weights off, relatively
ROUNDING = 1e-9


def ratio(share: float, name: str) -> tuple[int, int]:
    """A share as the simple fraction that rounds to it, else as its decimal digits."""
    if not 0 <= share <= 1:
        raise InputError(f"{name} must lie in 0..1, got {share}")
    simple = Fraction(share).limit_denominator(10**6)
    return (simple if float(simple) == share else Fraction(repr(float(share)))).as_integer_ratio()


def at_most(
    left: npt.NDArray[Any], left_factor: int, right: npt.NDArray[Any], right_factor: int
) -> npt.NDArray[Any]:
    """Whether left·left_factor ≤ right·right_factor; sums of weights may be above by their rounding."""
    if np.issubdtype(left.dtype, np.integer):
        return np.asarray(_times(left, left_factor) <= _times(right, right_factor))
    return np.asarray(left * left_factor <= right * right_factor * (1 + ROUNDING))


def _times(counts: Counts, factor: int) -> npt.NDArray[Any]:
    """The product as integers, by Python's where 64 bits are too few."""
    if int(counts.max(initial=0)) * factor < 2**63:
        return counts * factor
    return counts.astype(object) * factor
