"""A metric against what one can choose: ε in training, the temperature after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.errors import InputError
from labelsmooth.measure import Calibration, Interval
from labelsmooth.measure.arrays import Floats, pieces
from labelsmooth.measure.inputs import Array, logit_rows, probability_rows
from labelsmooth.plot.display import AxesGrid, Columns, Panel, Panels
from labelsmooth.plot.style import (
    BLUE,
    GREY,
    LABEL,
    TEXT,
    VERMILLION,
    axes_or_new,
    cycle_colours,
    finish,
    legend_below,
)
from labelsmooth.row_stats import row_stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# where a minimum can be seen, and evenly spaced on the axis, which is a logarithm
TEMPERATURES = tuple(np.geomspace(0.25, 4, 41).tolist())


@dataclass(eq=False, kw_only=True)
class MetricAgainstEpsDisplay(Panel):
    """A metric with its intervals against the ε of the training. A second one takes the next colour.

    Args:
        eps: (E,) rising.
        value, low, high: (E,), the ends of the interval on both sides of the value.
        metric: what it is, with its unit, for the axis.
        name: of the series, for the legend; None for none.
    """

    eps: Floats
    value: Floats
    low: Floats
    high: Floats
    metric: str
    name: str | None = None

    @classmethod
    def from_intervals(
        cls,
        intervals: Mapping[float, Interval],
        metric: str,
        *,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw one interval for each ε, such as `Calibration.intervals` gives.

        Raises:
            ValueError: there is no interval.

        Example:
            >>> from matplotlib.figure import Figure
            >>> ece = {0.0: Interval(value=0.031, low=0.025, high=0.038),
            ...        0.1: Interval(value=0.052, low=0.047, high=0.058)}
            >>> display = MetricAgainstEpsDisplay.from_intervals(ece, "ECE", ax=Figure().subplots())
            >>> display.value
            array([0.031, 0.052])
        """
        if not intervals:
            raise InputError("a metric against ε needs at least one interval, got none")
        eps = sorted(intervals)
        return cls(
            eps=np.array(eps, dtype=np.float64),
            value=np.array([intervals[e].value for e in eps]),
            low=np.array([intervals[e].low for e in eps]),
            high=np.array([intervals[e].high for e in eps]),
            metric=metric,
            name=name,
        ).plot(ax)

    def _columns(self) -> Columns:
        return {"eps": self.eps, "value": self.value, "low": self.low, "high": self.high}

    def _draw(self, ax: Axes | None) -> Axes:
        ax = axes_or_new(ax, height=2.6)
        from matplotlib.transforms import ScaledTranslation

        cycle_colours(ax)
        # a bootstrap's interval need not hold the value
        below, above = np.maximum(self.value - self.low, 0), np.maximum(self.high - self.value, 0)
        earlier = len(ax.containers)
        bars = ax.errorbar(
            self.eps,
            self.value,
            [below, above],
            marker="o",
            markersize=4,
            linewidth=1.5,
            elinewidth=1,
            capsize=2.5,
            label=self.name,
        )
        # bars of several series stand beside each other, 3 points apart
        aside = ScaledTranslation(3 / 72 * earlier, 0, ax.figure.dpi_scale_trans)
        for artist in bars.get_children():
            artist.set_transform(artist.get_transform() + aside)
        if self.name is not None:
            ax.legend(fontsize=TEXT, frameon=False)
        finish(ax, "smoothing ε", self.metric)
        return ax


