"""The plane through three class templates, with the rows of these classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.measure import PlaneProjection
from labelsmooth.plot.display import AxesGrid, Columns, Panels
from labelsmooth.plot.style import COLOURS, GREY, LABEL, TEXT, axes_or_new, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats: TypeAlias = npt.NDArray[np.float64]


def plot_projection(
    projection: PlaneProjection, ax: Axes | None = None, class_names: Sequence[str] | None = None
) -> Axes:
    """Draw the rows of three classes in the plane through their templates, in units of the features.

    Dots are rows, stars the templates. From the origin, three grey lines part the plane into the regions in
    which one of the three logits is the largest: a dot in another class's region is a row that the network
    takes for that class rather than its own.

    Args:
        projection: of `measure.plane_projection`.
        ax: to draw on; None makes a new figure.
        class_names: the name of every class, looked up by class number; None writes the numbers.

    Returns:
        The axes, of equal aspect. Its collections are one scatter of rows for each class, labelled with the
        class's name, in the order of `projection.classes`, then one of the templates.

    Cost: one marker a row.

    Example:
        >>> from matplotlib.figure import Figure
        >>> import torch
        >>> from labelsmooth.measure import plane_projection
        >>> weight, bias = torch.eye(3), torch.zeros(3)
        >>> projection = plane_projection(torch.eye(3), torch.tensor([0, 1, 2]), weight, bias, (0, 1, 2))
        >>> ax = plot_projection(projection, Figure().subplots(), class_names=["cat", "dog", "owl"])
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['cat', 'dog', 'owl', 'template']

    Source: Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?", fig. 1.
    """
    ax = axes_or_new(ax)
    from matplotlib.lines import Line2D

    colours = COLOURS[:3]
    names = [str(label) if class_names is None else class_names[label] for label in projection.classes]
    names = [name.replace("$", r"\$") for name in names]  # a dollar in a name is no mathematics
    for label, colour, name in zip(projection.classes, colours, names, strict=True):
        points = projection.points[projection.labels == label]
        ax.scatter(points[:, 0], points[:, 1], s=7, color=colour, alpha=0.45, linewidths=0, label=name)
    ax.scatter(
        projection.templates[:, 0],
        projection.templates[:, 1],
        s=90,
        marker="*",
        c=colours,
        edgecolors="black",
        linewidths=0.8,
        label="template",
    )
    # a square window around everything, so that pictures side by side have the same size
    shown = np.concatenate([projection.points, projection.templates, np.zeros((1, 2))])
    low, high = shown.min(0), shown.max(0)
    centre, half = (low + high) / 2, 0.55 * float((high - low).max())
    for direction in projection.borders:
        # far beyond the edge of this window, and of the wider one that a neighbour may ask for
        end = 100 * half * direction
        ax.plot([0, end[0]], [0, end[1]], color=GREY, linewidth=0.8, zorder=0)
    ax.set_xlim(centre[0] - half, centre[0] + half)
    ax.set_ylim(centre[1] - half, centre[1] + half)
    ax.set_aspect("equal")
    finish(ax, "", "")
    # below the picture, where it hides no row
    dots = [
        Line2D([], [], marker="o", markersize=5, linestyle="", color=colour, label=name)
        for colour, name in zip(colours, names, strict=True)
    ]
    star = Line2D([], [], marker="*", markersize=9, linestyle="", color="white", markeredgecolor="black")
    star.set_label("template")
    ax.legend(
        handles=[*dots, star],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.07),
        ncols=4,
        fontsize=TEXT,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1,
    )
    return ax


@dataclass(eq=False, kw_only=True)
class ProjectionDisplay(Panels):
    """Projections of several networks or sets of rows in a grid: hard and smoothed × training and validation.

    Args:
        projections: by network, a row of panels each, and in it by set of rows, a column each.
        class_names: the name of every class, looked up by class number; None writes the numbers.
    """

    projections: Mapping[str, Mapping[str, PlaneProjection]]
    class_names: Sequence[str] | None = None

    @classmethod
    def from_projections(
        cls,
        projections: Mapping[str, Mapping[str, PlaneProjection]],
        *,
        class_names: Sequence[str] | None = None,
        ax: npt.ArrayLike | None = None,
    ) -> Self:
        """Draw what `measure.plane_projection` gave.

        Raises:
            ValueError: there is no projection, or the networks do not have the same sets of rows.

        Example:
            >>> from matplotlib.figure import Figure
            >>> import torch
            >>> from labelsmooth.measure import plane_projection
            >>> weight, bias = torch.eye(3), torch.zeros(3)
            >>> shown = plane_projection(torch.eye(3), torch.tensor([0, 1, 2]), weight, bias, (0, 1, 2))
            >>> parts = {"training rows": shown, "validation rows": shown}
            >>> networks = {"hard": parts, "smoothed": parts}
            >>> axes = Figure(figsize=(7, 7)).subplots(2, 2)
            >>> ProjectionDisplay.from_projections(networks, ax=axes).axes_[1, 0].get_title()
            'smoothed, training rows'

        Source: Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?", fig. 1.
        """
        names = [list(parts) for parts in projections.values()]
        if not names or not names[0]:
            raise InputError("projections must hold at least one projection, got none")
        if any(other != names[0] for other in names):
            raise InputError(f"every network must have the same sets of rows, got {names}")
        return cls(projections=projections, class_names=class_names).plot(ax)

    def _columns(self) -> Columns:
        pieces: list[tuple[str, str, str, npt.NDArray[np.int64], Floats]] = []
        for network, parts in self.projections.items():
            for part, shown in parts.items():
                pieces.append((network, part, "row", shown.labels, shown.points))
                classes = np.array(shown.classes, dtype=np.int64)
                pieces.append((network, part, "template", classes, shown.templates))
        lengths = [len(piece[3]) for piece in pieces]
        words = {
            name: np.repeat(np.array([piece[at] for piece in pieces], dtype=object), lengths)
            for at, name in enumerate(("network", "rows", "kind"))
        }
        points = np.concatenate([piece[4] for piece in pieces])
        labels = np.concatenate([piece[3] for piece in pieces])
        return {**words, "class": labels, "x": points[:, 0], "y": points[:, 1]}

    def _grid(self) -> tuple[int, int, float, float]:
        rows, columns = len(self.projections), len(next(iter(self.projections.values())))
        return rows, columns, 3.5 * columns, 3.6 * rows

    def _draw(self, axes: AxesGrid) -> None:
        for row, (network, parts) in enumerate(self.projections.items()):
            for column, (part, shown) in enumerate(parts.items()):
                ax = plot_projection(shown, axes[row, column], self.class_names)
                ax.set_title(f"{network}, {part}", fontsize=LABEL)
            # one window for all rows of a network
            limits = np.array([[ax.get_xlim(), ax.get_ylim()] for ax in axes[row]])  # (panels, 2, 2)
            low, high = limits[..., 0].min(0), limits[..., 1].max(0)
            centre, half = (low + high) / 2, (high - low).max() / 2
            for ax in axes[row]:
                ax.set(xlim=centre[0] + [-half, half], ylim=centre[1] + [-half, half])
