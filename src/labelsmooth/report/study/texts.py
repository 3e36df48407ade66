"""Texts that the networks of a study made of the same rows, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.format import show
from labelsmooth.study import Study
from labelsmooth.study.tasks import find_task

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the score of the hard arm, at which rows are shown


@dataclass(frozen=True, kw_only=True)
class Example:
    """What the arms made of one row."""

    source: str  # "" where it is no text
    reference: str
    outputs: tuple[tuple[str, str, str], ...]  # arm, text, and its score as it is shown


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Some rows with the texts of all arms, of the first seed."""

    way: str  # in which they were made
    score: str  # by which rows were chosen, in words
    seed: int
    rows: int  # that they were chosen among
    examples: tuple[Example, ...]


def examples(study: Study) -> Examples | None:
    """Give the rows at fixed quantiles of the score that the hard arm's first seed has for its texts.

    Returns:
        None where the task makes no texts.
    """
    task = find_task(study.recipe.task)
    first = {arm: trials[0] for arm, trials in study.arms().items()}
    made = {arm: task.texts(study.data, trial.arrays) for arm, trial in first.items()}
    hard = made.get("hard")
    if hard is None:
        return None
    names = {str(objective): objective.name for objective in study.recipe.objectives}
    rising = np.argsort(hard.scores, kind="stable")
    chosen = dict.fromkeys(int(rising[round(share * (len(rising) - 1))]) for share in QUANTILES)
    return Examples(
        way=hard.way,
        score=QUANTITIES[hard.score].title,
        seed=first["hard"].config.seed,
        rows=len(rising),
        examples=tuple(
            Example(
                source=hard.sources[row] if hard.sources else "",
                reference=hard.references[row],
                outputs=tuple(
                    (names[arm], texts.outputs[row], show(hard.score, float(texts.scores[row])))
                    for arm, texts in made.items()
                    if texts is not None
                ),
            )
            for row in chosen
        ),
    )
