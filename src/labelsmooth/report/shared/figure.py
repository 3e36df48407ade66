"""The numbers of a page's figures: one table each, which figures.js draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from labelsmooth.measure import PlaneProjection
from labelsmooth.measure.protocol import Table

Cell: TypeAlias = str | int | float | None

# points of a risk–coverage curve, and rows of a class in a plane: more could not be told apart
_POINTS, _ROWS = 160, 150


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure: its table of numbers, and constants that are drawn beside them.

    Of the column "arm" the values are places among the names of the section, of "seed" seeds.
    """

    name: str  # of the function in figures.js that draws it
    columns: Mapping[str, Sequence[Cell]]  # all of one length
    constants: Mapping[str, Any] = field(default_factory=dict)


def section(
    name: str,
    noun: str,
    arms: Sequence[str],
    figures: Sequence[Figure],
    *,
    shown: Sequence[int],
    seeds: Sequence[int] = (),
    nothing: str = "",
) -> dict[str, Any]:
    """Gather what the page's script reads of a section of the page.

    Args:
        name: of the section, for the names of files.
        noun: what an arm is, in the singular.
        arms: their names.
        figures: of all arms.
        shown: places of the arms that are shown at first.
        seeds: that can be chosen; none where there is no choice.
        nothing: what is said where a figure has no rows of the chosen arms.
    """
    return {
        "noun": noun,
        "arms": list(arms),
        "seeds": list(seeds),
        "shown": list(shown),
        "nothing": nothing,
        "file": re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "figures",
        "figures": {
            figure.name: {
                "columns": {column: _packed(values) for column, values in figure.columns.items()},
                "constants": figure.constants,
            }
            for figure in figures
        },
    }


def table(names: Sequence[str], rows: Iterable[Sequence[Cell]]) -> dict[str, list[Cell]]:
    """The columns of a table by their names."""
    columns: dict[str, list[Cell]] = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            columns[name].append(value)
    return columns


def short(value: float, digits: int = 7) -> float | None:
    """Round to as many digits as a figure can use; what is not finite is left empty."""
    value = float(value)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def plane_rows(projection: PlaneProjection) -> list[tuple[str, int, float | None, float | None]]:
    """The kind, class and place of everything in a plane: rows, templates and borders of classes."""
    kept = [
        at
        for label in projection.classes
        for at in (projection.labels == label).nonzero()[0][:_ROWS].tolist()
    ]
    kinds = (
        ("row", projection.labels[kept], projection.points[kept]),
        ("template", projection.classes, projection.templates),
        ("border", projection.classes, projection.borders),
    )
    return [
        (kind, int(label), short(x, 4), short(y, 4))
        for kind, labels, points in kinds
        for label, (x, y) in zip(labels, points, strict=True)
    ]


def bin_rows(bins: Table) -> list[tuple[Cell, ...]]:
    """The ends, rows, confidence and accuracy of every bin of confidence that holds rows."""
    return [
        (
            short(bins["low"][at]),
            short(bins["high"][at]),
            int(bins["count"][at]),
            short(bins["confidence"][at]),
            short(bins["accuracy"][at]),
        )
        for at in np.flatnonzero(bins["count"])
    ]


def curve_rows(curve: Table) -> list[tuple[Cell, ...]]:
    """The coverage and the risk of points along a risk–coverage curve."""
    last = len(curve["risk"]) - 1
    return [
        (short(curve["coverage"][at]), short(curve["risk"][at]))
        for at in np.unique(np.linspace(0, last, _POINTS).round().astype(int))
    ]


def _packed(values: Sequence[Cell]) -> Any:
    """A column; one of words as the different words and the place of each."""
    if not values or not isinstance(values[0], str):
        return list(values)
    words = list(dict.fromkeys(values))
    places = {word: place for place, word in enumerate(words)}
    return {"words": words, "at": [places[value] for value in values]}
