"""Class weights: the ways in which losses are known to use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Use:
    """A way to weigh: what the target (N, K) was before, given truth (N, K) and weights (K,).

    Attributes:
        says: what the weights multiply.
        undone: the target without them.
    """

    says: str
    undone: Callable[[Tensor, Tensor, Tensor], Tensor]


def _of_row(truth: Tensor, weight: Tensor) -> Tensor:
    return (truth * weight).sum(-1, keepdim=True)


def _without_hard(target: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    other = (target * (1 - truth)).sum(-1, keepdim=True) / (1 - truth).sum(-1, keepdim=True)
    return torch.where(truth > 0, other + (target - other) / weight, target)


USES = (
    Use("each class's share of the target, as in torch", lambda target, _, weight: target / weight),
    Use("the whole row, by its label", lambda target, truth, weight: target / _of_row(truth, weight)),
    Use("the label's own term alone, and no share of the smoothing", _without_hard),
    Use("nothing", lambda target, _truth, _weight: target),
)


def trial_weight(num_classes: int) -> Tensor:
    """(K,) weights to try, no two of neighbours alike."""
    return 0.5 + (torch.arange(num_classes) * 5 % 7).double() / 4
