"""The style of all pictures. Sizes and colours are given to each artist, so that no rcParams are touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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


def legend_below(
    ax: Axes, columns: int, hidden: Sequence[str] = (), inside: tuple[float, float] | None = None
) -> None:
    """A legend below the picture, where it hides nothing; what lies on top comes first, names once.

    A figure without a layout engine would cut it off; there it lies inside, with what it covers showing
    through.

    Args:
        columns: of the legend below.
        hidden: names of what has no entry.
        inside: its upper left corner where it lies inside, in shares of the axes; None for any place.
    """
    from matplotlib.transforms import ScaledTranslation

    empty = {container.get_label() for container in ax.containers if not container}
    entries = zip(*ax.get_legend_handles_labels(), strict=True)
    named = {name: handle for handle, name in entries if name not in {*hidden, *empty}}
    order = sorted(named, key=lambda name: -_height(named[name]))
    if not order:
        return
    handles = [named[name] for name in order]
    if ax.figure.get_layout_engine() is None:
        ax.legend(
            handles,
            order,
            loc="best" if inside is None else "upper left",
            bbox_to_anchor=inside,
            borderaxespad=0.5 if inside is None else 0,
            fontsize=TEXT,
            framealpha=0.85,
            edgecolor="none",
            handlelength=1.6,
        )
        return
    # below the numbers and the name of the axis, which are 36 points high whatever the picture's height
    below = ax.transAxes + ScaledTranslation(0, -36 / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles,
        order,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        ncols=columns,
        fontsize=TEXT,
        frameon=False,
        handlelength=1.6,
        handletextpad=0.4,
        columnspacing=1,
    )


def _height(handle: Any) -> float:
    """The z-order of an artist, or of the first of a container's."""
    artist = handle[0] if isinstance(handle, tuple) else handle
    return float(artist.get_zorder())
