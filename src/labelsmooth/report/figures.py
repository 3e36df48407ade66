"""The pictures of a report, each as one SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from labelsmooth.measure import Calibration, PlaneProjection, ReliabilityBins, plane_projection
from labelsmooth.plot import (
    ProjectionDisplay,
    plot_measured_gap,
    plot_reliability,
    plot_training_curves,
)
from labelsmooth.study import Objective, Study, Trial
from labelsmooth.theory import gap_curves

Part = Literal["train", "validation"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_svg(study: Study, arms: Sequence[str]) -> str:
    """Reliability on the test rows of all seeds, a column for each arm, before and after temperature."""
    figure = new_figure(3.4 * len(arms), 7.0)
    axes = figure.subplots(2, len(arms), squeeze=False)
    for column, arm in enumerate(arms):
        for row, scaled in enumerate((False, True)):
            ax = plot_reliability(_pooled_bins(study.arms()[arm], scaled), axes[row, column])
            ax.set_title(f"{_name(arm)}{', with temperature' if scaled else ''}", fontsize=10)
    return to_svg(figure)


def projection_svg(study: Study, arms: Sequence[str]) -> str:
    """Penultimate features of three classes in the plane through their templates, of the first seed."""
    figure = new_figure(7.2, 3.5 * len(arms))
    parts: tuple[tuple[Part, str], ...] = (("train", "training rows"), ("validation", "validation rows"))
    projections = {
        _name(arm): {words: projection_of(study.arms()[arm][0], part) for part, words in parts}
        for arm in arms
    }
    axes = figure.subplots(len(arms), 2, squeeze=False)
    ProjectionDisplay.from_projections(projections, class_names=study.data.class_names, ax=axes)
    return to_svg(figure)


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


def gap_svg(study: Study) -> str:
    """Measured logit gaps against ε over the curve of the optimal gap."""
    figure = new_figure(5.6, 3.8)
    eps = sorted(study.recipe.eps)
    metrics = [[trial.metrics for trial in study.arms()[str(Objective.uniform(value))]] for value in eps]
    plot_measured_gap(
        gap_curves([len(study.data.class_names)], convention="uniform"),
        np.array(eps),
        {
            "training rows": np.array([[m.train_gap for m in row] for row in metrics]),
            "validation rows": np.array([[m.validation_gap for m in row] for row in metrics]),
        },
        figure.subplots(),
    )
    return to_svg(figure)


def curves_svg(study: Study) -> str:
    """Training loss, validation NLL and validation accuracy against the epoch, mean ± sd over seeds."""
    figure = new_figure(10.5, 3.0)
    for ax, name, label in zip(
        figure.subplots(1, 3),
        ("train_loss", "validation_nll", "validation_accuracy"),
        ("training objective (nats)", "validation NLL (nats)", "validation accuracy"),
        strict=True,
    ):
        series = {
            _name(arm): [getattr(trial.metrics.curves, name) for trial in trials]
            for arm, trials in study.arms().items()
        }
        plot_training_curves(series, label, ax)
    return to_svg(figure)


def _name(arm: str) -> str:
    return Objective.parse(arm).name


def _pooled_bins(trials: Sequence[Trial], scaled: bool) -> ReliabilityBins:
    calibration = Calibration()
    for trial in trials:
        arrays = trial.arrays
        logits = arrays.test_logits.astype(np.float64)
        calibration.update(logits / trial.metrics.temperature if scaled else logits, arrays.test_labels)
    return calibration.compute().bins


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure) -> str:
    """The figure as SVG, the same bytes for the same numbers."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "labelsmooth"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
