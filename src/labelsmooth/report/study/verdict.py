"""What a study says in numbers and words: arms, their intervals, and which arm to use."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Literal, get_args

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.crossed import Crossed, Variance
from labelsmooth.measure.format import show as show_quantity
from labelsmooth.measure.interval import simultaneous_level
from labelsmooth.report.shared.words import counted, listed
from labelsmooth.report.study.estimate import LEVEL, Estimate, detectable, estimate, show
from labelsmooth.report.study.numbers import Networks
from labelsmooth.study import Objective, Study, Trial
from labelsmooth.study.tasks import find_task

Repair = Literal["", "temperature", "p-norm"]  # after the training, fitted on the validation rows
SCORES = ("accuracy", "nll", "ece", "smece", "brier", "aurc", "over_confidence")  # of the catalogue
MIN_SEEDS = 3  # that anything is recommended from: of two, the scatter is hardly known
# What would settle a difference is looked for up to so many seeds, or so many times those that there are if
# that is more, and then so many times the rows.
_MOST_SEEDS, _TIMES_THE_SEEDS, _TIMES_THE_ROWS = 100, 10, 1000
_PARTS = {"": "test", "temperature": "test_with_temperature", "p-norm": "test_with_pnorm"}  # of the metrics
_WITH_PNORM = {"accuracy": "test.accuracy", "aurc": "test_with_pnorm.aurc"}  # which says no probabilities


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """An arm: a way to train and to predict, with its test scores over the seeds."""

    objective: Objective
    repair: Repair
    scores: Mapping[str, Crossed]  # by the names in `SCORES`; nan where the arm has none

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
        better = _sign(metric) * difference.mean < 0
        return better and not difference.within_noise


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The arms of a study and what they say about label smoothing on its data."""

    arms: tuple[Arm, ...]  # every objective, each without and with a temperature and a p-norm, if there are
    compared: tuple[Arm, ...]  # those the words are about: hard and the chosen one, with no p-norm
    chosen: Objective | None  # of those that are not hard, by the validation rows; None without any
    candidates: int  # how many that one was chosen among
    recommended: Arm | None  # None where the study cannot tell
    headline: str
    sentences: tuple[str, ...]

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of the scores that the networks have, of `SCORES`."""
        return tuple(
            name for name in SCORES if any(not np.isnan(arm.scores[name].values).all() for arm in self.arms)
        )

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """What an arm has on top, "" for nothing first."""
        return tuple(dict.fromkeys(arm.repair for arm in self.arms))


def verdict(study: Study) -> Verdict:
    """Compare the arms of a finished study by their test scores.

    Beside hard labels stands the objective with the lowest validation NLL at its fitted temperature or
    without, whichever is lower, so that the test rows do not choose it. `recommend` says what follows.

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
    arms = tuple(
        Arm(objective=objective, repair=repair, scores=_scores(networks, repair))
        for objective, networks in ((one, Networks(trials)) for one, trials in by_objective.items())
        for repair in get_args(Repair)
        if any(f"{_PARTS[repair]}.{score}" in networks for score in SCORES)
    )
    others = [objective for objective in by_objective if objective.kind != "hard" or objective.mixup]
    chosen = min(others, key=lambda one: _validation_nll(by_objective[one])) if others else None
    compared = tuple(
        arm for arm in arms if arm.objective in (Objective("hard"), chosen) and arm.repair != "p-norm"
    )
    level = simultaneous_level(len(others))
    guess = _constant_guess(study)
    learned = guess is None or any(_surpasses(arm, guess) for arm in arms if arm.repair != "p-norm")
    recommended = recommend(compared, level) if learned else None
    return Verdict(
        arms=arms,
        compared=compared,
        chosen=chosen,
        candidates=len(others),
        recommended=recommended,
        headline=_headline(recommended, compared, level) if learned else _NOTHING_LEARNED,
        sentences=(
            *([] if recommended or not learned else _what_would_settle(compared, level)),
            *(
                _sentence(metric, compared, level)
                for metric in _WORDS
                if not math.isnan(compared[0].scores[metric].mean)
            ),
        ),
    )


