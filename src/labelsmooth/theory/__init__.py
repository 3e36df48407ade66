"""Closed forms: what a given ε and K ask of the logits, as plain numbers and without any data.

Logarithms are natural, so losses, gaps and entropies are in nats.
"""

from labelsmooth.theory.binary import (
    BinaryLevels,
    binary_convert,
    binary_entropy_floor,
    binary_optimal_logit,
    binary_target,
)
from labelsmooth.theory.curves import GapCurves, gap_curves
from labelsmooth.theory.decomposition import Decomposition, decomposition, logit_gradient
from labelsmooth.theory.features import FeatureOptimum, unconstrained_features
from labelsmooth.theory.floors import entropy_floor, label_perplexity, perplexity_floor
from labelsmooth.theory.preference import preference_floor, preference_optimum
from labelsmooth.theory.softmax import (
    Levels,
    convert,
    eps_for_confidence,
    eps_for_gap,
    optimal_gap,
    optimum,
    relative_weight,
    target,
)

__all__ = [
    "BinaryLevels",
    "Decomposition",
    "FeatureOptimum",
    "GapCurves",
    "Levels",
    "binary_convert",
    "binary_entropy_floor",
    "binary_optimal_logit",
    "binary_target",
    "convert",
    "decomposition",
    "entropy_floor",
    "eps_for_confidence",
    "eps_for_gap",
    "gap_curves",
    "label_perplexity",
    "logit_gradient",
    "optimal_gap",
    "optimum",
    "perplexity_floor",
    "preference_floor",
    "preference_optimum",
    "relative_weight",
    "target",
    "unconstrained_features",
]
