"""The optimal logit gap against ε, the figure that shows what a choice of ε asks of the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labelsmooth.plot.style import COLOURS, GREY, LABEL, TEXT, axes_or_new, finish
from labelsmooth.theory import GapCurves

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
    import matplotlib as mpl

    ax = axes_or_new(ax, 5.2, 3.9)
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


def _digits(number: int) -> str:
    """Thousands apart by a narrow space, as ISO 80000 writes them."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if number >= 10_000 else str(number)
