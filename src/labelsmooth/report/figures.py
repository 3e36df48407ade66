"""The numbers and the words of a report's figures: one table each, which figures.js draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from labelsmooth.measure import Calibration, PlaneProjection, PNorm, Selective, plane_projection
from labelsmooth.report.verdict import PERCENT, SCORES, Verdict
from labelsmooth.study import Study, Trial
from labelsmooth.theory import gap_curves, optimal_gap

Part: TypeAlias = Literal["train", "validation"]
Cell: TypeAlias = str | int | float | None

# points of a risk–coverage curve, and rows of a class in a plane: more could not be told apart
_POINTS, _ROWS = 160, 150


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure: its table of numbers, what else is drawn beside them, and its words.

    Of the column "arm" the values are places in `arm_names`, of "seed" seeds.
    """

    name: str  # of the function in figures.js that draws it
    title: str
    caption: str
    alt: str
    columns: Mapping[str, Sequence[Cell]]  # all of one length
    constants: Mapping[str, Any] = field(default_factory=dict)


def arm_names(study: Study) -> tuple[str, ...]:
    """The arms as they were trained, in the order of the plan."""
    return tuple(_arm_name(eps) for eps in _eps(study))


def figures(study: Study, found: Verdict) -> tuple[Figure, ...]:
    """Every figure that the study has numbers for, in the order of the page.

    Args:
        study: finished.
        found: its verdict.

    Cost: reads the arrays of every trial; a second or two.
    """
    made = [scores(study, found), reliability(study), risk_coverage(study)]
    if has_plane(study):
        made.append(projection(study))
    return (*made, gap(study), curves(study))


def scores(study: Study, found: Verdict) -> Figure:
    """Test scores of every arm, seed by seed, without and with temperature."""
    metrics = [metric for metric, _ in SCORES]
    rows = [
        (arm, trial.config.seed, scaled, *(_short(getattr(scores, metric)) for metric in metrics))
        for arm, trial in _trials(study)
        for scaled, scores in ((0, trial.metrics.test), (1, trial.metrics.test_with_temperature))
    ]
    places = {name: place for place, name in enumerate(arm_names(study))}
    estimates = [
        {
            "arm": places[_arm_name(arm.eps)],
            "with_temperature": int(arm.with_temperature),
            "metric": metric,
            "mean": _short(arm.estimate(metric).mean),
            "half_width": _short(arm.estimate(metric).half_width),
        }
        for arm in found.arms
        for metric in metrics
    ]
    return Figure(
        name="scores",
        title="Every seed of every arm",
        caption="Scores on the test rows, one point for each chosen seed: hollow without, filled with temperature. "
        "The upright stroke is the mean and the line its 95 % interval, both over all seeds, as in the table.",
        alt="Points of every seed for each test score and arm, without and with temperature",
        columns=_table(("arm", "seed", "with_temperature", *metrics), rows),
        constants={
            "metrics": [
                {"name": name, "title": title, "percent": name in PERCENT, "scaled": name != "accuracy"}
                for name, title in SCORES
            ],
            "estimates": estimates,
        },
    )


def reliability(study: Study) -> Figure:
    """Bins of confidence on the test rows, before and after temperature."""
    rows: list[tuple[Cell, ...]] = []
    errors = []
    for arm, trial in _trials(study):
        logits = trial.arrays.test_logits.astype(np.float64)
        for scaled in (0, 1):
            calibration = Calibration()
            calibration.update(
                logits / trial.metrics.temperature if scaled else logits, trial.arrays.test_labels
            )
            bins = calibration.compute().bins
            errors.append(
                {"arm": arm, "seed": trial.config.seed, "with_temperature": scaled, "ece": _short(bins.ece)}
            )
            rows += [
                (
                    arm,
                    trial.config.seed,
                    scaled,
                    _short(bins.edges[at]),
                    _short(bins.edges[at + 1]),
                    int(bins.count[at]),
                    _short(bins.confidence[at]),
                    _short(bins.accuracy[at]),
                )
                for at in np.flatnonzero(bins.count)
            ]
    names = ("arm", "seed", "with_temperature", "from", "to", "rows", "confidence", "accuracy")
    return Figure(
        name="reliability",
        title="Reliability before and after temperature",
        caption="Accuracy against mean confidence of the test rows of all chosen seeds, in 15 bins of confidence; the area "
        "of a point is its share of the rows. Below the dashed line the network is over-confident. Hollow points are "
        "before, filled ones after temperature. The ECE is the mean over seeds, as in the table.",
        alt="Reliability diagrams on the test rows, one for each arm, before and after temperature scaling",
        columns=_table(names, rows),
        constants={"ece": errors},
    )


