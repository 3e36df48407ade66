"""Training curves: means over seeds with their spread."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.plot.style import COLOURS, TEXT, axes_or_new, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_training_curves(
    curves: Mapping[str, npt.ArrayLike],  # each (seeds, epochs)
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw named series against the epoch: the mean over seeds as a line, ± one standard deviation as a band.

    Args:
        curves: by name, one row for each seed and one column for each epoch, the first epoch being 1. The
            standard deviation divides by the number of seeds less one; a single seed has no band.
        ylabel: what the series are, with its unit.
        ax: to draw on; None makes a new figure.

    Returns:
        The axes, with one line for each series, in their order.

    Raises:
        ValueError: a series is not a table of at least one seed and one epoch.

    Cost: two artists a series.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = plot_training_curves({"ε = 0": [[0.9, 0.5], [0.7, 0.3]]}, "NLL (nats)", Figure().subplots())
        >>> ax.lines[0].get_ydata()
        array([0.8, 0.4])
    """
    for name, series in curves.items():
        if np.ndim(series) != 2 or 0 in np.shape(series):
            raise InputError(f"curves must have shape (seeds, epochs), got {np.shape(series)} for {name!r}")
    ax = axes_or_new(ax, height=2.6)
    from matplotlib.ticker import MaxNLocator

    for (name, series), colour in zip(curves.items(), cycle(COLOURS), strict=False):
        values = np.asarray(series, dtype=np.float64)
        seeds, epochs = values.shape
        epoch, mean = np.arange(1, epochs + 1), values.mean(0)
        # a lone epoch shows as a point
        ax.plot(epoch, mean, color=colour, linewidth=1.5, marker="o" if epochs == 1 else None, label=name)
        if seeds > 1:
            sd = values.std(0, ddof=1)
            ax.fill_between(epoch, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=TEXT, frameon=False)
    finish(ax, "epoch", ylabel)
    return ax
