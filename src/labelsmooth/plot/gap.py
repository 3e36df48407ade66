"""The optimal logit gap against ε, the figure that shows what a choice of ε asks of the logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from labelsmooth.measure import logit_gaps
from labelsmooth.measure.inputs import Array
from labelsmooth.plot.display import Columns, Panel
from labelsmooth.plot.style import (
    COLOURS,
    GREY,
    LABEL,
    TEXT,
    axes_or_new,
    cycle_colours,
    finish,
    legend_below,
)
from labelsmooth.theory import GapCurves, optimal_gap

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_gap(curves: GapCurves, ax: Axes | None = None) -> Axes:
    """Draw the optimal logit gap, in nats, against ε: one line for each number of classes.

    Args:
        curves: from `theory.gap_curves`.
        ax: the axes to draw on; None makes a figure.

    Returns:
        The axes, with the marked ε as a vertical line and its gaps as numbers.

    Raises:
        ImportError: matplotlib is not installed; `labelsmooth[study]` brings it.

    Example:
        >>> from labelsmooth.theory import gap_curves
        >>> from matplotlib.figure import Figure
        >>> ax = plot_gap(gap_curves([10, 100, 1000]), Figure().subplots())
        >>> len(ax.lines)
        4

    Source: He et al. 2019, Bag of Tricks for Image Classification, Fig. 4a.
    """
    ax = axes_or_new(ax, 5.2, 3.9)
    import matplotlib as mpl

    # the light end of the palette is too faint for a line on white
    shades = mpl.colormaps["viridis_r"](np.linspace(0.35, 0.95, len(curves.num_classes)))
    on_the_right = curves.marked_eps > 0.5
    ax.axvline(curves.marked_eps, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate(
        f"ε = {curves.marked_eps:g}",
        (curves.marked_eps, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if on_the_right else 4, -4),
        textcoords="offset points",
        ha="right" if on_the_right else "left",
        va="top",
        color=GREY,
        fontsize=TEXT,
    )
    # the names of the lines keep clear of the numbers at the mark
    named = int(np.searchsorted(curves.eps, 0.2 if on_the_right else 0.6))
    order = np.argsort(curves.num_classes)
    for shade, c in zip(shades, order, strict=True):
        ax.plot(curves.eps, curves.gap[c], color=shade, linewidth=1.8, zorder=2)
        ax.annotate(
            f"K = {_digits(int(curves.num_classes[c]))}",
            (curves.eps[named], curves.gap[c, named]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="left",
            color=shade,
            fontsize=LABEL,
        )
        if np.isfinite(curves.marked_gap[c]):
            ax.scatter(curves.marked_eps, curves.marked_gap[c], s=22, color=[shade], zorder=3)
            ax.annotate(
                f"{curves.marked_gap[c]:.2f}".replace("-", "−"),
                (curves.marked_eps, curves.marked_gap[c]),
                xytext=(-5, -11) if on_the_right else (5, 3),
                textcoords="offset points",
                ha="right" if on_the_right else "left",
                color=shade,
                fontsize=TEXT,
            )
    ax.set_xlim(0, 1)
    ax.grid(color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_title(f"convention: {curves.convention}", fontsize=LABEL)
    finish(ax, "smoothing ε", "optimal logit gap (nats)")
    return ax


def plot_measured_gap(
    curves: GapCurves,  # of one number of classes
    eps: npt.NDArray[np.float64],  # (E,)
    gaps: Mapping[str, npt.NDArray[np.float64]],  # each (E, seeds)
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean logit gaps of trained networks, in nats, at their ε over the optimal gap.

    Args:
        curves: from `theory.gap_curves`, of one number of classes.
        eps: the ε that were trained with.
        gaps: by the name of the rows they were measured on, a row for each ε and a column for each seed.
        ax: the axes to draw on; None makes a figure.

    Returns:
        The axes, with the optimal gap as a line and one collection of points for each name.

    Raises:
        ImportError: matplotlib is not installed; `labelsmooth[study]` brings it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from labelsmooth.theory import gap_curves
        >>> gaps = {"train": np.array([[9.0, 9.2], [4.4, 4.5]])}
        >>> ax = plot_measured_gap(gap_curves([10]), np.array([0.0, 0.1]), gaps, Figure().subplots())
        >>> len(ax.collections[0].get_offsets())
        4
    """
    ax = axes_or_new(ax, width=5.6, height=3.8)
    highest = max(float(values.max()) for values in gaps.values())
    widest = max(0.02, float(eps.max()))
    shown = (curves.eps <= 1.25 * widest) & (curves.gap[0] <= 1.3 * highest)
    classes = _digits(int(curves.num_classes[0]))
    ax.plot(
        curves.eps[shown], curves.gap[0, shown], color=GREY, linewidth=1.5, label=f"optimum, K = {classes}"
    )
    for (name, values), colour, marker, side in zip(
        gaps.items(), COLOURS, "os^D", (-1, 1, -2, 2), strict=False
    ):
        # names stand beside each other, not on top
        at = np.repeat(eps + 0.006 * side * widest, values.shape[1])
        ax.scatter(at, values.ravel(), s=22, marker=marker, color=colour, alpha=0.8, linewidths=0, label=name)
    ax.set_xlim(-0.05 * widest, 1.25 * widest)
    ax.set_ylim(bottom=0)
    ax.grid(color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.legend(fontsize=TEXT, frameon=False)
    finish(ax, "smoothing ε", "logit gap (nats)")
    return ax


@dataclass(eq=False, kw_only=True)
class GapDisplay(Panel):
    """The distribution of logit gaps over rows, in nats, with theory's optimum for given ε as grey lines.

    A second display on the same axes takes the next colour.

    Args:
        edges: (B + 1,) of the histogram.
        count: (B,) rows in each bin.
        eps: (E,) the ε whose optima are drawn.
        optimum: (E,) their gaps; that of ε = 0 is infinite and not drawn.
        name: of the rows, for the legend.
    """

    edges: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    eps: npt.NDArray[np.float64]
    optimum: npt.NDArray[np.float64]
    name: str | None = None

    @classmethod
    def from_predictions(
        cls,
        logits: Array,  # (..., K)
        target: Array,  # (...)
        *,
        eps: Sequence[float] = (),
        convention: str = "uniform",
        num_bins: int = 60,
        name: str | None = None,
        ax: Axes | None = None,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> Self:
        """Histogram the gaps of `measure.logit_gaps` and draw.

        Args:
            logits: (…, K) finite floats.
            target: (…) integers in 0..K−1, or `ignore_index`.
            eps: the ε in [0, 1] whose optimal gaps to draw.
            convention: of these ε, as in `theory.target`.
            num_bins: of equal width, from the smallest gap to the largest.
            name: of the rows, for the legend.
            ax: to draw on; None makes a new figure.
            ignore_index: the target whose rows are left out; None for none.
            class_axis: where the K logits of a row lie, 1 for maps (N, K, H, W).

        Raises:
            TypeError, ValueError: as `measure.logit_gaps` and `theory.optimal_gap`.

        Example:
            >>> import torch
            >>> from matplotlib.figure import Figure
            >>> logits = torch.tensor([[3.0, 1.0, -1.0], [0.0, 4.0, 2.0]])
            >>> display = GapDisplay.from_predictions(
            ...     logits, torch.tensor([0, 1]), eps=[0.1], ax=Figure().subplots()
            ... )
            >>> display.optimum.round(3)
            array([3.332])
        """
        gaps = logit_gaps(logits, target, ignore_index=ignore_index, class_axis=class_axis)
        count, edges = np.histogram(gaps, num_bins)
        num_classes = logits.shape[class_axis]
        return cls(
            edges=edges,
            count=count,
            eps=np.array(eps, dtype=np.float64),
            optimum=np.array([optimal_gap(e, num_classes, convention) for e in eps], dtype=np.float64),
            name=name,
        ).plot(ax)

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """(B,) the share of rows per nat."""
        density: npt.NDArray[np.float64] = self.count / (self.count.sum() * np.diff(self.edges))
        return density

    def _columns(self) -> Columns:
        return {
            "low": self.edges[:-1],
            "high": self.edges[1:],
            "count": self.count,
            "density": self.density,
        }

    def _draw(self, ax: Axes | None) -> Axes:
        ax = axes_or_new(ax, height=3.2)
        lowest_top = ax.get_ylim()[1] if ax.has_data() else 0.0
        cycle_colours(ax)
        drawn = {line.get_label() for line in ax.lines}
        name = None if self.name is None else self.name.replace("$", r"\$")  # no mathematics
        steps = ax.stairs(self.density, self.edges, linewidth=1.5, label=name, zorder=3)
        ax.stairs(self.density, self.edges, fill=True, alpha=0.2, color=steps.get_edgecolor())
        dashes = cycle([(0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), "solid"])
        for eps, optimum, dash in zip(self.eps, self.optimum, dashes, strict=False):
            label = f"optimum, ε = {eps:g}"
            if np.isfinite(optimum) and label not in drawn:
                ax.axvline(optimum, color=GREY, linewidth=1.2, linestyle=dash, label=label, zorder=2)
        ax.set_ylim(0, max(lowest_top, 1.05 * float(self.density.max())))
        finish(ax, "logit gap (nats)", "density of rows (1/nat)")
        legend_below(ax, columns=2)
        return ax


def _digits(number: int) -> str:
    """Thousands apart by a narrow space, as ISO 80000 writes them."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if number >= 10_000 else str(number)
