"""What a study says in numbers and words: arms, intervals over seeds, and which arm to use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean, stdev
from typing import Literal, get_args

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.report.words import listed
from labelsmooth.study import Metrics, Objective, Scores, Study, Trial

Repair = Literal["", "temperature", "p-norm"]  # after the training, fitted on the validation rows
LEVEL = 0.95  # of all intervals
SCORES = (
    ("accuracy", "accuracy (%)"),
    ("nll", "NLL (nats)"),
    ("ece", "ECE (%)"),
    ("smece", "smECE (%)"),
    ("brier", "Brier"),
    ("aurc", "AURC"),
    ("over_confidence", "over-conf. (%)"),
)
PERCENT = ("accuracy", "ece", "smece", "over_confidence")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with the half-width of its 95 % t-interval; nan for a single seed."""

    mean: float
    half_width: float

    @property
    def within_noise(self) -> bool:
        """Whether 0 lies in the interval, or one seed leaves no interval to tell."""
        return not abs(self.mean) > self.half_width


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train and to predict, with its test scores over the seeds."""

    objective: Objective
    repair: Repair
    scores: tuple[Scores, ...]  # one per seed, in the same order in every arm; nan where the arm has none

    @property
    def name(self) -> str:
        """The objective, and what is on top of it."""
        return self.objective.name + (f" + {self.repair}" if self.repair else "")

    def estimate(self, metric: str) -> Estimate:
        """Mean and interval of one of the fields of `Scores`."""
        return estimate([getattr(scores, metric) for scores in self.scores])

    def difference(self, other: Arm, metric: str) -> Estimate:
        """This arm's metric minus the other's, paired by seed."""
        return estimate(
            [
                getattr(mine, metric) - getattr(its, metric)
                for mine, its in zip(self.scores, other.scores, strict=True)
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The arms of a study and what they say about label smoothing on its data."""

    arms: tuple[Arm, ...]  # every objective, each without and with a temperature and with a p-norm
    compared: tuple[Arm, ...]  # those the words are about: hard and the chosen one, with no p-norm
    chosen: Objective | None  # of those that are not hard, by the validation rows; None without any
    recommended: Arm | None  # None where one seed leaves nothing to tell
    headline: str
    sentences: tuple[str, ...]


def verdict(study: Study) -> Verdict:
    """Compare the arms of a finished study by their test scores.

    Beside hard labels stands the objective with the lowest validation NLL at its fitted temperature or
    without, whichever is lower, so that the test rows do not choose it. Recommended is the simplest arm, in
    the order hard, hard + temperature, chosen, chosen + temperature, that the arm of the lowest mean test NLL
    does not beat by more than the 95 % interval of the difference, paired by seed.

    Args:
        study: with every trial of its plan complete.

    Returns:
        Arms, estimates and sentences.

    Raises:
        ValueError: trials are missing.
    """
    missing = len(study.plan) - len(study.trials)
    if missing:
        raise InputError(f"the study in {study.folder} is not finished: {missing} trials are missing")
    by_objective = {Objective.parse(name): trials for name, trials in study.arms().items()}
    arms = tuple(
        Arm(
            objective=objective,
            repair=repair,
            scores=tuple(_scores(trial.metrics, repair) for trial in trials),
        )
        for objective, trials in by_objective.items()
        for repair in get_args(Repair)
    )
    others = [objective for objective in by_objective if objective.kind != "hard" or objective.mixup]
    chosen = min(others, key=lambda one: _validation_nll(by_objective[one])) if others else None
    compared = tuple(
        arm for arm in arms if arm.objective in (Objective("hard"), chosen) and arm.repair != "p-norm"
    )
    recommended = _recommended(compared) if study.recipe.seeds > 1 else None
    return Verdict(
        arms=arms,
        compared=compared,
        chosen=chosen,
        recommended=recommended,
        headline=_headline(recommended, compared),
        sentences=tuple(
            _sentence(metric, compared) for metric in ("nll", "ece", "accuracy") if len(compared) > 1
        ),
    )


