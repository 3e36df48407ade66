"""The pictures of an audit, each as one SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from labelsmooth.audit import Measured
from labelsmooth.extras import needs_extra
from labelsmooth.plot import GapDisplay, RiskCoverageDisplay, plot_projection, plot_reliability
from labelsmooth.plot.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS = 3  # reliability diagrams side by side
_TITLE, _LEGEND = 36, 48  # letters of a name in a line


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
    figure = _new_figure(3.4 * across, 3.7 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for (title, bins), ax in zip(panels, axes, strict=False):
        plot_reliability(bins, ax).set_title(_title(title), fontsize=10)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return _to_svg(figure)


def risk_coverage_svg(models: Sequence[Measured]) -> str:
    """Risk against coverage of all models, with the oracle and a random order.

    Their repairs too, as long as no two lines get the same colour.
    """
    figure = _new_figure(7.2, 3.6)
    ax = figure.subplots()
    repairs = sum(model.curve_repaired is not None for model in models)
    for model in models:
        RiskCoverageDisplay.from_result(model.curve, name=_in_legend(model.name), ax=ax)
        if model.curve_repaired is not None and len(models) + repairs <= len(COLOURS):
            RiskCoverageDisplay.from_result(
                model.curve_repaired, name=_in_legend(f"{model.name}, p-norm"), ax=ax
            )
    return _to_svg(figure)


def gap_svg(models: Sequence[Measured]) -> str:
    """How the logit gaps of the rows are distributed."""
    figure = _new_figure(7.2, 3.4)
    ax = figure.subplots()
    for model in models:
        GapDisplay(
            edges=model.gaps.edges,
            count=model.gaps.count,
            eps=np.zeros(0),
            optimum=np.zeros(0),
            name=_in_legend(model.name),
        ).plot(ax)
    return _to_svg(figure)


def projection_svg(models: Sequence[Measured]) -> str:
    """Penultimate features of three classes in the plane through their templates."""
    across = min(_ACROSS, len(models))
    down = -(-len(models) // across)
    figure = _new_figure(3.6 * across, 3.7 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for model, ax in zip(models, axes, strict=False):
        assert model.projection is not None
        plot_projection(model.projection, ax).set_title(_title(model.name), fontsize=10)
    for ax in axes[len(models) :]:
        ax.set_axis_off()
    return _to_svg(figure)


def _title(name: str) -> str:
    return "\n".join(wrap(name, _TITLE)).replace("$", r"\$")  # a dollar in a name is no mathematics


def _in_legend(name: str) -> str:
    return "\n".join(wrap(name, _LEGEND))  # the displays see to dollars


def _new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    with needs_extra("audit"):
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _to_svg(figure: Figure) -> str:
    """The figure as SVG, the same bytes for the same numbers."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "labelsmooth"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
