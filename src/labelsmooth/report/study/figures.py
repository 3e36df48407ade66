"""The numbers of a report's figures: one table each, which figures.js draws and study.html explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.protocol import Table
from labelsmooth.report.shared.figure import Cell, Figure, bin_rows, curve_rows, plane_rows, short, table
from labelsmooth.report.study.classes import Classes
from labelsmooth.report.study.verdict import Verdict
from labelsmooth.study import Study, Trial
from labelsmooth.study.tasks import find_task
from labelsmooth.theory import gap_curves, optimal_gap

_COMPARED = ("nll", "ece")  # between studies


def arm_names(study: Study) -> tuple[str, ...]:
    """The arms as they were trained, in the order of the plan."""
    return tuple(objective.name for objective in study.recipe.objectives)


def figures(study: Study, found: Verdict, classes: Classes | None) -> tuple[Figure, ...]:
    """Every figure that the study has numbers for, in the order of the page.

    Args:
        study: finished.
        found: its verdict.
        classes: its numbers by class, if there are.

    Cost: reads the arrays of every trial; a second or two.
    """
    made = [scores(study, found), reliability(study), risk_coverage(study), projection(study), gap(study)]
    made += [curves(study), information(study), distillation(study)]
    if classes is not None:
        made.append(classes.figure())
    return tuple(figure for figure in made if figure.columns["arm"])


def scores(study: Study, found: Verdict) -> Figure:
    """Test scores of every arm, seed by seed, with and without what was fitted on top."""
    places = {objective: place for place, objective in enumerate(study.recipe.objectives)}
    names = found.scores
    rows: list[tuple[Cell, ...]] = [
        (places[arm.objective], seed, arm.repair, *(short(value) for value in values))
        for arm in found.arms
        for seed, values in enumerate(zip(*(arm.scores[metric].values for metric in names), strict=True))
    ]
    estimates = [
        {
            "arm": places[arm.objective],
            "repair": arm.repair,
            "metric": metric,
            "mean": short(estimated.mean),
            "half_width": short(estimated.half_width),
        }
        for arm in found.arms
        for metric, estimated in ((metric, arm.estimate(metric)) for metric in names)
    ]
    return Figure(
        name="scores",
        columns=table(("arm", "seed", "repair", *names), rows),
        constants={
            "metrics": [
                {
                    "name": name,
                    "title": score.quantity.label,
                    "unit": score.quantity.unit,
                    "bounds": [short(bound) for bound in score.quantity.bounds],
                    "repairs": [repair for repair in found.repairs if repair in score.repairs],
                }
                for name, score in found.scores.items()
            ],
            "estimates": estimates,
        },
    )


def differences(verdicts: Mapping[str, Verdict], arms: Sequence[str]) -> Figure:
    """Test NLL and ECE of every arm minus those of hard labels as trained, in several studies.

    Args:
        verdicts: by the names of the studies.
        arms: names of the objectives of all studies.
    """
    rows: list[tuple[Cell, ...]] = []
    for study, found in verdicts.items():
        hard, *others = found.arms
        for arm in others:
            for metric in (name for name in _COMPARED if name in found.scores and arm.repair != "p-norm"):
                apart = arm.difference(hard, metric)
                place, recommended = arms.index(arm.objective.name), int(arm is found.recommended)
                numbers = (short(apart.mean), short(apart.half_width))
                rows.append((place, study, arm.repair, metric, *numbers, recommended))
    names = ("arm", "study", "repair", "metric", "difference", "half_width", "recommended")
    quantities = {metric: QUANTITIES[metric].difference for metric in _COMPARED}
    return Figure(
        name="differences",
        columns=table(names, rows),
        constants={
            "metrics": [
                {"name": name, "title": quantity.label, "unit": quantity.unit}
                for name, quantity in quantities.items()
            ]
        },
    )


def reliability(study: Study) -> Figure:
    """Bins of confidence on the test rows, before and after temperature."""
    rows: list[tuple[Cell, ...]] = []
    errors = []
    for arm, trial in _trials(study):
        seed, tables = trial.config.seed, _tables(trial)
        if "reliability" not in tables.get("test", {}):
            continue
        told = "test_with_temperature" in tables
        for scaled, part in enumerate(("test", "test_with_temperature" if told else "test")):
            ece = trial.metrics[part]["ece"]
            errors.append({"arm": arm, "seed": seed, "with_temperature": scaled, "ece": short(ece)})
            bins = tables[part]["reliability"]
            rows += [(arm, seed, scaled, *cells) for cells in bin_rows(bins)]
    names = ("arm", "seed", "with_temperature", "from", "to", "rows", "confidence", "accuracy")
    return Figure(
        name="reliability",
        columns=table(names, rows),
        constants={"ece": errors, "before": "as trained"},
    )


def risk_coverage(study: Study) -> Figure:
    """Risk against coverage on the test rows, by the largest probability and by the max-logit p-norm."""
    rows: list[tuple[Cell, ...]] = []
    areas = []
    for arm, trial in _trials(study):
        seed, tables = trial.config.seed, _tables(trial)
        for with_pnorm, part in enumerate(("test", "test_with_pnorm")):
            if "risk_coverage" not in tables.get(part, {}):
                continue
            aurc = trial.metrics[part]["aurc"]
            areas.append({"arm": arm, "seed": seed, "with_p_norm": with_pnorm, "aurc": short(aurc)})
            curve = tables[part]["risk_coverage"]
            rows += [(arm, seed, with_pnorm, *point) for point in curve_rows(curve)]
    names = ("arm", "seed", "with_p_norm", "coverage", "risk")
    return Figure(
        name="risk_coverage",
        columns=table(names, rows),
        constants={"areas": areas},
    )


def projection(study: Study) -> Figure:
    """Penultimate features of three classes in the plane through their templates."""
    rows: list[tuple[Cell, ...]] = []
    task = find_task(study.recipe.task)
    for arm, trial in _trials(study):
        for part, plane in task.planes(trial.arrays).items():
            rows += [(arm, trial.config.seed, part, *cells) for cells in plane_rows(plane)]
    names = task.class_names(study.data)[:3]
    return Figure(
        name="projection",
        columns=table(("arm", "seed", "rows", "kind", "class", "x", "y"), rows),
        constants={"classes": list(names)},
    )


def gap(study: Study) -> Figure:
    """Measured logit gaps against ε, and the optimal gap."""
    eps = [objective.eps for objective in study.recipe.objectives]
    rows = [
        (arm, trial.config.seed, eps[arm], part, short(measured))
        for arm, trial in _trials(study)
        for part in ("train", "validation")
        for measured in [trial.metrics.get(part, {}).get("logit_gap")]
        if eps[arm] is not None and measured is not None
    ]
    num_classes = study.data.num_classes
    curve = gap_curves([num_classes], convention="uniform")
    # the curve is coarse where it is steep
    steep = np.geomspace(1e-12, curve.eps[0], 80, endpoint=False).tolist()
    points = [(value, optimal_gap(value, num_classes)) for value in steep]
    points += zip(curve.eps.tolist(), curve.gap[0].tolist(), strict=True)
    return Figure(
        name="gap",
        columns=table(("arm", "seed", "eps", "rows", "gap"), rows),
        constants={
            "curve": [[short(x), short(y)] for x, y in points],
            "num_classes": num_classes,
        },
    )


def curves(study: Study) -> Figure:
    """Training objective, validation NLL and validation accuracy against the epoch."""
    names = ("train_loss", "train_accuracy", "validation_nll", "validation_accuracy")
    rows = [
        (arm, trial.config.seed, epoch, *(short(value) for value in values))
        for arm, trial in _trials(study)
        for epoch, values in enumerate(
            zip(*(getattr(trial.curves, name) for name in names), strict=True), start=1
        )
    ]
    titles = (
        "training objective (nats)",
        f"training {QUANTITIES['accuracy'].label}",
        f"validation {QUANTITIES['nll'].label}",
        f"validation {QUANTITIES['accuracy'].label}",
    )
    return Figure(
        name="curves",
        columns=table(("arm", "seed", "epoch", *names), rows),
        constants={
            "series": [
                {"name": name, "title": title, "percent": name.endswith("accuracy")}
                for name, title in zip(names, titles, strict=True)
            ]
        },
    )


def information(study: Study) -> Figure:
    """Mutual information of inputs and a logit difference against the epoch."""
    task = find_task(study.recipe.task)
    known = [(arm, trial, task.information(trial.curves, trial.arrays)) for arm, trial in _trials(study)]
    rows = [
        (arm, trial.config.seed, epoch, short(nats))
        for arm, trial, found in known
        if found is not None
        for epoch, nats in zip(found.epochs, found.nats, strict=True)
    ]
    inputs = max((found.inputs for _, _, found in known if found is not None), default=1)
    return Figure(
        name="information",
        columns=table(("arm", "seed", "epoch", "information"), rows),
        constants={
            "inputs": inputs,
            "lines": [
                {"name": f"log N = {math.log(inputs):.2f}", "value": math.log(inputs)},
                {"name": f"log 2 = {math.log(2):.2f}", "value": math.log(2)},
            ],
        },
    )


def distillation(study: Study) -> Figure:
    """Test accuracy of teachers, of their students and of the student alone, against the teacher's ε."""
    recipe = study.recipe
    series = []
    if recipe.student is not None:
        series.append(("teacher", study.arms()))
        if alone := study.students_alone():
            series.append(("student alone", alone))
        series += [(f"student, T = {value:g}", study.students(value)) for value in recipe.temperatures]
    rows = [
        (arm, trial.config.seed, name, objective.eps, short(trial.metrics["test"]["accuracy"]))
        for name, by_objective in series
        for arm, objective in enumerate(recipe.objectives)
        for trial in by_objective.get(str(objective), ())
        if objective.eps is not None and "accuracy" in trial.metrics["test"]
    ]
    return Figure(
        name="distillation",
        columns=table(("arm", "seed", "network", "eps", "accuracy"), rows),
        constants={"networks": [name for name, _ in series]},
    )


# two figures of one page ask for the same tables
_KNOWN: WeakKeyDictionary[Trial, Mapping[str, Mapping[str, Table]]] = WeakKeyDictionary()


def _tables(trial: Trial) -> Mapping[str, Mapping[str, Table]]:
    if trial not in _KNOWN:
        _KNOWN[trial] = find_task(trial.config.task).tables(trial.arrays)
    return _KNOWN[trial]


def _trials(study: Study) -> list[tuple[int, Trial]]:
    """Each trial of the model itself, with the place of its arm."""
    return [(arm, trial) for arm, trials in enumerate(study.arms().values()) for trial in trials]
