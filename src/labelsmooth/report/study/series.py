"""Numbers of the networks of a study along what they depend on: figures, differences and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from labelsmooth.measure.catalogue import QUANTITIES, Quantity
from labelsmooth.measure.crossed import Crossed
from labelsmooth.measure.interval import simultaneous_level
from labelsmooth.report.shared.figure import Cell, Figure, short, table
from labelsmooth.report.study.estimate import Estimate, estimate, show
from labelsmooth.study import Study, Trial
from labelsmooth.study.tasks import find_task
from labelsmooth.study.tasks.shown import Floats, Series
from labelsmooth.tables import Table

# the figures of them, by what they go along
AXES = {
    "temperatures": "temperature",
    "beams": "beams",
    "coverage": "coverage (%)",
    "positions": "place in the text",
    "frequencies": "times among the training tokens",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A number of the networks of one arm along something: of each seed, and its `Crossed` at each place."""

    arm: int  # its place in the recipe
    series: Sequence[Series]  # of the networks
    seeds: Sequence[int]

    @property
    def at(self) -> Floats:
        """What it goes along, (G,)."""
        return self.series[0].at

    @property
    def quantity(self) -> Quantity:
        """What the number is."""
        return QUANTITIES[self.series[0].quantity]

    @property
    def title(self) -> str:
        """Words for the number."""
        return self.series[0].title or self.quantity.label

    def __getitem__(self, place: int) -> Crossed:
        """The number at a place, of every seed and with the influence of every row."""
        rows = self.series[0].influences
        return Crossed(
            np.array([one.values[place] for one in self.series]),
            {name: np.stack([one.influences[name][place] for one in self.series]) for name in rows},
        )


def lines(study: Study) -> dict[str, list[list[Line]]]:
    """Give all series of a study by what they go along: for each number the lines of the arms."""
    found: dict[str, dict[int, list[Line]]] = {}
    for arm, trials in enumerate(study.arms().values()):
        of_trials = [_series(trial) for trial in trials]
        seeds = [trial.config.seed for trial in trials]
        for axis, first in of_trials[0].items():
            for place in range(len(first)):
                line = Line(arm=arm, series=[one[axis][place] for one in of_trials], seeds=seeds)
                found.setdefault(axis, {}).setdefault(place, []).append(line)
    return {axis: list(by_place.values()) for axis, by_place in found.items()}


def series_figures(found: Mapping[str, list[list[Line]]]) -> list[Figure]:
    """Make a figure of every axis, with a panel for each number."""
    return [_figure(axis, found[axis]) for axis in AXES if found.get(axis)]


def _figure(axis: str, panels: Sequence[Sequence[Line]]) -> Figure:
    everywhere = [line for panel in panels for line in panel]
    factor = 100 if axis == "coverage" else 1
    rows: list[tuple[Cell, ...]] = [
        (line.arm, seed, line.title, short(factor * at), short(value))
        for line in everywhere
        for seed, series in zip(line.seeds, line.series, strict=True)
        for at, value in zip(series.at, series.values, strict=True)
    ]
    estimates = [
        {
            "arm": line.arm,
            "series": line.title,
            "at": short(factor * at),
            "mean": short(found.mean),
            "half_width": short(found.half_width),
        }
        for line in everywhere
        for place, at in enumerate(line.at)
        for found in [estimate(line[place])]
    ]
    first = everywhere[0].series[0]
    return Figure(
        name=axis,
        columns=table(("arm", "seed", "series", "at", "value"), rows),
        constants={
            "axis": AXES[axis],
            "within": [0, 100] if axis == "coverage" else None,
            "ticks": [
                [short(at), words] for at, words in zip(first.at, first.words, strict=bool(first.words))
            ],
            "panels": [
                {
                    "title": panel[0].title,
                    "label": panel[0].quantity.label,
                    "unit": panel[0].quantity.unit,
                    "bounds": [short(bound) for bound in panel[0].quantity.bounds],
                }
                for panel in panels
            ],
            "estimates": estimates,
        },
    )


