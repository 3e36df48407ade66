"""Measures of what smoothing did to a classifier: numbers come out as frozen dataclasses and floats."""

from labelsmooth.measure.calibration import Calibration, CalibrationResult, ClasswiseBins, ReliabilityBins
from labelsmooth.measure.compare import Comparison, compare
from labelsmooth.measure.distillation import (
    Agreement,
    Teacher,
    TeacherResult,
    equivalent_smoothing,
    teacher_agreement,
)
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
    ClassifierGeometry,
    FrameShape,
    Geometry,
    GeometryResult,
    LogitGap,
    PlaneProjection,
    logit_gap,
    logit_gaps,
    plane_projection,
    within_class_spread,
)
from labelsmooth.measure.information import mutual_information
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.recovery import RecoveredSmoothing, SmoothingRecovery, recovered_smoothing
from labelsmooth.measure.scaling import TemperatureScaling, VectorScaling, temperature
from labelsmooth.measure.selective import PNorm, Selective, SelectiveResult, augrc, aurc

__all__ = [
    "Agreement",
    "Calibration",
    "CalibrationResult",
    "ClassifierGeometry",
    "ClasswiseBins",
    "Comparison",
    "FrameShape",
    "Geometry",
    "GeometryResult",
    "Interval",
    "LogitGap",
    "PNorm",
    "PlaneProjection",
    "RecoveredSmoothing",
    "ReliabilityBins",
    "Selective",
    "SelectiveResult",
    "SmoothingRecovery",
    "Teacher",
    "TeacherResult",
    "TemperatureScaling",
    "VectorScaling",
    "accuracy",
    "augrc",
    "aurc",
    "brier",
    "classwise_ece",
    "compare",
    "ece",
    "equivalent_smoothing",
    "logit_gap",
    "logit_gaps",
    "mce",
    "mutual_information",
    "nll",
    "plane_projection",
    "recovered_smoothing",
    "smece",
    "smece_of_scores",
    "teacher_agreement",
    "temperature",
    "within_class_spread",
]
