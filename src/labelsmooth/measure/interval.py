"""A number with what its rows leave open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured number and its confidence interval, low ≤ high."""

    value: float
    low: float
    high: float
