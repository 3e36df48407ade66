"""Measures of what smoothing did to a classifier: numbers come out as frozen dataclasses and floats."""

from labelsmooth.measure.calibration import (
    Calibration,
    CalibrationResult,
    ClasswiseBins,
    ReliabilityBins,
)
from labelsmooth.measure.geometry import (
    LogitGap,
    PlaneProjection,
    logit_gap,
    logit_gaps,
    plane_projection,
    within_class_spread,
)
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.scaling import TemperatureScaling, VectorScaling, temperature
from labelsmooth.measure.selective import PNorm, Selective, SelectiveResult, augrc, aurc
from labelsmooth.measure.smooth import smece_of_scores

__all__ = [
    "Calibration",
    "CalibrationResult",
    "ClasswiseBins",
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
    "logit_gaps",
    "plane_projection",
    "smece_of_scores",
    "temperature",
    "within_class_spread",
]
