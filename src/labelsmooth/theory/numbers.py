"""Numbers and arithmetic of the closed forms."""

from __future__ import annotations

import math
from numbers import Real

from labelsmooth.errors import InputError, InputTypeError


def in_range(value: float, least: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputTypeError(f"{name} must be a number, got {type(value).__name__}")
    if not least <= value <= 1:
        raise InputError(f"{name} must lie in [{least:g}, 1], got {value}")
    return float(value)


def log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def times(weight: float, x: float) -> float:
    """weight·x, with 0·∞ = 0."""
    return weight * x if weight != 0 else 0.0


def ratio(x: float, y: float) -> float:
    """x/y, +∞ where y is not positive."""
    return x / y if y > 0 else math.inf
