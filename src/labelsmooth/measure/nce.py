"""Normalised cross-entropy: how much confidences tell of which answers are right, beyond how many are."""

from __future__ import annotations

import numpy as np

from labelsmooth.measure.arrays import Bools, Floats

_LEAST = 2.0**-53  # of the chance to be wrong, which a confidence that rounds to 1 leaves


def normalised_cross_entropy(
    confidence: Floats,  # (N,)
    correct: Bools,  # (N,)
) -> float:
    """Compute NCE = 1 − H/H_max, at most 1.

    H = −mean(log c_i of rows that are right, log(1 − c_i) of those that are wrong) is the cross-entropy of
    the confidences, and H_max = −a·log a − (1 − a)·log(1 − a) that of the accuracy a as the confidence of all
    rows, which so has the NCE 0. Worse confidences than that have a negative one.

    Returns:
        NCE; nan where all rows are right, or none is.

    Example:
        >>> right = np.array([True, True, True, False])
        >>> round(normalised_cross_entropy(np.array([0.9, 0.9, 0.9, 0.2]), right), 3)
        0.76

    Source: Siu, Gish & Richardson 1997, "Improved estimation, evaluation and applications of confidence
    measures for speech recognition"; the NCE of NIST's SCTK.
    """
    share = correct.mean()
    if share in (0, 1):
        return np.nan
    return 1 - float(_losses(confidence, correct).mean() / _entropy(share))


def nce_influence(confidence: Floats, correct: Bools) -> Floats:
    """The influence of each row on the NCE, which is their mean, (N,).

    Of 1 − H/h(a), a row moves H by its own loss, and the entropy h by (correct − a)·log((1 − a)/a).
    """
    losses, share = _losses(confidence, correct), correct.mean()
    most = _entropy(share)
    ratio = losses.mean() / most
    slope = np.log((1 - share) / share)
    influence: Floats = 1 - losses / most + ratio * (correct - share) * slope / most
    return influence


def _losses(confidence: Floats, correct: Bools) -> Floats:
    losses: Floats = -np.log(np.where(correct, confidence, np.maximum(1 - confidence, _LEAST)))
    return losses


def _entropy(share: float) -> float:
    return float(-share * np.log(share) - (1 - share) * np.log1p(-share))