def risk_coverage(study: Study) -> Figure:
    """Risk against coverage on the test rows, by the largest probability and by the max-logit p-norm."""
    rows: list[tuple[Cell, ...]] = []
    areas = []
    for arm, trial in _trials(study):
        arrays = trial.arrays
        repair = PNorm().fit(arrays.validation_logits, arrays.validation_labels)
        plain, repaired = Selective(), Selective()
        plain.update(arrays.test_logits, arrays.test_labels)
        repaired.update_scores(
            repair.confidence(arrays.test_logits), arrays.test_logits.argmax(-1) == arrays.test_labels
        )
        for with_pnorm, measured in ((0, plain), (1, repaired)):
            result = measured.compute()
            areas.append(
                {
                    "arm": arm,
                    "seed": trial.config.seed,
                    "with_p_norm": with_pnorm,
                    "aurc": _short(result.aurc),
                }
            )
            drawn = np.unique(np.linspace(0, len(result.risk) - 1, _POINTS).round().astype(int))
            rows += [
                (arm, trial.config.seed, with_pnorm, _short(result.coverage[at]), _short(result.risk[at]))
                for at in drawn
            ]
    names = ("arm", "seed", "with_p_norm", "coverage", "risk")
    return Figure(
        name="risk_coverage",
        title="Answering only what the network is sure of",
        caption="Share of errors among the most confident test rows, against how many of all rows these are; a thin line for "
        "each chosen seed. Dashed: by the largest probability; solid: by the max-logit p-norm, whose p was chosen on the "
        "validation rows, and which is kept only where it is better there. The AURC is the mean over the chosen seeds; "
        "smaller is better.",
        alt="Risk against coverage on the test rows, one panel for each arm, before and after the p-norm repair",
        columns=_table(names, rows),
        constants={"areas": areas},
    )


def projection(study: Study) -> Figure:
    """Penultimate features of three classes in the plane through their templates."""
    rows: list[tuple[Cell, ...]] = []
    parts: tuple[Part, Part] = ("train", "validation")
    for arm, trial in _trials(study):
        for part in parts:
            shown = projection_of(trial, part)
            kept = np.concatenate([np.flatnonzero(shown.labels == label)[:_ROWS] for label in shown.classes])
            kinds = (
                ("row", shown.labels[kept], shown.points[kept]),
                ("template", shown.classes, shown.templates),
                ("border", shown.classes, shown.borders),
            )
            rows += [
                (arm, trial.config.seed, part, kind, int(label), _short(x, 4), _short(y, 4))
                for kind, labels, points in kinds
                for label, (x, y) in zip(labels, points, strict=True)
            ]
    names = study.data.class_names[:3]
    return Figure(
        name="projection",
        title="The last layer, seen in a plane",
        caption=f"Penultimate features of three classes ({', '.join(names)}) in the plane through the templates of these "
        "classes (stars), at most 150 rows of each, for the first chosen seed; along the lines two of the three logits are equal. Smoothing asks for "
        "the same distance to every wrong template, which draws the clusters together (Müller, Kornblith & Hinton 2019, "
        "figure 1). Each arm has a scale of its own.",
        alt="Penultimate features of three classes projected onto the plane through their templates, training and "
        "validation rows of every arm",
        columns=_table(("arm", "seed", "rows", "kind", "class", "x", "y"), rows),
        constants={"classes": list(names)},
    )


