"""The risk–coverage curve: the error rate among the rows that a classifier is confident enough to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, Unpack

import numpy as np

from labelsmooth.measure import Selective, SelectiveResult
from labelsmooth.measure.arrays import Floats
from labelsmooth.measure.functional import Rows, count
from labelsmooth.measure.inputs import Array
from labelsmooth.plot.display import Columns, Panel
from labelsmooth.plot.style import GREY, axes_or_new, cycle_colours, finish, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# points of a line: more than can be told apart at any printed size
_DRAWN = 2000


@dataclass(eq=False, kw_only=True)
class RiskCoverageDisplay(Panel):
    """Risk against coverage, both shares in 0..1: where to stand if wrong answers cost more than none.

    At each threshold on the confidence, coverage is the share of rows at or above it and risk the share of
    errors among those. Drawn beside it are the oracle, which knows the errors and answers them last,
    risk = max(0, 1 − accuracy/coverage), dotted and in the colour of the model; and an order at random, whose
    risk is the error rate at every coverage, dashed. A second display on the same axes takes the next colour:

        hard = RiskCoverageDisplay.from_predictions(hard_logits, target, name="hard")
        RiskCoverageDisplay.from_predictions(smoothed_logits, target, name="smoothed", ax=hard.ax_)

    Args:
        coverage: (T,) rising, up to 1.
        risk: (T,).
        aurc: the area, as `Selective` defines it.
        name: of the model, for the legend.
    """

    coverage: Floats
    risk: Floats
    aurc: float
    name: str | None = None

    @classmethod
    def from_predictions(
        cls,
        predictions: Array,  # (..., K)
        target: Array,  # (...)
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **rows: Unpack[Rows],
    ) -> Self:
        """Measure rows with `Selective` and draw.

        Args:
            predictions: (…, K) floats: logits, or probabilities with `probs=True`.
            target: (…) integers in 0..K−1, or `ignore_index`.
            name: of the model, for the legend.
            ax: to draw on; None makes a new figure.
            **rows: `probs`, `weight`, `ignore_index` and `class_axis` of `measure.functional.Rows`.

        Raises:
            TypeError, ValueError: as `Selective.update`, or there is no row.

        Example:
            >>> import torch
            >>> from matplotlib.figure import Figure
            >>> logits = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
            >>> target = torch.tensor([0, 0, 0])
            >>> display = RiskCoverageDisplay.from_predictions(logits, target, ax=Figure().subplots())
            >>> display.risk.round(3)
            array([0.   , 0.   , 0.333])

        Source: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks".
        """
        selective = Selective()
        count(selective, predictions, target, rows)
        return cls.from_result(selective.compute(), name=name, ax=ax)

    @classmethod
    def from_result(cls, result: SelectiveResult, *, name: str | None = None, ax: Axes | None = None) -> Self:
        """Draw what `Selective.compute` found."""
        return cls(coverage=result.coverage, risk=result.risk, aurc=result.aurc, name=name).plot(ax)

    @property
    def oracle(self) -> Floats:
        """(T,) the lowest risk at each coverage that any order of the rows has."""
        oracle: Floats = np.maximum(0, 1 - (1 - self.risk[-1]) / self.coverage)
        return oracle

    def _columns(self) -> Columns:
        return {
            "coverage": self.coverage,
            "risk": self.risk,
            "oracle": self.oracle,
            "random": np.full(len(self.risk), self.risk[-1]),
        }

    def _draw(self, ax: Axes | None) -> Axes:
        ax = axes_or_new(ax, height=3.2)
        lowest_top = ax.get_ylim()[1] if ax.has_data() else 0.0
        cycle_colours(ax)
        error_rate = float(self.risk[-1])
        shown = np.unique(np.linspace(0, len(self.risk) - 1, _DRAWN).astype(int))
        name = "" if self.name is None else self.name.replace("$", r"\$") + ", "
        (line,) = ax.plot(
            self.coverage[shown],
            self.risk[shown],
            linewidth=1.5,
            zorder=3,
            label=f"{name}AURC {self.aurc:.3g}",
        )
        # the oracle's line has its corner where its errors begin, which need be no threshold of the model
        corner = np.linspace(1 - error_rate, 1, 200)
        oracle = np.append(0, np.maximum(0, 1 - (1 - error_rate) / np.maximum(corner, 1e-12)))
        for x, y, style, label in (
            (np.append(0, corner), oracle, (0, (1, 1.5)), "oracle"),
            (np.array([0, 1]), np.full(2, error_rate), (0, (5, 3)), "random order"),
        ):
            if label not in ax.get_legend_handles_labels()[1]:  # once, and in no model's colour
                ax.plot([], [], color=GREY, linewidth=1, linestyle=style, label=label, zorder=2)
            ax.plot(x, y, color=line.get_color(), linewidth=1, linestyle=style, zorder=2)
        # the few most confident rows may have any risk
        highest = max(error_rate, float(self.risk[self.coverage >= 0.02].max()))
        ax.set_xlim(0, 1)
        ax.set_ylim(0, max(lowest_top, 1.05 * highest, 1e-6))
        finish(ax, "coverage (share of rows answered)", "risk (share of errors in these)")
        legend_below(ax, columns=2)
        return ax
