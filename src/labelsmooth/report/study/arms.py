"""The arms of a study: ways to train and to predict, with their scores on the test rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from labelsmooth.measure.catalogue import QUANTITIES, Quantity
from labelsmooth.measure.crossed import Crossed
from labelsmooth.report.study.estimate import LEVEL, Estimate, estimate
from labelsmooth.report.study.numbers import Networks
from labelsmooth.study import Objective, Study
from labelsmooth.study.tasks import find_task

Repair = Literal["", "temperature", "p-norm"]  # after the training, fitted on the validation rows
SCORES = ("accuracy", "nll", "ece", "smece", "brier", "aurc", "over_confidence")  # of the rows of any task
_PARTS: Mapping[Repair, str] = {
    "": "test",
    "temperature": "test_with_temperature",
    "p-norm": "test_with_pnorm",
}  # of the metrics
_WITH_PNORM = {"accuracy": "test.accuracy", "aurc": "test_with_pnorm.aurc"}  # which says no probabilities


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """A column of the table of scores."""

    quantity: Quantity
    fields: Mapping[Repair, str]  # of the metrics; none where the repair leaves it unknown
    way: str = ""  # in which what is measured was made
    useful: tuple[float, float] = (-math.inf, math.inf)  # values of outputs of any use

    @property
    def repairs(self) -> list[Repair]:
        """What changes it, "" for nothing first: nothing fitted here changes which class is predicted."""
        return [repair for repair in self.fields if not repair or self.quantity.name != "accuracy"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """An arm: a way to train and to predict, with its test scores over the seeds."""

    objective: Objective
    repair: Repair
    scores: Mapping[str, Crossed]  # by the names of the scores; nan where the arm has none

    @property
    def name(self) -> str:
        """The objective, and what is on top of it."""
        return self.objective.name + (f" + {self.repair}" if self.repair else "")

    def estimate(self, metric: str) -> Estimate:
        """Mean and interval of a score."""
        return estimate(self.scores[metric])

    def difference(self, other: Arm, metric: str, level: float = LEVEL) -> Estimate:
        """This arm's score minus the other's, paired by seed and by row."""
        return estimate(self.scores[metric] - other.scores[metric], level)

    def beats(self, other: Arm, metric: str, level: float = LEVEL) -> bool:
        """Whether this arm is better by more than noise."""
        difference = self.difference(other, metric, level)
        better = sign(metric) * difference.mean < 0
        return better and not difference.within_noise


def sign(metric: str) -> int:
    """1 where low values of a score are good, −1 where high ones are."""
    return -1 if QUANTITIES[metric.rpartition(".")[2]].better == "high" else 1


def scores_of(study: Study) -> dict[str, Score]:
    """The scores that the networks of a study have, by name: the headlines of its task, then `SCORES`.

    The name of a headline is its field of the metrics.
    """
    task = find_task(study.recipe.task)
    arms = [Networks(trials) for trials in study.arms().values()]
    named = {
        headline.field: Score(
            quantity=headline.quantity,
            fields={
                "": headline.field,
                **({"temperature": headline.with_temperature} if headline.with_temperature else {}),
            },
            way=headline.way,
            useful=headline.useful,
        )
        for headline in task.headlines(study.trials[0].metrics)
    }
    for name in SCORES:
        fields = {
            repair: _WITH_PNORM.get(name, "") if repair == "p-norm" else f"{part}.{name}"
            for repair, part in _PARTS.items()
        }
        quantity = task.accuracy if name == "accuracy" else QUANTITIES[name]
        named[name] = Score(
            quantity=quantity, fields={repair: field for repair, field in fields.items() if field}
        )
    return {
        name: score
        for name, score in named.items()
        if any(field in networks for networks in arms for field in score.fields.values())
    }


def arms_of(study: Study, scores: Mapping[str, Score]) -> Iterator[Arm]:
    """Every objective, without and with each repair that its task has.

    Args:
        study: finished.
        scores: of `scores_of`.
    """
    for name, trials in study.arms().items():
        networks = Networks(trials)
        for repair in get_args(Repair):
            if any(f"{_PARTS[repair]}.{score}" in networks for score in SCORES):
                yield Arm(
                    objective=Objective.parse(name),
                    repair=repair,
                    scores={
                        metric: networks.get(score.fields.get(repair, "")) for metric, score in scores.items()
                    },
                )