def scores_of(verdicts: Sequence[Verdict]) -> list[str]:
    """The names of the scores that the networks of a study have, of `SCORES`."""
    return [score for score in SCORES if any(score in found.scores for found in verdicts)]


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
    pairs = _pairs(compared)
    if len(pairs) == 1:
        ((plain, scaled),) = pairs
        return next((a for a, b in ((scaled, plain), (plain, scaled)) if a.beats(b, "nll", level)), None)
    hard, other = pairs
    for (plain, scaled), rivals in ((other, hard), (hard, other)):
        if all(scaled.beats(rival, "nll", level) for rival in rivals):
            alone = all(plain.beats(rival, "nll", level) for rival in rivals)
            return plain if alone and not scaled.beats(plain, "nll", level) else scaled
    return None


def _scores(networks: Networks, repair: Repair) -> dict[str, Crossed]:
    def score(metric: str) -> Crossed:
        field = f"{_PARTS[repair]}.{metric}" if repair != "p-norm" else _WITH_PNORM.get(metric, "")
        return networks.get(field)

    return {metric: score(metric) for metric in SCORES}


def _pairs(compared: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Each objective without and with a temperature; the same arm twice where none was fitted."""
    by_objective = [list(arms) for _, arms in groupby(compared, key=lambda arm: arm.objective)]
    return [(arms[0], arms[-1]) for arms in by_objective]


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
        guess.difference(arm, score) if _sign(score) > 0 else arm.difference(guess, score)
        for score in guess.scores
    )
    return any(gain.mean > 0 and not gain.mean <= gain.half_width for gain in gains)


def _validation_nll(trials: Sequence[Trial]) -> float:
    def lowest(trial: Trial) -> float:
        parts = (trial.metrics.get(part, {}) for part in ("validation", "validation_with_temperature"))
        return min((part["nll"] for part in parts if "nll" in part), default=trial.curves.validation_nll[-1])

    return fmean(map(lowest, trials))


_NOTHING_LEARNED = (
    "Nothing was learned: no arm is better than a constant guess, in test NLL or in accuracy, by more than "
    "noise. These numbers recommend no way to train."
)


def _headline(recommended: Arm | None, compared: Sequence[Arm], level: float) -> str:
    seeds = len(compared[0].scores["nll"].values)
    if seeds == 1:
        return "One seed cannot tell these arms from noise: run the study with at least 3 seeds, better 5."
    if recommended is None:
        return _undecided(compared, level)
    rivals = [arm for arm in compared if arm.objective != recommended.objective] or [
        arm for arm in compared if arm is not recommended
    ]
    rival = _best(rivals, "nll")
    lower = _shown_gap(rival, recommended, "nll", level)
    return (
        f"{_advice(recommended)}: the test NLL is {lower} below that of {rival.name}, more than seeds and "
        "rows leave to chance."
    )


def _advice(arm: Arm) -> str:
    labels = arm.objective.phrase
    temperature = f"{',' if ',' in labels else ''} and fit a temperature" if arm.repair else ""
    return f"Train with {labels}{temperature}"


def _undecided(compared: Sequence[Arm], level: float) -> str:
    """Say what cannot be told, what can, and which arm is the simplest."""
    if len(compared) == 1:
        return "Hard labels alone leave nothing to compare: run the study with another objective."
    pairs = _pairs(compared)
    one, two = _in_question(compared)
    gap = _shown_gap(one, two, "nll", level)
    above = two.scores["nll"].mean > one.scores["nll"].mean
    seeds, by_row = len(one.scores["nll"].values), one.scores["nll"].influences.get("test")
    what = f"{two.objective.name} from hard labels" if len(pairs) > 1 else "a temperature from none"
    and_rows = "" if by_row is None else f" and {by_row.shape[1]:,} test rows"
    words = (
        f"{seeds} seeds{and_rows} cannot tell {what}: the test NLL of {two.name} is "
        f"{gap} {'above' if above else 'below'} that of {one.name}"
    )
    if seeds < MIN_SEEDS:
        words += f", and fewer than {MIN_SEEDS} seeds hardly know their own scatter"
    if len(pairs) > 1 and seeds >= MIN_SEEDS and all(b.beats(a, "nll", level) for a, b in pairs):
        return f"{words}. Fit a temperature to either; hard labels are the simpler default."
    return f"{words}. Hard labels are the simpler default."


def _in_question(compared: Sequence[Arm]) -> tuple[Arm, Arm]:
    """The two arms whose difference the headline is about: both with a temperature where there are two."""
    pairs = _pairs(compared)
    return (pairs[0][1], pairs[1][1]) if len(pairs) > 1 else pairs[0]


def _what_would_settle(compared: Sequence[Arm], level: float) -> list[str]:
    """Which difference could have been found, and how many seeds or rows would settle the one seen."""
    if len(compared) == 1:
        return []
    one, two = _in_question(compared)
    difference = two.scores["nll"] - one.scores["nll"]
    variance = difference.variance
    if variance is None or not variance.total:
        return []
    seen = abs(difference.mean)
    found, here = (show_quantity("nll", nats) for nats in (detectable(variance, level), seen))
    needed = settling(seen, variance, level)
    if variance.seeds < MIN_SEEDS:  # which find nothing, however far apart the arms are
        return [
            f"To find a difference in NLL of {here}, as seen here, four times in five would take {needed}."
        ]
    return [
        f"Four of five such studies would find a difference in NLL of {found}; to find one of {here}, as "
        f"seen here, as often would take {needed}."
    ]


def settling(difference: float, variance: Variance, level: float) -> str:
    """Say how many seeds would find a difference in four of five studies, or how many rows besides."""

    def settles(seeds: int, times: float) -> bool:
        return detectable(variance.resized(seeds, times), level) <= difference

    fewest = max(variance.seeds, MIN_SEEDS)
    most = max(_MOST_SEEDS, _TIMES_THE_SEEDS * variance.seeds)
    enough = bisect_left(range(most + 1), True, fewest, key=lambda seeds: settles(seeds, 1))
    if enough <= most:
        return f"about {counted(enough, 'seed')}"
    if not variance.rows:
        return f"more than {counted(most, 'seed')}"
    for times in np.geomspace(1, _TIMES_THE_ROWS, 61):
        for seeds in (fewest, 2 * fewest, 4 * fewest):
            if settles(seeds, float(times)):
                return f"about {float(f'{times:.2g}'):,g} times as many rows and {counted(seeds, 'seed')}"
    return f"more than {counted(most, 'seed')} and {_TIMES_THE_ROWS:,} times as many rows"


def _shown_gap(one: Arm, other: Arm, metric: str, level: float) -> str:
    """Write the distance of the scores of two arms, of whatever sign."""
    return show(abs(one.difference(other, metric, level)), QUANTITIES[metric].difference)


def _best(arms: Sequence[Arm], metric: str) -> Arm:
    return min(arms, key=lambda arm: _sign(metric) * arm.scores[metric].mean)


def _sign(metric: str) -> int:
    """1 where low values are good, −1 where high ones are."""
    return -1 if QUANTITIES[metric].better == "high" else 1


_WORDS = {
    "nll": ("Test NLL", "lowest", "higher by"),
    "ece": ("Calibration error (ECE)", "lowest", "higher by"),
    "accuracy": ("Test accuracy", "highest", "lower by"),
}


def _sentence(metric: str, compared: Sequence[Arm], level: float) -> str:
    """Which arm is best by a metric, and which of the others noise alone could have put behind it."""
    title, extreme, behind = _WORDS[metric]
    plain = [arm for arm in compared if not arm.repair]
    if len(plain) == 1 and (metric == "accuracy" or len(compared) == 1):
        unchanged = "; a temperature does not change it" if len(compared) > 1 else ""
        return f"{title} is {show(plain[0].estimate(metric), metric)}{unchanged}."
    if metric == "accuracy":  # a temperature does not change it
        compared = plain
    best = _best(compared, metric)
    sentence = f"{title} is {extreme} for {best.name}, {show(best.estimate(metric), metric)}"
    if math.isnan(best.estimate(metric).half_width):
        return f"{sentence}, from a single seed, which leaves no interval."
    others = sorted(
        (arm for arm in compared if arm is not best), key=lambda arm: _sign(metric) * arm.scores[metric].mean
    )
    gaps = {arm: _shown_gap(arm, best, metric, level) for arm in others}
    far = [arm for arm in others if best.beats(arm, metric, level)]
    near = [arm for arm in others if arm not in far]
    parts = [f"{arm.name} is {behind} {gaps[arm]}" for arm in far]
    if near:
        names = listed([arm.name for arm in near])
        parts.append(f"the difference to {names} ({listed([gaps[arm] for arm in near])}) is within noise")
    return f"{sentence}; {'; '.join(parts)}."