@dataclass(eq=False, kw_only=True)
class MetricAgainstTemperatureDisplay(Panels):
    """NLL, in nats, and ECE, in 0..1, of logits divided by T against T, one above the other.

    Args:
        temperature: (T,) rising.
        nll, ece: (T,).
        fitted: a temperature to mark, fitted on other rows; None for none.
    """

    temperature: Floats
    nll: Floats
    ece: Floats
    fitted: float | None = None

    @classmethod
    def from_predictions(
        cls,
        predictions: Array,  # (..., K)
        target: Array,  # (...)
        *,
        fitted: float | None = None,
        temperatures: Sequence[float] = TEMPERATURES,
        num_bins: int = 15,
        ax: npt.ArrayLike | None = None,
        probs: bool = False,
        weight: Array | None = None,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> Self:
        """Measure rows at every temperature and draw.

        Args:
            predictions: (…, K) floats: logits, or probabilities with `probs=True`, by their logarithms.
            target: (…) integers in 0..K−1, or `ignore_index`.
            fitted: the temperature to mark, of a `TemperatureScaling` fitted on other rows than these.
            temperatures: all above 0.
            num_bins: of the ECE.
            ax: two axes; None for a new figure.
            probs, weight, ignore_index, class_axis: as of `measure.functional.Rows`.

        Raises:
            TypeError, ValueError: as `Calibration.update`; there is no row, or a temperature is not above 0.

        Cost: one pass over the logits for each temperature.

        Example:
            >>> import torch
            >>> from matplotlib.figure import Figure
            >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
            >>> target = torch.tensor([0, 0, 1, 1])
            >>> display = MetricAgainstTemperatureDisplay.from_predictions(
            ...     logits, target, fitted=3.641, ax=Figure().subplots(2)
            ... )
            >>> float(display.temperature[display.nll.argmin()].round(2))
            3.73

        Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2.
        """
        at = np.sort(np.asarray(temperatures, dtype=np.float64))
        for value in (*at, *([] if fitted is None else [fitted])):
            if not 0 < value < np.inf:
                raise InputError(f"a temperature must be finite and above 0, got {value}")
        if at.size == 0:
            raise InputError("temperatures must hold at least one temperature, got none")
        rows, labels, weights = (probability_rows if probs else logit_rows)(
            predictions, target, weight, ignore_index=ignore_index, class_axis=class_axis
        )
        logits = rows.log() if probs else rows
        of_rows = torch.ones(len(rows)) if weights is None else weights
        results = []
        for value in at.tolist():
            calibration = Calibration(num_bins)
            for piece, y, w in pieces(logits, labels, of_rows):
                # widened first, as quotients in half precision would tell little
                calibration.update_stats(row_stats(piece / value, y.unsqueeze(-1)), w)
            results.append(calibration.compute())
        return cls(
            temperature=at,
            nll=np.array([result.nll for result in results]),
            ece=np.array([result.ece for result in results]),
            fitted=fitted,
        ).plot(ax)

    def _columns(self) -> Columns:
        return {"temperature": self.temperature, "nll": self.nll, "ece": self.ece}

    def _grid(self) -> tuple[int, int, float, float]:
        return 2, 1, 3.5, 4.0

    def _draw(self, axes: AxesGrid) -> None:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        for ax, values, label, colour in zip(
            axes.flat, (self.nll, self.ece), ("NLL (nats)", "ECE"), (BLUE, VERMILLION), strict=True
        ):
            ax.plot(self.temperature, values, color=colour, linewidth=1.5)
            best = int(np.argmin(values))
            edge = ", the edge of what was tried" if best in (0, len(values) - 1) else ""
            ax.plot(self.temperature[best], values[best], "o", color=colour, markersize=4, clip_on=False)
            ax.annotate(
                f"lowest, {values[best]:.3g} at T = {self.temperature[best]:.2f}{edge}",
                (self.temperature[best], values[best]),
                xycoords="data",
                xytext=(0.5, 1.02),
                textcoords="axes fraction",
                ha="center",
                va="bottom",
                color=colour,
                fontsize=TEXT,
            )
            ax.set_xscale("log")
            # 0.5, 1, 2, and not 10 to the power of something
            first, last = np.log2(self.temperature[[0, -1]]).round()
            ax.set_xticks(2.0 ** np.arange(first, last + 1))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), label="T = 1", zorder=1)
            if self.fitted is not None:
                ax.axvline(
                    self.fitted,
                    color=GREY,
                    linewidth=1,
                    linestyle=(0, (5, 3)),
                    label=f"fitted T = {self.fitted:.2f}",
                    zorder=1,
                )
            ax.set_ylim(bottom=0)
            finish(ax, "", label)
        axes.flat[1].set_xlabel("temperature T", fontsize=LABEL)
        legend_below(axes.flat[1], columns=2)
