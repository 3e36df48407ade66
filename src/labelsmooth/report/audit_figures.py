"""The pictures of an audit, each as one SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelsmooth.audit import Measured
from labelsmooth.plot import GapDisplay, RiskCoverageDisplay, plot_projection, plot_reliability
from labelsmooth.report.figures import new_figure, to_svg

_ACROSS = 3  # reliability diagrams side by side


def reliability_svg(models: Sequence[Measured]) -> str:
    """Reliability of every model: all rows, and with temperature where one was told."""
    panels = [(model.name, model.calibration.bins) for model in models]
    panels += [
        (f"{model.name}, with temperature", model.calibration_after.bins)
        for model in models
        if model.calibration_after is not None
    ]
    across = min(_ACROSS, len(models) if len(models) > 1 else len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(3.4 * across, 3.7 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for (title, bins), ax in zip(panels, axes, strict=False):
        plot_reliability(bins, ax).set_title(_plain(title), fontsize=10)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return to_svg(figure)


def risk_coverage_svg(models: Sequence[Measured]) -> str:
    """Risk against coverage of all models, and of their repairs, with the oracle and a random order."""
    figure = new_figure(7.2, 3.6)
    ax = figure.subplots()
    for model in models:
        RiskCoverageDisplay.from_result(model.curve, name=_plain(model.name), ax=ax)
        if model.curve_repaired is not None:
            RiskCoverageDisplay.from_result(model.curve_repaired, name=f"{_plain(model.name)}, p-norm", ax=ax)
    return to_svg(figure)


def gap_svg(models: Sequence[Measured]) -> str:
    """How the logit gaps of the rows are distributed."""
    figure = new_figure(7.2, 3.4)
    ax = figure.subplots()
    for model in models:
        GapDisplay(
            edges=model.gaps.edges,
            count=model.gaps.count,
            eps=np.zeros(0),
            optimum=np.zeros(0),
            name=_plain(model.name),
        ).plot(ax)
    return to_svg(figure)


def projection_svg(models: Sequence[Measured]) -> str:
    """Penultimate features of three classes in the plane through their templates."""
    across = min(_ACROSS, len(models))
    down = -(-len(models) // across)
    figure = new_figure(3.6 * across, 3.7 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for model, ax in zip(models, axes, strict=False):
        assert model.projection is not None
        plot_projection(model.projection, ax).set_title(_plain(model.name), fontsize=10)
    for ax in axes[len(models) :]:
        ax.set_axis_off()
    return to_svg(figure)


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # a dollar in a name is no mathematics
