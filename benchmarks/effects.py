"""Looks in finished studies for what the papers report: `python benchmarks/effects.py STUDY…`.

Prints four Markdown tables for each study: scores of every objective, how they differ from those of hard
labels, effects, and every number that was measured. All are means ± 95 % intervals over its seeds and rows,
differences paired by both; of features, of the mutual information and of γ, whose rows are not stored, over
its seeds alone.
An effect came out, "yes", where the interval of its difference lies on the side that the papers say; "no"
where it lies on the other; "within noise" where it contains 0.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from typing import TypeAlias

import numpy as np
import torch

from labelsmooth.measure import ece
from labelsmooth.measure.crossed import Crossed
from labelsmooth.report.study.estimate import Estimate, estimate, show
from labelsmooth.report.study.numbers import Networks
from labelsmooth.study import Objective, Study, Trial, load_study
from labelsmooth.study.tasks.base import with_unit_temperature

Line: TypeAlias = tuple[str, str, str]  # effect, whether it came out, numbers

_DRAWS = 100  # of labels
SCORES = (  # title, number, factor, digits
    ("accuracy (%)", "test.accuracy", 100, 2),
    ("NLL", "test.nll", 1, 4),
    ("with T", "test_with_temperature.nll", 1, 4),
    ("ECE (%)", "test.ece", 100, 2),
    ("with T", "test_with_temperature.ece", 100, 2),
    ("AURC (%)", "test.aurc", 100, 3),
    ("with p-norm", "test_with_pnorm.aurc", 100, 3),
)
GEOMETRY = {  # a number of the last layer: what it is, and which way smoothing should move it
    "spread": ("within-class spread", -1),
    "spread_in_span": ("within-class spread that the logits see", -1),
    "class_separation": ("class separation R²", 1),
    "nc1": ("NC1", -1),
    "nc2": ("distance of the class means from a regular simplex (NC2)", -1),
    "nc2_triangle": ("distance of three classes from an equilateral triangle", -1),
}


def main() -> None:
    for folder in sys.argv[1:]:
        study = load_study(folder)
        if len(study.trials) < len(study.plan) or study.recipe.seeds < 2 or not any(study.recipe.eps):
            sys.exit(f"{folder} must hold a finished study of at least 2 seeds, with an ε above 0")
        print(f"\n{study.recipe.model} on {study.recipe.data}, {study.recipe.seeds} seeds ({folder})")
        show_table(("arm", *(title for title, *_ in SCORES)), scores(study))
        show_table(("arm less hard", *(title for title, *_ in SCORES)), differences(study))
        show_table(("effect", "came out", "numbers"), lines(study))
        show_table(("number", *(one.name for one in study.recipe.objectives)), everything(study))


def show_table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    titles = list(titles)
    print("\n| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def scores(study: Study) -> Iterator[list[str]]:
    for objective, trials in zip(study.recipe.objectives, study.arms().values(), strict=True):
        arm = Networks(trials)
        yield [objective.name, *(scaled(arm[field], factor, digits) for _, field, factor, digits in SCORES)]


def differences(study: Study) -> Iterator[list[str]]:
    arms = [Networks(trials) for trials in study.arms().values()]
    for objective, arm in list(zip(study.recipe.objectives, arms, strict=True))[1:]:
        less_hard = [(arm[field] - arms[0][field], factor, digits) for _, field, factor, digits in SCORES]
        yield [objective.name, *(scaled(*difference) for difference in less_hard)]


def everything(study: Study) -> Iterator[list[str]]:
    arms = [Networks(trials) for trials in study.arms().values()]
    for part, measured in arms[0].trials[0].metrics.items():
        for name in measured:
            yield [f"{part}.{name}", *(numbers(arm, f"{part}.{name}") for arm in arms)]


def lines(study: Study) -> Iterator[Line]:
    arms = {name: Networks(trials) for name, trials in study.arms().items()}
    hard = arms["hard"]
    smoothed = {eps: arms[str(Objective.uniform(eps))] for eps in sorted(study.recipe.eps) if eps}
    usual = 0.1 if 0.1 in smoothed else max(smoothed)  # the ε of most papers
    if study.recipe.label_noise:
        yield from noise(arms, max(smoothed))
    else:
        yield from accuracy(hard, smoothed)
        yield from calibration(hard, smoothed)
        yield from geometry(hard, smoothed[usual], usual)
        yield from selection(hard, smoothed)
    if study.recipe.information:
        yield from information(hard, smoothed[usual], usual)
    if study.recipe.student is not None:
        yield from distillation(study)


def accuracy(hard: Networks, smoothed: dict[float, Networks]) -> Iterator[Line]:
    for eps, arm in smoothed.items():
        gain = estimate(arm["test.accuracy"] - hard["test.accuracy"])
        yield f"accuracy at ε = {eps:g} is above that of hard", came_out(gain), f"{percent(gain)} points"


def calibration(hard: Networks, smoothed: dict[float, Networks]) -> Iterator[Line]:
    arms = {0.0: hard, **smoothed}
    tuned = min(arms, key=lambda eps: fmean(map(validation_ece, arms[eps].trials)))
    yield (
        "hard labels leave the network over-confident",
        came_out(estimate(hard["test.over_confidence"])),
        f"by {percents(hard, 'test.over_confidence')} %, T = {numbers(hard, 'fitted.temperature')}",
    )
    yield (
        "ECE of as many rows whose labels are drawn from the probabilities with that temperature",
        "",
        f"{percent(estimate([ece_of_chance(trial) for trial in hard.trials]))} %: what chance leaves of a "
        "calibrated network",
    )
    for name, field in (("ECE", "ece"), ("smooth ECE", "smece")):
        before, scaled = hard[f"test.{field}"], hard[f"test_with_temperature.{field}"]
        yield (
            f"a temperature cuts the {name} of hard labels by 60 %",
            cut_by(0.6, before, scaled),
            f"by {cut(before, scaled)} %, {percents(hard, f'test.{field}')} → "
            f"{percents(hard, f'test_with_temperature.{field}')} %",
        )
        after = arms[tuned][f"test.{field}"]
        yield (
            f"the ε of the lowest validation ECE cuts the {name} by 50 %",
            cut_by(0.5, before, after),
            f"ε = {tuned:g}: by {cut(before, after)} %, to {percents(arms[tuned], f'test.{field}')} %",
        )
    largest = max(smoothed)
    arm = smoothed[largest]
    yield (
        f"ε = {largest:g} leaves the network under-confident, T < 1",
        came_out(estimate(Crossed(np.ones(len(arm.trials))) - arm["fitted.temperature"])),
        f"T = {numbers(arm, 'fitted.temperature')}",
    )
    rise = estimate(arm["test.ece"] - hard["test.ece"])
    yield (
        f"ε = {largest:g} has a larger ECE than hard labels",
        came_out(rise),
        f"{percents(arm, 'test.ece')} %, {percent(rise)} points more",
    )


def geometry(hard: Networks, arm: Networks, eps: float) -> Iterator[Line]:
    for field, (words, sign) in GEOMETRY.items():
        if field not in hard.trials[0].metrics["train"]:
            continue  # of two classes
        for rows in ("train", "validation"):
            name = f"{rows}.{field}"
            yield (
                f"{words} {'rises' if sign > 0 else 'falls'} at ε = {eps:g}, {rows} rows",
                came_out(estimate(float(sign) * (arm[name] - hard[name]))),
                f"{numbers(hard, name)} → {numbers(arm, name)}",
            )


def selection(hard: Networks, smoothed: dict[float, Networks]) -> Iterator[Line]:
    repaired = "test_with_pnorm.aurc"
    for eps, arm in smoothed.items():
        yield (
            f"AURC is worse at ε = {eps:g} than of hard labels",
            came_out(estimate(arm["test.aurc"] - hard["test.aurc"])),
            f"{numbers(hard, 'test.aurc')} → {numbers(arm, 'test.aurc')}",
        )
        yield (
            f"a p-norm repairs the AURC at ε = {eps:g}",
            came_out(estimate(arm["test.aurc"] - arm[repaired])),
            f"{numbers(arm, 'test.aurc')} → {numbers(arm, repaired)}; hard with a p-norm "
            f"{numbers(hard, repaired)}",
        )


def noise(arms: Mapping[str, Networks], most: float) -> Iterator[Line]:
    smoothed = str(Objective.uniform(most))
    pairs = [("hard", name) for name in arms if name != "hard"]
    pairs += [(smoothed, name) for name in arms if Objective.parse(name).kind == "generalised"]
    for one, other in pairs:
        names = [Objective.parse(name).name for name in (other, one)]
        yield (
            f"{' is more accurate than '.join(names)} under label noise",
            came_out(estimate(arms[other]["test.accuracy"] - arms[one]["test.accuracy"])),
            f"{percents(arms[one], 'test.accuracy')} → {percents(arms[other], 'test.accuracy')} %",
        )


def information(hard: Networks, arm: Networks, eps: float) -> Iterator[Line]:
    curves = [[trial.curves.information for trial in trials] for trials in (hard.trials, arm.trials)]
    last = [[curve[-1] for curve in of_arm] for of_arm in curves]
    lower = estimate([a - b for a, b in zip(*last, strict=True)])
    yield (
        f"mutual information at the end is lower at ε = {eps:g}",
        came_out(lower),
        f"{nats(estimate(last[0]))} → {nats(estimate(last[1]))}, log 2 {math.log(2):.2f}",
    )
    epochs = hard.trials[0].curves.information_epochs
    third = len(epochs) // 3  # a moment fixed beforehand: the last is below the highest by noise alone
    if not third:
        return
    for words, of_arm in (("hard labels", curves[0]), (f"ε = {eps:g}", curves[1])):
        fall = estimate([curve[third] - curve[-1] for curve in of_arm])
        yield (
            f"mutual information falls from epoch {epochs[third]} to {epochs[-1]} with {words}",
            came_out(fall),
            f"by {nats(fall)}",
        )


def distillation(study: Study) -> Iterator[Line]:
    teachers = {name: Networks(trials) for name, trials in study.arms().items()}
    for name, alone in study.students_alone().items():
        words = Objective.parse(name).name
        yield f"student alone, {words}", "", f"{percents(Networks(alone), 'test.accuracy')} %"
    for name, teacher in teachers.items():
        if name == "hard":
            continue
        words = Objective.parse(name).name
        yield (
            f"the teacher {words} is more accurate than the hard one",
            came_out(estimate(teacher["test.accuracy"] - teachers["hard"]["test.accuracy"])),
            f"{percents(teachers['hard'], 'test.accuracy')} → {percents(teacher, 'test.accuracy')} %",
        )
        gains: dict[float, Crossed] = {}
        for temperature in study.recipe.temperatures:
            students = study.students(temperature)
            hard, smoothed = Networks(students["hard"]), Networks(students[name])
            gains[temperature] = smoothed["test.accuracy"] - hard["test.accuracy"]
            yield (
                f"at T = {temperature:g} the student of {words} is less accurate than that of hard",
                came_out(estimate(-1.0 * gains[temperature])),
                f"{percents(hard, 'test.accuracy')} → {percents(smoothed, 'test.accuracy')} %; "
                f"γ {numbers(hard, 'distilled.equivalent_smoothing')} → "
                f"{numbers(smoothed, 'distilled.equivalent_smoothing')}; agreement "
                f"{percents(hard, 'distilled.agreement')} → {percents(smoothed, 'distilled.agreement')} %",
            )
        for temperature, gain in gains.items():
            if temperature > 1 and 1.0 in gains:
                more = estimate(gains[1.0] - gain)
                yield (
                    f"the gain by the teacher {words} is larger at T = 1 than at T = {temperature:g}",
                    came_out(more),
                    f"by {percent(more)} points",
                )


def cut_by(share: float, before: Crossed, after: Crossed) -> str:
    """Whether a number fell by at least this share of its mean, paired by seed and row."""
    return came_out(estimate((1 - share) * before - after))


def cut(before: Crossed, after: Crossed) -> str:
    """By how many percent the mean fell."""
    return f"{100 * (1 - after.mean / before.mean):.0f}"


def ece_of_chance(trial: Trial) -> float:
    logits = (
        torch.from_numpy(trial.arrays.test_logits).double()
        / with_unit_temperature(trial.metrics)["fitted"]["temperature"]
    )
    labels = torch.multinomial(
        logits.softmax(-1), _DRAWS, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    return fmean(ece(logits, labels[:, draw]) for draw in range(_DRAWS))


def validation_ece(trial: Trial) -> float:
    return trial.metrics["validation"]["ece"]


def came_out(difference: Estimate) -> str:
    if difference.within_noise:
        return "within noise"
    return "yes" if difference.mean > 0 else "no"


def numbers(arm: Networks, field: str) -> str:
    return show(estimate(arm[field]), field.rpartition(".")[2], unit=False)


def nats(information: Estimate) -> str:
    return show(information, "mutual_information")


def percents(arm: Networks, field: str) -> str:
    return percent(estimate(arm[field]))


def percent(value: Estimate) -> str:
    return f"{100 * value.mean:.2f} ± {100 * value.half_width:.2f}"


def scaled(number: Crossed, factor: int, digits: int) -> str:
    value = estimate(float(factor) * number)
    return f"{value.mean:.{digits}f} ± {value.half_width:.{digits}f}".replace("-", "−")


if __name__ == "__main__":
    main()
