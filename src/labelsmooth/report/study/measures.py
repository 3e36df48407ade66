"""The table of what is measured of the networks of a study beside their scores, in sections."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from labelsmooth.measure.catalogue import GROUP_TITLES, QUANTITIES, Quantity, quantities
from labelsmooth.report.study.arms import SCORES, Score
from labelsmooth.report.study.estimate import estimate, show
from labelsmooth.report.study.numbers import Networks
from labelsmooth.study import Study, Trial
from labelsmooth.study.tasks import find_task
from labelsmooth.tables import Table
from labelsmooth.theory import optimal_gap

_OF_ALL_ROWS = {"train": "training rows", "validation": "validation rows"}  # parts of the metrics
_SHOWN_OF_ALL = quantities("teacher", "layer")  # of these parts


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A row of the table."""

    section: str
    name: str
    values: tuple[str, ...]  # one for each objective
    quantity: Quantity | None = None  # None for what is derived and not measured


def measures(study: Study, scores: Mapping[str, Score]) -> tuple[Table, list[Quantity]]:
    """Tabulate what is measured of the networks and is no score of them.

    Args:
        study: finished.
        scores: that have a table of their own.

    Returns:
        The table, and what it holds, each once.
    """
    arms = [Networks(trials) for trials in study.arms().values()]
    by_section: dict[str, list[Measure]] = {}
    for measure in (*_fitted(study, arms), *_measured(study, arms, scores)):
        by_section.setdefault(measure.section, []).append(measure)
    rows = [measure for section in by_section.values() for measure in section]
    table = Table(
        head=("", *(objective.name for objective in study.recipe.objectives)),
        rows=[(measure.name, *measure.values) for measure in rows],
        sections={rows.index(section[0]): title for title, section in by_section.items()},
    )
    return table, list(dict.fromkeys(one.quantity for one in rows if one.quantity is not None))


def _fitted(study: Study, arms: Sequence[Networks]) -> Iterator[Measure]:
    section = GROUP_TITLES["repair"]
    if any("fitted.temperature" in networks for networks in arms):
        yield _measure(arms, "fitted.temperature", section)
    if any("fitted.pnorm" in networks for networks in arms):
        yield Measure(
            section=section,
            name="p of the p-norm, 0 for none",
            values=tuple(_shown_powers(networks.trials) for networks in arms),
            quantity=QUANTITIES["pnorm"],
        )
    gaps = [
        math.nan if objective.eps is None else optimal_gap(objective.eps, study.data.num_classes)
        for objective in study.recipe.objectives
    ]
    yield Measure(
        section="What the loss asks for",
        name="optimal logit gap (nats)",
        values=tuple(map(_shown_gap, gaps)),
    )


def _measured(study: Study, arms: Sequence[Networks], scores: Mapping[str, Score]) -> Iterator[Measure]:
    shown = [(part, quantity, rows, "") for part, rows in _OF_ALL_ROWS.items() for quantity in _SHOWN_OF_ALL]
    shown += [
        ("test", quantity, f"test rows: {GROUP_TITLES[quantity.group].lower()}", "")
        for quantity in QUANTITIES.values()
        if quantity.name not in SCORES
    ]
    for part, words in find_task(study.recipe.task).part_words(study.trials[0].metrics).items():
        section, _, suffix = words.partition(", ")
        shown += [(part, quantity, section, suffix) for quantity in QUANTITIES.values()]
    for part, quantity, section, suffix in shown:
        field = f"{part}.{quantity.name}"
        if quantity.unit != "count" and field not in scores and any(field in each for each in arms):
            yield _measure(arms, field, section[0].upper() + section[1:], suffix)


def _measure(arms: Sequence[Networks], field: str, section: str, suffix: str = "") -> Measure:
    quantity = QUANTITIES[field.rpartition(".")[2]]
    name = ", ".join(filter(None, (quantity.label, suffix)))
    return Measure(
        section=section,
        name=name + ("" if arms[0].get(field).influences else " †"),
        values=tuple(show(estimate(networks.get(field)), quantity.name, unit=False) for networks in arms),
        quantity=quantity,
    )


def _shown_powers(trials: Sequence[Trial]) -> str:
    """Each p with the number of networks that it was chosen for."""
    fitted = (trial.metrics.get("fitted", {}) for trial in trials)
    found = Counter(part["pnorm"] for part in fitted if "pnorm" in part)
    return ", ".join(f"{p} ({times}×)" for p, times in sorted(found.items()))


def _shown_gap(gap: float) -> str:
    return "–" if math.isnan(gap) else "∞" if math.isinf(gap) else f"{gap:.3g}"
