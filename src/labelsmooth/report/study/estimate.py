"""Numbers of a report with what the seeds and the rows leave open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from labelsmooth.extras import needs_extra
from labelsmooth.measure.catalogue import QUANTITIES, Quantity
from labelsmooth.measure.crossed import Crossed, Variance
from labelsmooth.measure.format import show as show_quantity
from labelsmooth.measure.interval import Interval

LEVEL = 0.95  # of all intervals


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with the half-width of its t-interval; nan where nothing tells one."""

    mean: float
    half_width: float

    @property
    def within_noise(self) -> bool:
        """Whether 0 lies in the interval, or there is no interval to tell."""
        return not abs(self.mean) > self.half_width

    def __abs__(self) -> Estimate:
        return Estimate(mean=abs(self.mean), half_width=self.half_width)


def estimate(values: Crossed | Sequence[float], level: float = LEVEL) -> Estimate:
    """The mean with its interval over seeds and rows, or over seeds alone where only their values are given.

    It is the t-interval of the crossed variance with Satterthwaite's degrees of freedom (`measure.crossed`),
    of seeds alone the usual one. One seed leaves no interval.
    """
    crossed = values if isinstance(values, Crossed) else Crossed(np.asarray(values, dtype=np.float64))
    variance = crossed.variance
    return Estimate(
        mean=crossed.mean, half_width=math.nan if variance is None else half_width(variance, level)
    )


def half_width(variance: Variance, level: float = LEVEL) -> float:
    """The half-width of the t-interval of a mean of this variance."""
    return _quantile((1 + level) / 2, variance.degrees_of_freedom) * math.sqrt(variance.total)


def detectable(variance: Variance, level: float = LEVEL, power: float = 0.8) -> float:
    """The difference that a share `power` of such studies would find beyond noise."""
    freedom = variance.degrees_of_freedom
    return (_quantile((1 + level) / 2, freedom) + _quantile(power, freedom)) * math.sqrt(variance.total)


@cache
def _quantile(share: float, degrees_of_freedom: float) -> float:
    with needs_extra("study"):
        from scipy.stats import t

    return float(t.ppf(share, degrees_of_freedom))


def show(value: Estimate, quantity: Quantity | str, *, unit: bool = True) -> str:
    """An estimate of a quantity of the catalogue, or of its name; of a difference, its `difference`.

    An interval longer than the range of the quantity says nothing, and that range is written in its place.
    """
    if isinstance(quantity, str):
        quantity = QUANTITIES[quantity]
    low, high = quantity.bounds
    if value.half_width > high - low:
        return show_quantity(quantity, Interval(value=value.mean, low=low, high=high), unit=unit)
    return show_quantity(quantity, value.mean, value.half_width, unit=unit)
