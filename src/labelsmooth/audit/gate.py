"""Bounds that the numbers of an audit must keep, as a gate for continuous integration."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from labelsmooth.audit.runner import Audit, Model
from labelsmooth.errors import InputError
from labelsmooth.measure.catalogue import QUANTITIES, quantities

# what is worth a bound, and measured of all predictions
BOUNDED = tuple(
    quantity.name
    for quantity in quantities("scores", "calibration", "selective")
    if quantity.better in ("low", "zero") and quantity.name != "classwise_ece"
)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The largest value that a number of all rows may have; the number itself counts, not its interval.

    Example:
        >>> Bound.parse("ece=0.05")
        Bound(name='ece', most=0.05)
    """

    name: str  # of the catalogue
    most: float  # in its unit; shares in 0..1

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Read METRIC=VALUE.

        Raises:
            InputError: the catalogue has no such number, more of it is better, or the value is none.
        """
        name, _, value = text.partition("=")
        if name not in QUANTITIES:
            near = difflib.get_close_matches(name.lower(), BOUNDED, n=1)
            meant = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(BOUNDED)}"
            raise InputError(f"max must name a number of metrics.json, got {name!r}, {meant}")
        if QUANTITIES[name].better == "high":
            raise InputError(f"max must name a number of which less is better, got {name}")
        try:
            most = float(value)
        except ValueError:
            most = math.nan
        if math.isnan(most):
            raise InputError(f"max must give {name} a number, as {name}=0.05 does, got {text!r}")
        return cls(name=name, most=most)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Whether a number of a model keeps its bound."""

    kept: bool
    sentence: str  # with the number, its interval and the bound, and what an ECE is by chance


def check_bounds(audit: Audit, bounds: Iterable[Bound]) -> list[Check]:
    """Hold the numbers of every model against their bounds.

    Raises:
        InputError: a model has no such number.
    """
    return [_check(model, bound) for bound in bounds for model in audit.models]


def _check(model: Model, bound: Bound) -> Check:
    numbers = model.evaluation.of_all_rows
    if bound.name not in numbers:
        raise InputError(f"max must name a number of all models, got {bound.name}, not in {model.name}")
    found = numbers[bound.name]
    interval = "" if math.isnan(found.low) else f" ({found.low:.4g} to {found.high:.4g})"
    kept = not found.value > bound.most
    sentence = (
        f"{bound.name} of {model.name} is {found.value:.4g}{interval}, "
        f"{'within' if kept else 'above'} the bound of {bound.most:g}"
    )
    if bound.name == "ece" and (chance := numbers.get("ece_by_chance")) is not None:
        rows = numbers["rows"].value
        sentence += f"; calibrated predictions of {rows:,} rows have {chance.value:.4g} by chance"
    return Check(kept=kept, sentence=f"{sentence}.")
