"""What all pictures share. Sizes and colours are given to each artist, so that no rcParams are touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelsmooth.extras import needs_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito 2008, without the yellow that is too pale for lines on white: told apart by every kind of
# colour vision, and in this order also in grey
BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
)
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)
GREY = "#6E6E6E"
BLUE_TINT, VERMILLION_TINT = "#C7DFEF", "#F7D7C2"

# points; pictures are drawn 3.5 inches wide
TEXT, LABEL = 8, 9


def axes_or_new(ax: Axes | None, width: float = 3.5, height: float = 3.5) -> Axes:
    """The axes given, or those of a new figure of this size in inches."""
    if ax is not None:
        return ax
    with needs_extra("study"):
        import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def cycle_colours(ax: Axes) -> None:
    """Let the lines of empty axes take our colours in turn; on others the next takes the one that is next."""
    if not ax.has_data():
        ax.set_prop_cycle(color=COLOURS)


def finish(ax: Axes, x_label: str, y_label: str) -> None:
    """Name the axes, and take away the two sides of the frame that carry no scale."""
    ax.set_xlabel(x_label, fontsize=LABEL)
    ax.set_ylabel(y_label, fontsize=LABEL)
    ax.tick_params(labelsize=TEXT)
    ax.spines[["top", "right"]].set_visible(False)


def legend_below(ax: Axes, columns: int) -> None:
    """A legend below the picture, where it hides nothing; what lies on top comes first."""
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda at: -handles[at].get_zorder())
    if order:
        ax.legend(
            [handles[at] for at in order],
            [labels[at] for at in order],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=columns,
            fontsize=TEXT,
            frameon=False,
            handlelength=1.6,
            columnspacing=1,
        )
