"""Bounds that the numbers of an audit must keep, as a gate for continuous integration."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from labelsmooth.audit.runner import Audit
from labelsmooth.errors import InputError
from labelsmooth.measure.catalogue import QUANTITIES


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The largest value that a number of all rows may have.

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
            near = difflib.get_close_matches(name, QUANTITIES, n=1)
            meant = f", did you mean {near[0]}?" if near else ", as ece=0.05 does"
            raise InputError(f"max must name a number of metrics.json, got {name!r}{meant}")
        if QUANTITIES[name].better == "high":
            raise InputError(f"max must name a number of which less is better, got {name}")
        try:
            most = float(value)
        except ValueError:
            most = math.nan
        if math.isnan(most):
            raise InputError(f"max must give {name} a number, as {name}=0.05 does, got {text!r}")
        return cls(name=name, most=most)


def exceeded(audit: Audit, bounds: Iterable[Bound]) -> list[str]:
    """The numbers above their bounds, a sentence for each model and number.

    Raises:
        InputError: a model has no such number.
    """
    sentences = []
    for bound in bounds:
        for model in audit.models:
            numbers = model.evaluation.of_all_rows
            if bound.name not in numbers:
                raise InputError(
                    f"max must name a number of all models, got {bound.name}, not in {model.name}"
                )
            found = numbers[bound.name]
            if found.value > bound.most:
                interval = "" if math.isnan(found.low) else f" ({found.low:.4g} to {found.high:.4g})"
                sentences.append(
                    f"{bound.name} of {model.name} is {found.value:.4g}{interval}, "
                    f"above the bound of {bound.most:g}."
                )
    return sentences
