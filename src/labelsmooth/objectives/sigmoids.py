"""Objectives of sigmoids, one for each class."""

from __future__ import annotations

from torch import Tensor

from labelsmooth.losses import binary_cross_entropy_with_logits
from labelsmooth.mixture import Mixture
from labelsmooth.objectives.criterion import Number, OfLogits


class Sigmoids(OfLogits, kind="sigmoids"):
    """`sigmoids:ε`: each class by a sigmoid of its own, with (1−ε)·y + ε/2 as its label.

    Given that one label holds, independent sigmoids give class k the probability softmax(z)_k, by which the
    network is measured as all others are.
    """

    short = "sigmoids"
    phrase = "a sigmoid for each class"
    numbers = (Number("ε", "lie in [0, 1]", lambda eps: 0 <= eps <= 1),)

    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        smoothing = 0.0 if isinstance(target, Mixture) else self.values[0]
        return binary_cross_entropy_with_logits(
            logits, target, label_smoothing=smoothing, ignore_index=-100, denominator=denominator
        )
