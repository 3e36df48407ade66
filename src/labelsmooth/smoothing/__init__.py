"""Smoothings, which turn labels into mixtures, and what else is made of smoothed labels."""

from labelsmooth.smoothing.binary import BinarySmoothing, as_binary_smoothing, binary_convention
from labelsmooth.smoothing.makers import (
    as_smoothing,
    class_conditional,
    convention,
    others,
    prior,
    uniform,
    unigram,
)
from labelsmooth.smoothing.mixing import label_dropout, mixup
from labelsmooth.smoothing.rule import Smoothing
from labelsmooth.smoothing.sequence import neighbourhood
from labelsmooth.smoothing.values import EPS_ROUNDING, PRIOR_SUM_TOLERANCE, as_eps

__all__ = [
    "EPS_ROUNDING",
    "PRIOR_SUM_TOLERANCE",
    "BinarySmoothing",
    "Smoothing",
    "as_binary_smoothing",
    "as_eps",
    "as_smoothing",
    "binary_convention",
    "class_conditional",
    "convention",
    "label_dropout",
    "mixup",
    "neighbourhood",
    "others",
    "prior",
    "uniform",
    "unigram",
]