def _scores(metrics: Metrics, repair: Repair) -> Scores:
    if repair == "p-norm":  # it orders the rows, and says nothing of probabilities
        nothing = dict.fromkeys((field.name for field in fields(Scores)), math.nan)
        known = {
            "rows": metrics.test.rows,
            "accuracy": metrics.test.accuracy,
            "aurc": metrics.test_aurc_with_pnorm,
        }
        return Scores(**{**nothing, **known})  # type: ignore[arg-type]
    return metrics.test_with_temperature if repair else metrics.test


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half-width of the 95 % t-interval of values over seeds; nan where one of them is."""
    if len(values) < 2 or any(map(math.isnan, values)):
        return Estimate(mean=fmean(values), half_width=math.nan)
    with needs_extra("study"):
        from scipy.stats import t

    quantile = float(t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return Estimate(mean=fmean(values), half_width=quantile * stdev(values) / math.sqrt(len(values)))


def show(value: Estimate, metric: str, *, unit: bool = True) -> str:
    """An estimate of one of the fields of `Scores`, those that are shares in percent."""
    factor, digits = (100, 2) if metric in PERCENT else (1, 4)
    return _show(value, factor, digits, " %" if unit and metric in PERCENT else "")


def show_number(value: Estimate) -> str:
    """An estimate of any size, with three digits, or as many as its half-width needs to show one."""
    sizes = [abs(value.mean) / 100, value.half_width]
    digits = [-math.floor(math.log10(size)) for size in sizes if math.isfinite(size) and size > 0]
    return _show(value, 1, max(0, *digits) if digits else 0, "")


def _show(value: Estimate, factor: int, digits: int, unit: str) -> str:
    if math.isnan(value.mean):
        return "–"
    mean = f"{factor * value.mean:.{digits}f}"
    return (
        mean + unit
        if math.isnan(value.half_width)
        else f"{mean} ± {factor * value.half_width:.{digits}f}{unit}"
    )


def _validation_nll(trials: Sequence[Trial]) -> float:
    return fmean(
        min(trial.metrics.validation_nll, trial.metrics.validation_nll_with_temperature) for trial in trials
    )


def _recommended(compared: Sequence[Arm]) -> Arm:
    """The simplest arm that the best does not beat by more than noise; the simplest is the first."""
    best = _best(compared)
    return next(arm for arm in compared if not _beats(best, arm, "nll"))


def _best(compared: Sequence[Arm]) -> Arm:
    return min(compared, key=lambda arm: arm.estimate("nll").mean)


def _beats(one: Arm, other: Arm, metric: str) -> bool:
    difference = one.difference(other, metric)
    better = difference.mean > 0 if metric == "accuracy" else difference.mean < 0
    return better and not difference.within_noise


def _headline(recommended: Arm | None, compared: Sequence[Arm]) -> str:
    if recommended is None:
        return "One seed cannot tell these arms from noise: run the study with more seeds."
    labels = recommended.objective.phrase
    temperature = f"{',' if ',' in labels else ''} and fit a temperature" if recommended.repair else ""
    best = _best(compared)
    # Each of these is what `_recommended` has made sure of, and no more.
    if recommended != best:
        reason = f"the lowest test NLL, of {best.name}, is lower by no more than noise"
    elif recommended == compared[0]:
        reason = "nothing tried here has a lower test NLL"
    else:
        reason = "this has the lowest test NLL, and all that is simpler is higher by more than noise"
    return f"Train with {labels}{temperature}: {reason}."


_WORDS = {
    "nll": ("Test NLL", "lowest", "higher by"),
    "ece": ("Calibration error (ECE)", "lowest", "higher by"),
    "accuracy": ("Test accuracy", "highest", "lower by"),
}


def _sentence(metric: str, compared: Sequence[Arm]) -> str:
    """Which arm is best by a metric, and which of the others noise alone could have put behind it."""
    title, extreme, behind = _WORDS[metric]
    if metric == "accuracy":  # a temperature does not change it
        compared = [arm for arm in compared if not arm.repair]
        if len(compared) == 1:
            return (
                f"{title} is {show(compared[0].estimate(metric), metric)}; a temperature does not change it."
            )
    sign = -1 if metric == "accuracy" else 1
    ranked = sorted(compared, key=lambda arm: sign * arm.estimate(metric).mean)
    best = ranked[0]
    sentence = f"{title} is {extreme} for {best.name}, {show(best.estimate(metric), metric)}"
    if math.isnan(best.estimate(metric).half_width):
        return f"{sentence}, from a single seed, which leaves no interval."
    near = [arm for arm in ranked[1:] if not _beats(best, arm, metric)]
    far = [arm for arm in ranked[1:] if _beats(best, arm, metric)]
    parts = [
        f"{arm.name} is {behind} {show(_magnitude(arm.difference(best, metric)), metric)}" for arm in far
    ]
    if near:
        names = listed([arm.name for arm in near])
        gaps = listed([show(_magnitude(arm.difference(best, metric)), metric) for arm in near])
        parts.append(f"the difference to {names} ({gaps}) is within noise")
    return f"{sentence}; {'; '.join(parts)}."


def _magnitude(difference: Estimate) -> Estimate:
    return Estimate(mean=abs(difference.mean), half_width=difference.half_width)
