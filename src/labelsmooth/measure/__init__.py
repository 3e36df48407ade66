"""Measures of what smoothing did to a classifier: numbers come out as frozen dataclasses and floats."""

from labelsmooth.measure.calibration import Calibration, CalibrationResult, ReliabilityBins
from labelsmooth.measure.geometry import (
    ClassifierGeometry,
    FrameShape,
    Geometry,
    GeometryResult,
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
    "ClassifierGeometry",
    "FrameShape",
    "Geometry",
    "GeometryResult",
    "LogitGap",
    "PlaneProjection",
    "ReliabilityBins",
    "TemperatureScaling",
    "logit_gap",
    "plane_projection",
    "within_class_spread",
]
