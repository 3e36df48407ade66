"""What a verdict says of the arms that it compares, in sentences."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.crossed import Variance
from labelsmooth.measure.format import show as show_quantity
from labelsmooth.report.shared.words import counted, listed
from labelsmooth.report.study.arms import SCORES, Arm, Score, sign
from labelsmooth.report.study.estimate import detectable, show

MIN_SEEDS = 3  # that anything is recommended from: of two, the scatter is hardly known
# What would settle a difference is looked for up to so many seeds, or so many times those that there are if
# that is more, and then so many times the rows.
_MOST_SEEDS, _TIMES_THE_SEEDS, _TIMES_THE_ROWS = 100, 10, 1000
_POWER = 0.8  # of a study, to find a difference
_OF_ROWS = ("nll", "ece", "accuracy")  # the scores of rows that have a sentence, as headlines have
# how a sentence begins, by the title of the score
_TITLES = {"NLL": "Test NLL", "ECE": "Calibration error (ECE)", "accuracy": "Test accuracy"}


def headline(recommended: Arm | None, compared: Sequence[Arm], level: float, units: str) -> str:
    """Say which arm to use, or that the study cannot tell.

    Args:
        recommended: None where it cannot.
        compared: the arms that the words are about.
        level: of the intervals of their differences.
        units: what is drawn as a whole, in the plural.
    """
    seeds = len(compared[0].scores["nll"].values)
    if seeds == 1:
        return "One seed cannot tell these arms from noise: run the study with at least 3 seeds, better 5."
    if recommended is None:
        return _undecided(compared, level, units)
    rivals = [arm for arm in compared if arm.objective != recommended.objective] or [
        arm for arm in compared if arm is not recommended
    ]
    rival = _best(rivals, "nll")
    lower = _shown_gap(rival, recommended, "nll", level)
    return (
        f"{_advice(recommended)}: the test NLL is {lower} below that of {rival.name}, more than seeds and "
        f"{units} leave to chance."
    )


def _advice(arm: Arm) -> str:
    labels = arm.objective.phrase
    temperature = f"{',' if ',' in labels else ''} and fit a temperature" if arm.repair else ""
    return f"Train with {labels}{temperature}"


def _undecided(compared: Sequence[Arm], level: float, units: str) -> str:
    """Say what cannot be told, what can, and which arm is the simplest."""
    if len(compared) == 1:
        return "Hard labels alone leave nothing to compare: run the study with another objective."
    pairs = pairs_of(compared)
    one, two = _in_question(compared)
    gap = _shown_gap(one, two, "nll", level)
    above = two.scores["nll"].mean > one.scores["nll"].mean
    seeds, by_row = len(one.scores["nll"].values), one.scores["nll"].influences.get("test")
    what = f"{two.objective.name} from hard labels" if len(pairs) > 1 else "a temperature from none"
    and_rows = "" if by_row is None else f" and {by_row.shape[1]:,} test {units}"
    words = (
        f"{seeds} seeds{and_rows} cannot tell {what}: the test NLL of {two.name} is "
        f"{gap} {'above' if above else 'below'} that of {one.name}"
    )
    if seeds < MIN_SEEDS:
        words += f", and fewer than {MIN_SEEDS} seeds hardly know their own scatter"
    if len(pairs) > 1 and seeds >= MIN_SEEDS and all(b.beats(a, "nll", level) for a, b in pairs):
        return f"{words}. Fit a temperature to either; hard labels are the simpler default."
    return f"{words}. Hard labels are the simpler default."


def pairs_of(compared: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Each objective without and with a temperature; the same arm twice where none was fitted."""
    by_objective = [list(arms) for _, arms in groupby(compared, key=lambda arm: arm.objective)]
    return [(arms[0], arms[-1]) for arms in by_objective]


def _in_question(compared: Sequence[Arm]) -> tuple[Arm, Arm]:
    """The two arms whose difference the headline is about: both with a temperature where there are two."""
    pairs = pairs_of(compared)
    return (pairs[0][1], pairs[1][1]) if len(pairs) > 1 else pairs[0]