def gap(study: Study) -> Figure:
    """Measured logit gaps against ε, and the optimal gap."""
    eps = _eps(study)
    rows = [
        (arm, trial.config.seed, eps[arm], part, _short(measured))
        for arm, trial in _trials(study)
        for part, measured in (
            ("train", trial.metrics.train_gap),
            ("validation", trial.metrics.validation_gap),
        )
    ]
    num_classes = len(study.data.class_names)
    curve = gap_curves([num_classes], convention="uniform")
    # the curve is coarse where it is steep
    steep = np.geomspace(1e-12, curve.eps[0], 80, endpoint=False).tolist()
    points = [(value, optimal_gap(value, num_classes)) for value in steep]
    points += zip(curve.eps.tolist(), curve.gap[0].tolist(), strict=True)
    return Figure(
        name="gap",
        title="Logit gap, measured and optimal",
        caption="Mean gap between the label's logit and the mean of the others, one point for each chosen seed: filled on the "
        "training, hollow on the validation rows. The curve is the gap at which the smoothed loss is lowest, "
        f"log(1 + K(1−ε)/ε) with K = {num_classes}; for hard labels there is none.",
        alt="Measured logit gap against the amount of smoothing, over the curve of the optimal gap",
        columns=_table(("arm", "seed", "eps", "rows", "gap"), rows),
        constants={
            "curve": [[_short(x), _short(y)] for x, y in points],
            "curve_name": f"optimum, K = {num_classes}",
        },
    )


def curves(study: Study) -> Figure:
    """Training objective, validation NLL and validation accuracy against the epoch."""
    names = ("train_loss", "train_accuracy", "validation_nll", "validation_accuracy")
    rows = [
        (arm, trial.config.seed, epoch, *(_short(value) for value in values))
        for arm, trial in _trials(study)
        for epoch, values in enumerate(
            zip(*(getattr(trial.metrics.curves, name) for name in names), strict=True), start=1
        )
    ]
    titles = (
        "training objective (nats)",
        "training accuracy (%)",
        "validation NLL (nats)",
        "validation accuracy (%)",
    )
    return Figure(
        name="curves",
        title="Training",
        caption="A thin line for each chosen seed, a thick one for their mean. The objectives of different ε cannot be compared "
        "with each other: a smoothed one cannot fall below the entropy of its targets. Training loss and accuracy are "
        "averages over the epoch, as the weights moved.",
        alt="Training objective, training accuracy, validation NLL and validation accuracy against the epoch",
        columns=_table(("arm", "seed", "epoch", *names), rows),
        constants={
            "series": [
                {"name": name, "title": title, "percent": name.endswith("accuracy")}
                for name, title in zip(names, titles, strict=True)
            ]
        },
    )


def has_plane(study: Study) -> bool:
    """Whether there are three classes, whose templates span a plane."""
    return len(study.data.class_names) >= 3


def projection_of(trial: Trial, part: Part) -> PlaneProjection:
    """The stored features of three classes in the plane through the templates of these classes."""
    arrays = trial.arrays
    train = part == "train"
    return plane_projection(
        arrays.train_features if train else arrays.validation_features,
        arrays.train_feature_labels if train else arrays.validation_feature_labels,
        arrays.classifier_weight,
        arrays.classifier_bias,
        arrays.feature_classes.tolist(),
    )


def trials_of(study: Study, eps: float) -> list[Trial]:
    """The trials of one ε, by seed."""
    return [trial for trial in study.trials if trial.config.eps == eps]


def _eps(study: Study) -> list[float]:
    return sorted(study.recipe.eps)


def _arm_name(eps: float) -> str:
    return f"smoothed ε = {eps:g}" if eps else "hard"


def _trials(study: Study) -> list[tuple[int, Trial]]:
    """Each trial with the place of its arm."""
    return [(arm, trial) for arm, eps in enumerate(_eps(study)) for trial in trials_of(study, eps)]


def _table(names: Sequence[str], rows: Iterable[Sequence[Cell]]) -> dict[str, list[Cell]]:
    columns: dict[str, list[Cell]] = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            columns[name].append(value)
    return columns


def _short(value: float, digits: int = 7) -> float | None:
    """As many digits as a figure can use; what is not finite is left empty."""
    value = float(value)
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
