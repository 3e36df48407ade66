"""Pictures of what `measure` and `theory` computed: axes in, axes out; matplotlib loads when one is drawn.

Displays keep their numbers and draw them, as scikit-learn's do: `from_predictions(…)` measures and draws,
`plot` draws again, `frame` gives the numbers as a table, and `ax_` (`axes_` of several) and `figure_` are
what was drawn on last.
"""

from labelsmooth.plot.curves import plot_training_curves
from labelsmooth.plot.gap import GapDisplay, plot_gap, plot_measured_gap
from labelsmooth.plot.metrics import MetricAgainstEpsDisplay, MetricAgainstTemperatureDisplay
from labelsmooth.plot.projection import ProjectionDisplay, plot_projection
from labelsmooth.plot.reliability import (
    ClasswiseReliabilityDisplay,
    ReliabilityDisplay,
    plot_reliability,
)
from labelsmooth.plot.selective import RiskCoverageDisplay

__all__ = [
    "ClasswiseReliabilityDisplay",
    "GapDisplay",
    "MetricAgainstEpsDisplay",
    "MetricAgainstTemperatureDisplay",
    "ProjectionDisplay",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "plot_gap",
    "plot_measured_gap",
    "plot_projection",
    "plot_reliability",
    "plot_training_curves",
]