def what_would_settle(compared: Sequence[Arm], level: float, units: str) -> list[str]:
    """Which difference could have been found, and how many seeds or rows would settle the one seen."""
    if len(compared) == 1:
        return []
    one, two = _in_question(compared)
    difference = two.scores["nll"] - one.scores["nll"]
    variance = difference.variance
    if variance is None or not variance.total:
        return []
    seen, power = abs(difference.mean), f"a power of {100 * _POWER:g} %"
    found, here = (show_quantity("nll", nats) for nats in (detectable(variance, level, _POWER), seen))
    needed = settling(seen, variance, level, units)
    if variance.seeds < MIN_SEEDS:  # which find nothing, however far apart the arms are
        return [f"To find a difference in NLL of {here}, as seen here, with {power} would take {needed}."]
    return [
        f"Such a study finds a difference in NLL of {found} with {power}; to find one of {here}, as seen "
        f"here, with that power would take {needed}."
    ]


def settling(difference: float, variance: Variance, level: float, units: str = "rows") -> str:
    """Say how many seeds would find a difference with a power of 80 %, or how many rows besides."""

    def settles(seeds: int, times: float) -> bool:
        return detectable(variance.resized(seeds, times), level, _POWER) <= difference

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
                return f"about {float(f'{times:.2g}'):,g} times as many {units} and {counted(seeds, 'seed')}"
    return f"more than {counted(most, 'seed')} and {_TIMES_THE_ROWS:,} times as many {units}"


def score_sentences(scores: Mapping[str, Score], compared: Sequence[Arm], level: float) -> list[str]:
    """Say of each headline, and of NLL, ECE and accuracy, which arm is best and which noise put behind it.

    Args:
        scores: of the arms, by name.
        compared: the arms that the words are about.
        level: of the intervals of their differences.
    """
    headlines = [name for name, score in scores.items() if score.quantity.better and name not in SCORES]
    return [
        _sentence(name, scores[name], known, level)
        for name in (*headlines, *_OF_ROWS)
        if (known := [arm for arm in compared if name in scores and not math.isnan(arm.scores[name].mean)])
    ]


def _sentence(name: str, score: Score, known: Sequence[Arm], level: float) -> str:
    title = _title(score)
    extreme, behind = ("lowest", "higher by") if sign(name) > 0 else ("highest", "lower by")
    told = [arm for arm in known if arm.repair in score.repairs]
    if len(told) == 1:
        unchanged = "; a temperature does not change it" if len(known) > 1 else ""
        return f"{title} is {show(told[0].estimate(name), score.quantity)}{unchanged}."
    best = _best(told, name)
    said = f"{title} is {extreme} for {best.name}, {show(best.estimate(name), score.quantity)}"
    if math.isnan(best.estimate(name).half_width):
        return f"{said}, from a single seed, which leaves no interval."
    others = [arm for arm in told if arm is not best]
    others.sort(key=lambda arm: sign(name) * arm.scores[name].mean)
    gaps = {arm: _shown_gap(arm, best, name, level) for arm in others}
    far = [arm for arm in others if best.beats(arm, name, level)]
    near = [arm for arm in others if arm not in far]
    parts = [f"{arm.name} is {behind} {gaps[arm]}" for arm in far]
    if near:
        names = listed([arm.name for arm in near])
        parts.append(f"the difference to {names} ({listed([gaps[arm] for arm in near])}) is within noise")
    return f"{said}; {'; '.join(parts)}."


def _title(score: Score) -> str:
    """Name a score at the beginning of a sentence."""
    title = score.quantity.title
    words = _TITLES.get(title, title.capitalize() if title.islower() else title)
    return f"{words} ({score.way})" if score.way else words


def _shown_gap(one: Arm, other: Arm, metric: str, level: float) -> str:
    """Write the distance of the scores of two arms, of whatever sign."""
    quantity = QUANTITIES[metric.rpartition(".")[2]]
    return show(abs(one.difference(other, metric, level)), quantity.difference)


def _best(arms: Sequence[Arm], metric: str) -> Arm:
    return min(arms, key=lambda arm: sign(metric) * arm.scores[metric].mean)