def differences_by_beams(study: Study, found: Mapping[str, list[list[Line]]]) -> Table | None:
    """Tabulate the scores of each arm minus those of hard labels, by the number of beams.

    Differences are paired by seed and by sentence. None where there is nothing to compare.
    """
    panels = [panel for panel in found.get("beams", []) if len(panel) > 1]
    if not panels:
        return None
    objectives = study.recipe.objectives
    hard = [str(objective) for objective in objectives].index("hard")
    lines = [{line.arm: line for line in panel} for panel in panels]
    rows: list[list[str]] = []
    sections: dict[int, str] = {}
    for arm in (arm for arm in lines[0] if arm != hard):
        sections[len(rows)] = objectives[arm].name
        for place, words in enumerate(lines[0][hard].series[0].words):
            apart = [(estimate(one[arm][place] - one[hard][place]), one[arm].quantity) for one in lines]
            rows.append([words, *(_shown_difference(value, quantity) for value, quantity in apart)])
    return Table(head=("beams", *(panel[0].title for panel in panels)), rows=rows, sections=sections)


def _shown_difference(apart: Estimate, quantity: Quantity) -> str:
    return show(apart, quantity.difference, unit=False) + ("" if apart.within_noise else " *")


def temperature_words(study: Study, found: Mapping[str, list[list[Line]]]) -> tuple[str, ...]:
    """Say of each arm whether the temperature that is best for the NLL is best for the score of texts too.

    They are compared at the temperatures at which both are known, and the differences have intervals at the
    level at which all others from the best hold together (Bonferroni), since the best was picked among them.
    """
    panels = {panel[0].series[0].quantity: panel for panel in found.get("temperatures", [])}
    names = [objective.name for objective in study.recipe.objectives]
    return tuple(
        f"{names[nll.arm]}: {_best_temperatures(nll, score)}"
        for quantity, lines_of_score in panels.items()
        if quantity not in ("nll", "ece")
        for nll, score in zip(panels["nll"], lines_of_score, strict=True)
    )


def _best_temperatures(nll: Line, score: Line) -> str:
    label = score.quantity.label
    places = {
        round(float(at), 6): (int(np.flatnonzero(np.isclose(nll.at, at))[0]), place)
        for place, at in enumerate(score.at)
        if np.isclose(nll.at, at).any()
    }
    if len(places) < 2:
        return f"{label} is known at too few temperatures to compare it with the NLL."
    rises = score.quantity.better == "high"
    sign, end, change = (1, "highest", "higher") if rises else (-1, "lowest", "lower")
    by_nll = min(places, key=lambda at: nll[places[at][0]].mean)
    by_score = max(places, key=lambda at: (sign * score[places[at][1]].mean, at == by_nll))
    if by_nll == by_score:
        return f"NLL and {label} are both best at T = {by_nll:g}."
    level = simultaneous_level(len(places) - 1)
    (nll_low, score_then), (nll_then, score_best) = places[by_nll], places[by_score]
    better, worse = (score_best, score_then) if sign > 0 else (score_then, score_best)
    gain = estimate(score[better] - score[worse], level)
    loss = estimate(nll[nll_then] - nll[nll_low], level)
    apart = (show(gain, score.quantity.difference), show(loss, nll.quantity.difference))
    ends = (
        f"the NLL is lowest at T = {by_nll:g} and {label} is {end} at T = {by_score:g}, where {label} is "
        f"{change} by {apart[0]} and the NLL higher by {apart[1]}"
    )
    if np.isnan(gain.half_width):
        return f"{ends}; one seed leaves no interval, and cannot tell whether they differ."
    if gain.within_noise or loss.within_noise:
        return f"{ends}; that is within noise, and the study cannot tell whether they differ."
    return f"{ends}, beyond noise: the temperature that is best for the NLL is not the best for {label}."


# figures, tables and words of one page ask for the same series
_KNOWN: WeakKeyDictionary[Trial, Mapping[str, Sequence[Series]]] = WeakKeyDictionary()


def _series(trial: Trial) -> Mapping[str, Sequence[Series]]:
    if trial not in _KNOWN:
        _KNOWN[trial] = find_task(trial.config.task).series(trial.arrays)
    return _KNOWN[trial]
