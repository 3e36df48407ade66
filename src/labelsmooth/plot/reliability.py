"""The reliability diagram: accuracy against confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.measure import Calibration, ClasswiseBins, ReliabilityBins
from labelsmooth.measure.functional import Rows, count
from labelsmooth.measure.inputs import Array
from labelsmooth.plot.display import AxesGrid, Columns, Panel, Panels
from labelsmooth.plot.style import (
    BLUE,
    BLUE_TINT,
    COLOURS,
    GREY,
    TEXT,
    VERMILLION,
    VERMILLION_TINT,
    axes_or_new,
    finish,
    legend_below,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the strip of shares hangs below 0, where no accuracy can be
_STRIP_TOP, _STRIP_BOTTOM = -0.03, -0.18

# marks the texts of ECEs, one for each model
_ECE = "ece"

# panels of a figure that fits on a page
_MOST_PANELS = 12


def plot_reliability(bins: ReliabilityBins, ax: Axes | None = None, name: str | None = None) -> Axes:
    """Draw a reliability diagram: each bin's accuracy, and how far it is from the mean confidence, in 0..1.

    Bars reach up to the bin's accuracy. What is hatched goes from there to the bin's mean confidence: above
    the bar where the classifier is over-confident, down inside the bar where it is under-confident. The ECE
    is the mean of |hatched| over rows. The strip underneath shows each bin's share of the rows, relative to
    the fullest bin.

    On axes that hold such a diagram already, the bins of another model are points joined by a line, at their
    mean confidence and accuracy, and its ECE stands below those of the others, in the colour of the line.

    Args:
        bins: of `Calibration.compute`.
        ax: to draw on; None makes a new figure.
        name: of the model, for the legend and beside its ECE.

    Returns:
        The axes, with the ECE in a corner. Its containers are labelled "accuracy", or the name,
        "over-confident", "under-confident" and "share".

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
    shown = None if name is None else name.replace("$", r"\$")
    earlier = sum(text.get_gid() == _ECE for text in ax.texts)
    colour, height = "black", 0.965 - 0.075 * earlier
    if earlier == 0:
        _draw_bars(bins, ax, shown or "accuracy")
    else:
        colour = COLOURS[(earlier + 1) % len(COLOURS)]  # the first two are those of the bars
        _draw_line(bins, ax, colour, shown or f"model {earlier + 1}")
    _write(
        ax,
        height,
        f"ECE {bins.ece:.3f}" + ("" if shown is None else f", {shown}"),
        color=colour,
        weight="bold",
        gid=_ECE,
    )
    if earlier == 0:
        strip = (_STRIP_TOP + _STRIP_BOTTOM) / 2
        _write(ax, strip, f"share of {bins.count.sum():,} rows", color=GREY)
    lowest = height - 0.04
    place = (0.01, (lowest - _STRIP_BOTTOM) / (1 - _STRIP_BOTTOM))
    legend_below(ax, columns=2 if earlier else 3, hidden=["share"], inside=place)
    return ax


def _draw_line(bins: ReliabilityBins, ax: Axes, colour: str, name: str) -> None:
    filled = bins.count > 0
    ax.plot(
        bins.confidence[filled],
        bins.accuracy[filled],
        color=colour,
        linewidth=1.5,
        marker="o",
        markersize=4,
        label=name,
        zorder=3,
    )


def _write(ax: Axes, height: float, text: str, **style: Any) -> None:
    box = {"facecolor": (1, 1, 1, 0.85), "edgecolor": "none", "pad": 1}
    ax.text(0.02, height, text, va="center", fontsize=TEXT, bbox=box, **style)


