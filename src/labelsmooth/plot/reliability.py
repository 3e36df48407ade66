"""The reliability diagram: accuracy against confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from labelsmooth.measure import Calibration, ReliabilityBins
from labelsmooth.measure.calibration import Edges
from labelsmooth.measure.inputs import Array
from labelsmooth.plot.display import Columns, Panel
from labelsmooth.plot.style import (
    BLUE,
    BLUE_TINT,
    GREY,
    TEXT,
    VERMILLION,
    VERMILLION_TINT,
    axes_or_new,
    finish,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the strip of shares hangs below 0, where no accuracy can be
_STRIP_TOP, _STRIP_BOTTOM = -0.03, -0.18


def plot_reliability(bins: ReliabilityBins, ax: Axes | None = None) -> Axes:
    """Draw a reliability diagram: each bin's accuracy, and how far it is from the mean confidence, in 0..1.

    Bars reach up to the bin's accuracy. What is hatched goes from there to the bin's mean confidence: above
    the bar where the classifier is over-confident, down inside the bar where it is under-confident. The ECE
    is the mean of |hatched| over rows. The strip underneath shows each bin's share of the rows, relative to
    the fullest bin.

    Args:
        bins: of `Calibration.compute`.
        ax: to draw on; None makes a new figure.

    Returns:
        The axes, with the ECE in a corner. Its containers are labelled "accuracy", "over-confident",
        "under-confident" and "share".

    Cost: some dozens of artists, whatever the number of rows.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from labelsmooth.measure import Calibration
        >>> calibration = Calibration()
        >>> calibration.update_probs(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 1]))
        >>> ax = plot_reliability(calibration.compute().bins, Figure().subplots())
        >>> ax.texts[0].get_text()
        'ECE 0.200'

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", fig. 1; there the gaps go to the
    diagonal, here to the mean confidence, which is what the ECE sums.
    """
    ax = axes_or_new(ax)
    filled = bins.count > 0
    left, width = bins.edges[:-1][filled], np.diff(bins.edges)[filled]
    accuracy, gap = bins.accuracy[filled], (bins.confidence - bins.accuracy)[filled]

    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    ax.bar(
        left, accuracy, width, align="edge", color=BLUE, edgecolor="white", linewidth=0.6, label="accuracy"
    )
    for label, colour, tint, chosen in (
        ("over-confident", VERMILLION, VERMILLION_TINT, gap > 0),
        # in the hue of the accuracy, as it is a part of that bar
        ("under-confident", BLUE, BLUE_TINT, gap < 0),
    ):
        ax.bar(
            left[chosen],
            gap[chosen],
            width[chosen],
            bottom=accuracy[chosen],
            align="edge",
            facecolor=tint,
            edgecolor=colour,
            linewidth=0.8,
            hatch="////",
            label=label,
        )
    named = [container for container in ax.containers if len(container)]
    ax.bar(
        bins.edges[:-1],
        bins.count / bins.count.max() * (_STRIP_TOP - _STRIP_BOTTOM),
        np.diff(bins.edges),
        bottom=_STRIP_BOTTOM,
        align="edge",
        color=GREY,
        edgecolor="white",
        linewidth=0.6,
        label="share",
    )
    ax.axhline(0, color="black", linewidth=0.8)
    for text, height, colour, weight in (
        (f"ECE {bins.ece:.3f}", 0.965, "black", "bold"),
        (f"share of {bins.count.sum():,} rows", (_STRIP_TOP + _STRIP_BOTTOM) / 2, GREY, "normal"),
    ):
        ax.text(
            0.02,
            height,
            text,
            va="center",
            fontsize=TEXT,
            color=colour,
            weight=weight,
            bbox={"facecolor": (1, 1, 1, 0.85), "edgecolor": "none", "pad": 1},
        )
    # below the picture, where it hides no bar
    ax.legend(
        handles=named,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.15),
        ncols=3,
        fontsize=TEXT,
        frameon=False,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=1,
    )
    ax.set_xlim(0, 1)
    ax.set_ylim(_STRIP_BOTTOM, 1)
    ax.set_aspect("equal")
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set_yticks(np.linspace(0, 1, 6))
    finish(ax, "confidence", "accuracy")
    return ax


@dataclass(eq=False, kw_only=True)
class ReliabilityDisplay(Panel):
    """The reliability diagram of `plot_reliability`, from predictions or from bins.

    Args:
        bins: of `Calibration.compute`.
    """

    bins: ReliabilityBins

    @classmethod
    def from_predictions(
        cls,
        logits: Array,  # (..., K)
        target: Array,  # (...)
        *,
        num_bins: int = 15,
        edges: Edges = "left_open",
        ax: Axes | None = None,
    ) -> Self:
        """Bin rows of logits with `Calibration` and draw.

        Args:
            logits: (…, K) floats.
            target: (…) integers in 0..K−1.
            num_bins, edges: as in `Calibration`.
            ax: to draw on; None makes a new figure.

        Raises:
            TypeError, ValueError: as `Calibration` and its `update`, or there is no row.

        Example:
            >>> import torch
            >>> from matplotlib.figure import Figure
            >>> logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
            >>> display = ReliabilityDisplay.from_predictions(logits, target, ax=Figure().subplots())
            >>> display.bins.count.sum(), display.ax_.get_xlabel()
            (np.int64(2), 'confidence')
        """
        calibration = Calibration(num_bins, edges)
        calibration.update(logits, target)
        return cls.from_bins(calibration.compute().bins, ax=ax)

    @classmethod
    def from_probs(
        cls,
        probs: Array,  # (..., K)
        target: Array,  # (...)
        *,
        num_bins: int = 15,
        edges: Edges = "left_open",
        ax: Axes | None = None,
    ) -> Self:
        """The same from rows of probabilities."""
        calibration = Calibration(num_bins, edges)
        calibration.update_probs(probs, target)
        return cls.from_bins(calibration.compute().bins, ax=ax)

    @classmethod
    def from_bins(cls, bins: ReliabilityBins, *, ax: Axes | None = None) -> Self:
        """Draw bins that `Calibration.compute` gave."""
        return cls(bins=bins).plot(ax)

    def _columns(self) -> Columns:
        bins = self.bins
        return {
            "low": bins.edges[:-1],
            "high": bins.edges[1:],
            "count": bins.count,
            "confidence": bins.confidence,
            "accuracy": bins.accuracy,
        }

    def _draw(self, ax: Axes | None) -> Axes:
        return plot_reliability(self.bins, ax)
