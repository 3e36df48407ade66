"""The penalties as modules."""

from __future__ import annotations

from typing import TypedDict, Unpack

from torch import Tensor

from labelsmooth.backends import BackendName
from labelsmooth.checks import require_factor
from labelsmooth.losses.brier import brier_penalty
from labelsmooth.losses.modules import LossOfLogits
from labelsmooth.losses.penalties import confidence_penalty, margin_smoothing, max_suppression
from labelsmooth.losses.targets import Denominator, ReductionName
from labelsmooth.smoothing import Smoothing


class Options(TypedDict, total=False):
    """The keywords of the penalties' modules beside the numbers of the penalty."""

    class_axis: int
    denominator: Denominator
    return_stats: bool
    backend: BackendName


class ConfidencePenaltyLoss(LossOfLogits):
    """`confidence_penalty` as a module.

    Args:
        weight, ignore_index, reduction, label_smoothing, beta: as in `confidence_penalty`.
        options: `class_axis`, `denominator` and `backend` as there, `return_stats` as in `CrossEntropyLoss`.

    Raises:
        TypeError, ValueError: as `confidence_penalty`, already when the module is made.

    Example:
        >>> loss = ConfidencePenaltyLoss(beta=0.1)
        >>> loss(torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.2857)
    """

    _function = staticmethod(confidence_penalty)

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        *,
        beta: float | Tensor,
        **options: Unpack[Options],
    ) -> None:
        require_factor(beta, "beta")
        super().__init__(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            beta=beta,
            **options,
        )


class MaxSuppressionLoss(LossOfLogits):
    """`max_suppression` as a module.

    Args:
        weight, ignore_index, reduction, label_smoothing, eps: as in `max_suppression`. Set `eps` between
            epochs for a schedule.
        options: `class_axis`, `denominator` and `backend` as there, `return_stats` as in `CrossEntropyLoss`.

    Raises:
        TypeError, ValueError: as `max_suppression`, already when the module is made.

    Example:
        >>> loss = MaxSuppressionLoss(eps=0.1)
        >>> loss(torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 2]))
        tensor(0.9773)
    """

    _function = staticmethod(max_suppression)

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        *,
        eps: float | Tensor,
        **options: Unpack[Options],
    ) -> None:
        require_factor(eps, "eps")
        super().__init__(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            eps=eps,
            **options,
        )


class MarginSmoothingLoss(LossOfLogits):
    """`margin_smoothing` as a module.

    Args:
        weight, ignore_index, reduction, label_smoothing, lam, margin: as in `margin_smoothing`.
        options: `class_axis`, `denominator` and `backend` as there, `return_stats` as in `CrossEntropyLoss`.

    Raises:
        TypeError, ValueError: as `margin_smoothing`, already when the module is made.

    Example:
        >>> loss = MarginSmoothingLoss(margin=1.0)
        >>> loss(torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.4106)
    """

    _function = staticmethod(margin_smoothing)

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        *,
        lam: float | Tensor = 0.1,
        margin: float | Tensor = 10.0,
        **options: Unpack[Options],
    ) -> None:
        require_factor(lam, "lam")
        require_factor(margin, "margin")
        super().__init__(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            lam=lam,
            margin=margin,
            **options,
        )


class BrierPenaltyLoss(LossOfLogits):
    """`brier_penalty` as a module.

    Args:
        weight, ignore_index, reduction, label_smoothing, lam: as in `brier_penalty`.
        options: `class_axis`, `denominator` and `backend` as there, `return_stats` as in `CrossEntropyLoss`.

    Raises:
        TypeError, ValueError: as `brier_penalty`, already when the module is made.

    Example:
        >>> loss = BrierPenaltyLoss(lam=0.5)
        >>> loss(torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.4378)
    """

    _function = staticmethod(brier_penalty)

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        *,
        lam: float | Tensor,
        **options: Unpack[Options],
    ) -> None:
        require_factor(lam, "lam")
        super().__init__(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            lam=lam,
            **options,
        )
