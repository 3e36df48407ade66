"""Measures of what smoothing did to a classifier: numbers come out as frozen dataclasses and floats."""

from labelsmooth.measure.calibration import Calibration, CalibrationResult, ClasswiseBins, ReliabilityBins
from labelsmooth.measure.functional import (
    accuracy,
    brier,
    classwise_ece,
    ece,
    mce,
    nll,
    smece,
    smece_of_scores,
)
from labelsmooth.measure.geometry import (
    LogitGap,
    PlaneProjection,
    logit_gap,
    plane_projection,
    within_class_spread,
)
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.scaling import TemperatureScaling

__all__ = [
    "Calibration",
    "CalibrationResult",
    "ClasswiseBins",
    "Interval",
    "LogitGap",
    "PlaneProjection",
    "ReliabilityBins",
    "TemperatureScaling",
    "accuracy",
    "brier",
    "classwise_ece",
    "ece",
    "logit_gap",
    "mce",
    "nll",
    "plane_projection",
    "smece",
    "smece_of_scores",
    "within_class_spread",
]
