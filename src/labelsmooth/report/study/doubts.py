"""What leaves the networks of a study without a verdict: outputs of no use, and training cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from labelsmooth.measure.format import show
from labelsmooth.report.shared.words import listed
from labelsmooth.report.study.arms import Arm, Score
from labelsmooth.study import Study

_FALLING = 0.01  # nats that the validation NLL of a finished training may have fallen in its last epoch


def falling(study: Study) -> dict[str, float]:
    """Give the fall of the validation NLL in the last epoch (nats), of the arms that should train longer.

    These are the arms whose NLL, a mean over seeds, is lowest after the last epoch, and fell by more than
    0.01 nats in it: a hundredth of the probability of a row.
    """
    names = {str(objective): objective.name for objective in study.recipe.objectives}
    found = {}
    for arm, trials in study.arms().items():
        nll = np.mean([trial.curves.validation_nll for trial in trials], axis=0)
        if len(nll) > 1 and (fall := float(nll[:-1].min() - nll[-1])) > _FALLING:
            found[names[arm]] = fall
    return found


def falling_words(found: Mapping[str, float], epochs: int) -> list[str]:
    """Say that some arms should train longer, and how.

    Args:
        found: of `falling`.
        epochs: that they trained.
    """
    if not found:
        return []
    falls = listed([show("nll", fall) for fall in found.values()])
    return [
        f"The validation NLL of {listed(list(found))} was still falling in the last epoch, by {falls}: train "
        f"longer, for more than {epochs} epochs."
    ]


def nothing_learned(found: Mapping[str, float]) -> str:
    """Say that no network learned anything, and what can be done.

    Args:
        found: of `falling`.
    """
    return (
        "Nothing was learned: no arm is better than a constant guess, in test NLL or in accuracy, by more "
        f"than noise. These numbers recommend no way to train. {_remedy(found)}"
    )


def nothing_useful(arms: Sequence[Arm], scores: Mapping[str, Score], found: Mapping[str, float]) -> str:
    """Say that what the networks of all arms decode is of no use, why, and what can be done.

    It is of no use where a headline of the task is outside its useful range.

    Args:
        arms: of the study.
        scores: that they have.
        found: of `falling`.

    Returns:
        "" where what some arm decodes is of use.
    """
    reasons = {arm.name: _reasons(arm, scores) for arm in arms if not arm.repair}
    if not all(reasons.values()):
        return ""
    name, why = next(iter(reasons.items()))
    return (
        f"What these networks decode is of no use: for {name}, {listed(why)}. These numbers recommend no way "
        f"to train. {_remedy(found)}"
    )


def _remedy(found: Mapping[str, float]) -> str:
    if found:
        return "Train longer: the validation NLL was still falling."
    return "Train for more steps, on more data, or with another learning rate."


def _reasons(arm: Arm, scores: Mapping[str, Score]) -> list[str]:
    """Name the headlines that are outside their useful range."""
    reasons = []
    for name, score in scores.items():
        value, (low, high) = arm.scores[name].mean, score.useful
        said = f"{score.quantity.title} is {show(score.quantity, value)}"
        if value < low:
            reasons.append(f"{said}, below {low:g}")
        elif value >= high:
            reasons.append(f"{said}, not below {high:g}")
    return reasons
