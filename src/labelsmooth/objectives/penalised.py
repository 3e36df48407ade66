"""Objectives that are the cross-entropy with a penalty of confidence beside it."""

from __future__ import annotations

import math

from torch import Tensor

from labelsmooth.losses import brier_penalty, confidence_penalty, margin_smoothing, max_suppression
from labelsmooth.mixture import Mixture
from labelsmooth.objectives.criterion import Number, OfLogits, positive


class ConfidencePenalty(OfLogits, kind="confidence_penalty"):
    """`confidence_penalty:β`: less β times the entropy of the prediction."""

    short = "confidence penalty"
    phrase = "a confidence penalty"
    numbers = (positive("β"),)

    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        return confidence_penalty(logits, target, beta=self.values[0], denominator=denominator)


class MaxSuppression(OfLogits, kind="max_suppression"):
    """`max_suppression:ε`: plus ε times how far the largest logit lies above the mean logit."""

    short = "max-suppression"
    phrase = "max-suppression"
    numbers = (positive("ε"),)

    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        return max_suppression(logits, target, eps=self.values[0], denominator=denominator)


class MarginSmoothing(OfLogits, kind="margin_smoothing"):
    """`margin_smoothing:λ:margin`: plus λ times how far logits lie more than a margin below the largest."""

    short = "margin-based"
    phrase = "margin-based smoothing"
    numbers = (
        positive("λ"),
        Number("margin", "be at least 0 and finite", lambda margin: 0 <= margin < math.inf, default=10.0),
    )

    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        lam, margin = self.values
        return margin_smoothing(logits, target, lam=lam, margin=margin, denominator=denominator)


class BrierPenalty(OfLogits, kind="brier_penalty"):
    """`brier_penalty:λ`: plus λ times the Brier score of the prediction."""

    short = "Brier penalty"
    phrase = "the Brier score beside the cross-entropy"
    numbers = (positive("λ"),)
    takes_mixtures = False

    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        assert isinstance(target, Tensor)
        return brier_penalty(logits, target, lam=self.values[0], denominator=denominator)
