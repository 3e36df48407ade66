"""Objectives that are the cross-entropy with a penalty of confidence beside it."""

from __future__ import annotations

import math
from abc import abstractmethod

from torch import Tensor

from labelsmooth.losses import confidence_penalty, margin_smoothing, max_suppression
from labelsmooth.mixture import Mixture
from labelsmooth.objectives.criterion import (
    Criterion,
    LinearOutput,
    Loss,
    Number,
    Output,
    count_correct,
    positive,
    sum_over_chunks,
)


class _Penalised(Criterion):
    """Cross-entropy and a penalty, both of the logits."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        """Sum the losses of rows and divide by `denominator`."""

    def __call__(
        self,
        output: Output,
        labels: Tensor,
        *,
        denominator: float,
        target: Mixture | None = None,
        teacher: Output | None = None,  # noqa: ARG002
    ) -> Loss:
        if isinstance(output, LinearOutput):
            return sum_over_chunks(lambda logits, rows: self.loss(logits, rows, denominator), labels, output)
        value = self.loss(output, labels if target is None else target, denominator)
        return Loss(value, count_correct(output, labels))


class ConfidencePenalty(_Penalised, kind="confidence_penalty"):
    """`confidence_penalty:β`: less β times the entropy of the prediction."""

    short = "confidence penalty"
    phrase = "a confidence penalty"
    numbers = (positive("β"),)

    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        return confidence_penalty(logits, target, beta=self.values[0], denominator=denominator)


class MaxSuppression(_Penalised, kind="max_suppression"):
    """`max_suppression:ε`: plus ε times how far the largest logit lies above the mean logit."""

    short = "max-suppression"
    phrase = "max-suppression"
    numbers = (positive("ε"),)

    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        return max_suppression(logits, target, eps=self.values[0], denominator=denominator)


class MarginSmoothing(_Penalised, kind="margin_smoothing"):
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
