"""Pictures of what `measure` and `theory` computed: axes in, axes out; matplotlib loads when one is drawn."""

from labelsmooth.plot.curves import plot_training_curves
from labelsmooth.plot.gap import plot_gap, plot_measured_gap
from labelsmooth.plot.projection import plot_projection
from labelsmooth.plot.reliability import plot_reliability

__all__ = ["plot_gap", "plot_measured_gap", "plot_projection", "plot_reliability", "plot_training_curves"]
