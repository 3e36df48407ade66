"""Measures of what smoothing did to a classifier: numbers come out as frozen dataclasses and floats."""

from labelsmooth.measure.bins import ClasswiseBins, ReliabilityBins
from labelsmooth.measure.calibration import Calibration
from labelsmooth.measure.calibration_result import CalibrationResult
from labelsmooth.measure.class_moments import within_class_spread
from labelsmooth.measure.collapse import ClassifierGeometry, FrameShape
from labelsmooth.measure.compare import Comparison, compare
from labelsmooth.measure.functional import (
    accuracy,
    augrc,
    aurc,
    brier,
    classwise_ece,
    ece,
    mce,
    nll,
    smece,
    smece_of_scores,
    temperature,
)
from labelsmooth.measure.gap_histogram import GapHistogram
from labelsmooth.measure.geometry import Geometry, GeometryResult
from labelsmooth.measure.group_scaling import GroupTemperatureScaling
from labelsmooth.measure.information import mutual_information
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.logit_gaps import LogitGap, logit_gap, logit_gaps
from labelsmooth.measure.multilabel import MultilabelCalibration, MultilabelResult, sigmoid_pairs
from labelsmooth.measure.pnorm import PNorm
from labelsmooth.measure.projection import PlaneProjection, plane_projection
from labelsmooth.measure.recovery import RecoveredSmoothing, SmoothingRecovery, recovered_smoothing
from labelsmooth.measure.scaling import TemperatureScaling, VectorScaling
from labelsmooth.measure.selective import Selective
from labelsmooth.measure.selective_result import SelectiveResult
from labelsmooth.measure.teacher import (
    Agreement,
    Teacher,
    TeacherResult,
    equivalent_smoothing,
    teacher_agreement,
)

__all__ = [
    "Agreement",
    "Calibration",
    "CalibrationResult",
    "ClassifierGeometry",
    "ClasswiseBins",
    "Comparison",
    "FrameShape",
    "GapHistogram",
    "Geometry",
    "GeometryResult",
    "GroupTemperatureScaling",
    "Interval",
    "LogitGap",
    "MultilabelCalibration",
    "MultilabelResult",
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
    "sigmoid_pairs",
    "smece",
    "smece_of_scores",
    "teacher_agreement",
    "temperature",
    "within_class_spread",
]
