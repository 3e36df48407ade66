"""Measures of what smoothing did to a classifier: numbers come out as frozen dataclasses and floats."""

from labelsmooth.measure.calibration import Calibration, CalibrationResult, ReliabilityBins
from labelsmooth.measure.geometry import (
    LogitGap,
    PlaneProjection,
    logit_gap,
    plane_projection,
    within_class_spread,
)
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.scaling import TemperatureScaling, VectorScaling, temperature
from labelsmooth.measure.selective import PNorm, Selective, SelectiveResult, augrc, aurc

__all__ = [
    "Calibration",
    "CalibrationResult",
    "Interval",
    "LogitGap",
    "PNorm",
    "PlaneProjection",
    "ReliabilityBins",
    "Selective",
    "SelectiveResult",
    "TemperatureScaling",
    "VectorScaling",
    "augrc",
    "aurc",
    "logit_gap",
    "plane_projection",
    "temperature",
    "within_class_spread",
]
