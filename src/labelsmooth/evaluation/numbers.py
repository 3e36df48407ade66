"""Numbers by their names in the catalogue, each with its interval where it has one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, TypeAlias, TypeVar

from labelsmooth.measure import Interval
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.protocol import Measure

Numbers: TypeAlias = Mapping[str, Interval]  # in the order of the catalogue; ends are nan without an interval

_T = TypeVar("_T")


def standard_measures(places: Iterable[str], *, num_classes: int, num_bins: int) -> tuple[Any, ...]:
    """Make the measures of the catalogue's `OF_PROBABILITIES` or `OF_LOGITS`."""
    named = (place.split(":") for place in places)
    classes = [getattr(import_module(f"labelsmooth.measure.{module}"), name) for module, name in named]
    return tuple(each.standard(num_classes=num_classes, num_bins=num_bins) for each in classes)


def find(measures: Iterable[object], kind: type[_T]) -> _T:
    """The measure of a kind."""
    return next(measure for measure in measures if isinstance(measure, kind))


def numbers_of(measures: Iterable[Measure], *, intervals: bool) -> Numbers:
    """The numbers of some measures.

    Args:
        measures: that have counted rows; no two of them with the same number.
        intervals: whether to compute the intervals too, which may take a second a measure.
    """
    found: dict[str, Interval] = {}
    for measure in measures:
        known = measure.intervals() if intervals else {}
        found |= {name: known.get(name, exactly(value)) for name, value in measure.values().items()}
    return ordered(found)


def ordered(numbers: Mapping[str, _T]) -> dict[str, _T]:
    """Sort numbers into the order of the catalogue."""
    return {name: numbers[name] for name in QUANTITIES if name in numbers}


def exactly(value: float) -> Interval:
    """A number that has no interval."""
    return Interval(value=value, low=math.nan, high=math.nan)
