"""Label smoothing for PyTorch: exact, fast and accountable."""

from labelsmooth import measure, plot, theory
from labelsmooth.conventions import BinaryConvention, Convention, binary_conventions, conventions
from labelsmooth.identification import Departure, Identification, identify
from labelsmooth.losses import (
    ConfidencePenaltyLoss,
    CrossEntropyLoss,
    DistillationLoss,
    LinearCrossEntropyLoss,
    MarginSmoothingLoss,
    MaxSuppressionLoss,
    confidence_penalty,
    cross_entropy,
    distillation_loss,
    linear_cross_entropy,
    margin_smoothing,
    max_suppression,
    preference_loss,
    vocab_parallel_cross_entropy,
    vocab_parallel_linear_cross_entropy,
)
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats, row_stats
from labelsmooth.smoothing import (
    Smoothing,
    class_conditional,
    convention,
    label_dropout,
    mixup,
    neighbourhood,
    others,
    prior,
    uniform,
    unigram,
)

__version__ = "0.1.0"

__all__ = [
    "BinaryConvention",
    "ConfidencePenaltyLoss",
    "Convention",
    "CrossEntropyLoss",
    "Departure",
    "DistillationLoss",
    "Identification",
    "LinearCrossEntropyLoss",
    "MarginSmoothingLoss",
    "MaxSuppressionLoss",
    "Mixture",
    "RowStats",
    "Smoothing",
    "binary_conventions",
    "class_conditional",
    "confidence_penalty",
    "convention",
    "conventions",
    "cross_entropy",
    "distillation_loss",
    "identify",
    "label_dropout",
    "linear_cross_entropy",
    "margin_smoothing",
    "max_suppression",
    "measure",
    "mixup",
    "neighbourhood",
    "others",
    "plot",
    "preference_loss",
    "prior",
    "row_stats",
    "theory",
    "uniform",
    "unigram",
    "vocab_parallel_cross_entropy",
    "vocab_parallel_linear_cross_entropy",
]
