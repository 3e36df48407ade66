"""The base of all displays: pictures that keep their numbers, after the manner of scikit-learn's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Columns: TypeAlias = Mapping[str, npt.ArrayLike]
AxesGrid: TypeAlias = npt.NDArray[Any]  # of matplotlib's Axes


class Display(ABC):
    """Numbers that know how to be drawn.

    Attributes:
        figure_: the figure of the last `plot`.
    """

    figure_: Figure | SubFigure

    def frame(self) -> Any:
        """The numbers of the picture as a table: a pandas DataFrame, or a polars one where only that is.

        Raises:
            ImportError: neither pandas nor polars is installed.
        """
        columns = {name: np.asarray(values) for name, values in self._columns().items()}
        for library in ("pandas", "polars"):
            try:
                return import_module(library).DataFrame(columns)
            except ModuleNotFoundError:
                continue
        raise ImportError("a frame needs pandas or polars, and neither is installed: pip install pandas")

    @abstractmethod
    def _columns(self) -> Columns:
        """By name, columns of one length."""


class Panel(Display):
    """A display on one pair of axes.

    Attributes:
        ax_: the axes of the last `plot`.
    """

    ax_: Axes

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw on `ax`, or on a new figure.

        Raises:
            ImportError: matplotlib is not installed; `labelsmooth[study]` brings it.
        """
        self.ax_ = self._draw(ax)
        self.figure_ = self.ax_.figure
        return self

    @abstractmethod
    def _draw(self, ax: Axes | None) -> Axes: ...


class Panels(Display):
    """A display of several panels.

    Attributes:
        axes_: the axes of the last `plot`, an array in the shape of the grid.
    """

    axes_: AxesGrid

    def plot(self, ax: npt.ArrayLike | None = None) -> Self:
        """Draw on the axes of an array, as `Figure.subplots` makes them, or on those of a new figure.

        Raises:
            ImportError: matplotlib is not installed; `labelsmooth[study]` brings it.
            ValueError: `ax` does not hold one pair of axes for each panel.
        """
        rows, columns, width, height = self._grid()
        if ax is None:
            with needs_extra("study"):
                import matplotlib.pyplot as plt

            _, axes = plt.subplots(
                rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
            )
        else:
            axes = np.asarray(ax, dtype=object)
            if axes.size != rows * columns:
                raise InputError(f"ax must hold {rows}×{columns} axes, got an array of shape {axes.shape}")
        self.axes_ = axes.reshape(rows, columns)
        self.figure_ = self.axes_[0, 0].figure
        self._draw(self.axes_)
        return self

    @abstractmethod
    def _grid(self) -> tuple[int, int, float, float]:
        """Rows and columns, and the width and height of a new figure in inches."""

    @abstractmethod
    def _draw(self, axes: AxesGrid) -> None: ...
