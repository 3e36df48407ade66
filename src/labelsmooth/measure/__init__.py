"""Measures of what smoothing did to a classifier: numbers come out as frozen dataclasses and floats."""

from labelsmooth.measure.calibration import Calibration, CalibrationResult, ReliabilityBins
from labelsmooth.measure.geometry import (
    LogitGap,
    PlaneProjection,
    logit_gap,
    plane_projection,
    within_class_spread,
)
from labelsmooth.measure.scaling import TemperatureScaling

__all__ = [
    "Calibration",
    "CalibrationResult",
    "LogitGap",
    "PlaneProjection",
    "ReliabilityBins",
    "TemperatureScaling",
    "logit_gap",
    "plane_projection",
    "within_class_spread",
]
