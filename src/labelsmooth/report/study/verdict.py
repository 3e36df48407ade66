"""What a study says in numbers and words: arms, their intervals, and which arm to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.measure.catalogue import Quantity
from labelsmooth.measure.crossed import Crossed
from labelsmooth.measure.interval import simultaneous_level
from labelsmooth.report.study.arms import Arm, Repair, Score, arms_of, scores_of, sign
from labelsmooth.report.study.doubts import falling, falling_words, nothing_learned, nothing_useful
from labelsmooth.report.study.sentences import (
    MIN_SEEDS,
    headline,
    pairs_of,
    score_sentences,
    what_would_settle,
)
from labelsmooth.study import Objective, Study, Trial
from labelsmooth.study.tasks import find_task


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The arms of a study and what they say about label smoothing on its data."""

    arms: tuple[Arm, ...]  # every objective, each without and with a temperature and a p-norm, if there are
    scores: Mapping[str, Score]  # that the arms have, by name, in the order of the table
    compared: tuple[Arm, ...]  # those the words are about: hard and the chosen one, with no p-norm
    chosen: Objective | None  # of those that are not hard, by the validation rows; None without any
    candidates: int  # how many that one was chosen among
    recommended: Arm | None  # None where the study cannot tell
    headline: str
    sentences: tuple[str, ...]

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """What an arm has on top, "" for nothing first."""
        return tuple(dict.fromkeys(arm.repair for arm in self.arms))


def verdict(study: Study) -> Verdict:
    """Compare the arms of a finished study by their test scores.

    Beside hard labels stands the objective with the lowest validation NLL at its fitted temperature or
    without, whichever is lower, so that the test rows do not choose it. `recommend` says what follows;
    nothing does where no arm is better than a constant guess, or what all of them decode is of no use.

    Args:
        study: with every trial of its plan complete.

    Returns:
        Arms, estimates and sentences.

    Raises:
        ValueError: trials are missing.

    Cost: reads the logits of every trial; about 0.1 s for each that has 10,000 test rows.
    """
    missing = len(study.plan) - len(study.trials)
    if missing:
        raise InputError(f"the study in {study.folder} is not finished: {missing} trials are missing")
    by_objective = {Objective.parse(name): trials for name, trials in study.arms().items()}
    scores = scores_of(study)
    arms = tuple(arms_of(study, scores))
    others = [objective for objective in by_objective if objective.kind != "hard" or objective.mixup]
    chosen = min(others, key=lambda one: _validation_nll(by_objective[one])) if others else None
    compared = tuple(
        arm for arm in arms if arm.objective in (Objective("hard"), chosen) and arm.repair != "p-norm"
    )
    level = simultaneous_level(len(others))
    units = find_task(study.recipe.task).unit_words(study.data)
    guess, cut_short = _constant_guess(study), falling(study)
    learned = guess is None or any(_surpasses(arm, guess) for arm in arms if arm.repair != "p-norm")
    doubt = nothing_useful(arms, scores, cut_short) if learned else nothing_learned(cut_short)
    recommended = None if doubt else recommend(compared, level)
    return Verdict(
        arms=arms,
        scores=scores,
        compared=compared,
        chosen=chosen,
        candidates=len(others),
        recommended=recommended,
        headline=doubt or headline(recommended, compared, level, units),
        sentences=(
            *([] if recommended or doubt else what_would_settle(compared, level, units)),
            *score_sentences(scores, compared, level),
            *falling_words(cut_short, study.recipe.epochs),
        ),
    )


def columns(verdicts: Sequence[Verdict]) -> list[Quantity]:
    """What the columns of a table of the arms of several studies are."""
    return list(dict.fromkeys(score.quantity for found in verdicts for score in found.scores.values()))


def recommend(compared: Sequence[Arm], level: float) -> Arm | None:
    """The arm to use, or None where the test NLL cannot tell.

    An objective wins where, with its temperature, it beats the other both without and with a temperature by
    more than the interval of the difference. It is then recommended without a temperature, unless it would
    not win so, or the temperature lowers the NLL by more than noise. Fewer than `MIN_SEEDS` seeds tell
    nothing.

    Args:
        compared: hard labels without and with a temperature, if one was fitted, and the same of the other
            objective, if any.
        level: of the intervals; `simultaneous_level` where the other objective was chosen among several.
    """
    if len(compared[0].scores["nll"].values) < MIN_SEEDS:
        return None
    pairs = pairs_of(compared)
    if len(pairs) == 1:
        ((plain, scaled),) = pairs
        return next((a for a, b in ((scaled, plain), (plain, scaled)) if a.beats(b, "nll", level)), None)
    hard, other = pairs
    for (plain, scaled), rivals in ((other, hard), (hard, other)):
        if all(scaled.beats(rival, "nll", level) for rival in rivals):
            alone = all(plain.beats(rival, "nll", level) for rival in rivals)
            return plain if alone and not scaled.beats(plain, "nll", level) else scaled
    return None


def _constant_guess(study: Study) -> Arm | None:
    """The shares of the classes as probabilities of every test row; None where the task knows none."""
    trial = study.trials[0]
    rows = find_task(trial.config.task).constant_guess(trial.arrays)
    if not rows:
        return None
    seeds = study.recipe.seeds
    scores = {
        metric: Crossed(np.full(seeds, values.mean()), {"test": np.tile(values, (seeds, 1))})
        for metric, values in rows.items()
    }
    return Arm(objective=Objective("hard"), repair="", scores=scores)


def _surpasses(arm: Arm, guess: Arm) -> bool:
    """Whether an arm is better than a guess by more than noise, or of one seed at all."""
    gains = (
        guess.difference(arm, score) if sign(score) > 0 else arm.difference(guess, score)
        for score in guess.scores
    )
    return any(gain.mean > 0 and not gain.mean <= gain.half_width for gain in gains)


def _validation_nll(trials: Sequence[Trial]) -> float:
    def lowest(trial: Trial) -> float:
        parts = (trial.metrics.get(part, {}) for part in ("validation", "validation_with_temperature"))
        return min((part["nll"] for part in parts if "nll" in part), default=trial.curves.validation_nll[-1])

    return fmean(map(lowest, trials))