def _draw_bars(bins: ReliabilityBins, ax: Axes, name: str) -> None:
    filled = bins.count > 0
    left, width = bins.edges[:-1][filled], np.diff(bins.edges)[filled]
    accuracy, gap = bins.accuracy[filled], (bins.confidence - bins.accuracy)[filled]

    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    ax.bar(left, accuracy, width, align="edge", color=BLUE, edgecolor="white", linewidth=0.6, label=name)
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
    ax.bar(
        bins.edges[:-1],
        bins.share / bins.share.max() * (_STRIP_TOP - _STRIP_BOTTOM),
        np.diff(bins.edges),
        bottom=_STRIP_BOTTOM,
        align="edge",
        color=GREY,
        edgecolor="white",
        linewidth=0.6,
        label="share",
    )
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xlim(0, 1)
    ax.set_ylim(_STRIP_BOTTOM, 1)
    ax.set_aspect("equal")
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set_yticks(np.linspace(0, 1, 6))
    finish(ax, "confidence", "accuracy")


@dataclass(eq=False, kw_only=True)
class ReliabilityDisplay(Panel):
    """The reliability diagram of `plot_reliability`, from predictions or from bins.

    Args:
        bins: of `Calibration.compute`.
        name: of the model, for the legend.
    """

    bins: ReliabilityBins
    name: str | None = None

    @classmethod
    def from_predictions(
        cls,
        predictions: Array,  # (..., K)
        target: Array,  # (...)
        *,
        num_bins: int = 15,
        name: str | None = None,
        ax: Axes | None = None,
        **rows: Unpack[Rows],
    ) -> Self:
        """Bin rows with `Calibration` and draw.

        Args:
            predictions: (…, K) floats: logits, or probabilities with `probs=True`.
            target: (…) integers in 0..K−1, or `ignore_index`.
            num_bins: of equal width; `from_bins` draws others.
            name: of the model, for the legend.
            ax: to draw on; None makes a new figure.
            **rows: `probs`, `weight`, `ignore_index` and `class_axis` of `measure.functional.Rows`.

        Raises:
            TypeError, ValueError: as `Calibration.update`, or there is no row.

        Example:
            >>> import torch
            >>> from matplotlib.figure import Figure
            >>> logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
            >>> display = ReliabilityDisplay.from_predictions(logits, target, ax=Figure().subplots())
            >>> display.bins.count.sum(), display.ax_.get_xlabel()
            (np.int64(2), 'confidence')
        """
        calibration = Calibration(num_bins)
        count(calibration, predictions, target, rows)
        return cls.from_bins(calibration.compute().bins, name=name, ax=ax)

    @classmethod
    def from_bins(cls, bins: ReliabilityBins, *, name: str | None = None, ax: Axes | None = None) -> Self:
        """Draw bins that `Calibration.compute` gave."""
        return cls(bins=bins, name=name).plot(ax)

    def _columns(self) -> Columns:
        return self.bins.columns()

    def _draw(self, ax: Axes | None) -> Axes:
        return plot_reliability(self.bins, ax, self.name)


