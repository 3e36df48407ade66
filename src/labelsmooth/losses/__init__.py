"""Smoothed cross-entropies, penalties of confidence and distillation, as functions and as modules."""

from labelsmooth.losses.binary import binary_cross_entropy_with_logits
from labelsmooth.losses.binary_modules import BCEWithLogitsLoss, PreferenceLoss
from labelsmooth.losses.brier import brier_penalty
from labelsmooth.losses.cross_entropy import cross_entropy
from labelsmooth.losses.distillation import distillation_loss
from labelsmooth.losses.linear import linear_cross_entropy
from labelsmooth.losses.linear_chunks import Cap
from labelsmooth.losses.modules import CrossEntropyLoss, DistillationLoss, LinearCrossEntropyLoss
from labelsmooth.losses.penalties import confidence_penalty, margin_smoothing, max_suppression
from labelsmooth.losses.penalty_modules import (
    BrierPenaltyLoss,
    ConfidencePenaltyLoss,
    MarginSmoothingLoss,
    MaxSuppressionLoss,
)
from labelsmooth.losses.preference import eps_of_other_kind, preference_loss
from labelsmooth.losses.targets import Denominator, ReductionName
from labelsmooth.losses.vocab_parallel import vocab_parallel_cross_entropy
from labelsmooth.losses.vocab_parallel_linear import vocab_parallel_linear_cross_entropy

__all__ = [
    "BCEWithLogitsLoss",
    "BrierPenaltyLoss",
    "Cap",
    "ConfidencePenaltyLoss",
    "CrossEntropyLoss",
    "Denominator",
    "DistillationLoss",
    "LinearCrossEntropyLoss",
    "MarginSmoothingLoss",
    "MaxSuppressionLoss",
    "PreferenceLoss",
    "ReductionName",
    "binary_cross_entropy_with_logits",
    "brier_penalty",
    "confidence_penalty",
    "cross_entropy",
    "distillation_loss",
    "eps_of_other_kind",
    "linear_cross_entropy",
    "margin_smoothing",
    "max_suppression",
    "preference_loss",
    "vocab_parallel_cross_entropy",
    "vocab_parallel_linear_cross_entropy",
]