@dataclass(eq=False, kw_only=True)
class ClasswiseReliabilityDisplay(Panels):
    """A small diagram for each of some classes: how often rows are of it, against its probability.

    A point is a bin of all rows by the probability of the class, its area in proportion to the bin's share of
    the rows, and a line joins the bins. The number in a corner is the ECE of the class.

    Args:
        bins: of a `Calibration` with `classwise=True`.
        classes: (C,) whose panels are drawn, in this order.
        class_names: the name of every class, looked up by class number; None writes the numbers.
    """

    bins: ClasswiseBins
    classes: npt.NDArray[np.int64]
    class_names: Sequence[str] | None = None

    @classmethod
    def from_predictions(
        cls,
        predictions: Array,  # (..., K)
        target: Array,  # (...)
        *,
        classes: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        num_bins: int = 10,
        ax: npt.ArrayLike | None = None,
        **rows: Unpack[Rows],
    ) -> Self:
        """Bin rows with `Calibration`, class by class, and draw.

        Args:
            predictions: (…, K) floats: logits, or probabilities with `probs=True`.
            target: (…) integers in 0..K−1, or `ignore_index`.
            classes: to draw; None takes all, or the 12 of the largest ECE where there are more.
            class_names: the name of every class.
            num_bins: of equal width; `from_bins` draws others.
            ax: an array of ⌈C/3⌉×3 axes for C classes (1×C for fewer than three); None makes a new figure.
            **rows: `probs`, `weight`, `ignore_index` and `class_axis` of `measure.functional.Rows`.

        Raises:
            TypeError, ValueError: as `Calibration.update`, there is no row, or there is no such class.

        Example:
            >>> import torch
            >>> from matplotlib.figure import Figure
            >>> logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
            >>> axes = Figure().subplots(1, 2)
            >>> display = ClasswiseReliabilityDisplay.from_predictions(logits, target, ax=axes)
            >>> display.bins.ece.round(3)
            array([0.425, 0.425])

        Source: Kull et al. 2019, "Beyond temperature scaling", §2.
        """
        calibration = Calibration(num_bins, classwise=True)
        count(calibration, predictions, target, rows)
        bins = calibration.compute().classwise
        assert bins is not None
        return cls.from_bins(bins, classes=classes, class_names=class_names, ax=ax)

    @classmethod
    def from_bins(
        cls,
        bins: ClasswiseBins,
        *,
        classes: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        ax: npt.ArrayLike | None = None,
    ) -> Self:
        """Draw bins that `Calibration.compute` gave."""
        num_classes = len(bins.count)
        if classes is None:
            chosen = np.arange(num_classes)
            if num_classes > _MOST_PANELS:
                chosen = np.argsort(-bins.ece, kind="stable")[:_MOST_PANELS]
        else:
            chosen = np.asarray(classes, dtype=np.int64)
            outside = chosen[(chosen < 0) | (chosen >= num_classes)]
            if outside.size or not chosen.size:
                raise InputError(f"classes must lie in 0..{num_classes - 1}, got {list(classes)}")
        return cls(bins=bins, classes=chosen, class_names=class_names).plot(ax)

    def _columns(self) -> Columns:
        return self.bins.columns(self.classes)

    def _grid(self) -> tuple[int, int, float, float]:
        columns = min(3, len(self.classes))
        rows = -(-len(self.classes) // columns)
        return rows, columns, 3.5, 1.25 * rows + 0.3

    def _draw(self, axes: AxesGrid) -> None:
        columns = axes.shape[1]
        for panel, ax in enumerate(axes.flat):
            if panel >= len(self.classes):
                ax.set_visible(False)
                continue
            label = int(self.classes[panel])
            filled = self.bins.count[label] > 0
            x, y = self.bins.confidence[label][filled], self.bins.frequency[label][filled]
            ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
            ax.plot(x, y, color=BLUE, linewidth=1, zorder=2)
            # the smallest can still be seen
            ax.scatter(x, y, s=4 + 60 * self.bins.share[label][filled], color=BLUE, linewidths=0, zorder=3)
            # in the corner that the line keeps away from
            above = float((y - x).sum()) > 0
            ax.text(
                1 if above else 0,
                0 if above else 1,
                f"{self.bins.ece[label]:.3f}",
                ha="right" if above else "left",
                va="bottom" if above else "top",
                fontsize=TEXT,
            )
            name = str(label) if self.class_names is None else self.class_names[label].replace("$", r"\$")
            ax.set_title(name, fontsize=TEXT, pad=3)
            ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
            ax.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            below = panel + columns >= len(self.classes)
            left = panel % columns == 0
            # ticks carry their numbers at the edge of the grid alone
            ax.set_xticklabels(["0", "0.5", "1"] if below else [])
            ax.set_yticklabels(["0", "0.5", "1"] if left else [])
            last = panel // columns == axes.shape[0] - 1
            finish(ax, "probability" if last else "", "frequency" if left else "")
