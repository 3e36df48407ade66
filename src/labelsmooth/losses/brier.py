"""The cross-entropy with the Brier score beside it."""

from __future__ import annotations

from typing import Literal, Unpack, overload

from torch import Tensor

from labelsmooth.backends import BackendName
from labelsmooth.checks import require_factor
from labelsmooth.errors import InputError
from labelsmooth.losses.penalised import Options, penalised
from labelsmooth.losses.targets import Denominator, ReductionName, Settings, check_logits
from labelsmooth.row_stats import RowStats
from labelsmooth.smoothing import Smoothing


@overload
def brier_penalty(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    lam: float | Tensor,
    return_stats: Literal[False] = ...,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def brier_penalty(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    lam: float | Tensor,
    return_stats: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, RowStats]: ...
def brier_penalty(
    input: Tensor,  # (N, K, d1, ...) or (K,), or the classes on class_axis
    target: Tensor,  # (N, d1, ...) or ()
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    lam: float | Tensor,
    class_axis: int = 1,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    return_stats: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy plus λ times the Brier score of the prediction, in nats.

    A row's loss is H(q, p) + λ·Σ_k (p_k − [k=y])². The target of the Brier score is the label as it is, so
    that smoothing and penalty pull at two sides of the confidence. Options of a question padded with −inf
    have probability 0 and no part in it.

    Args:
        input, ignore_index, reduction, label_smoothing, class_axis, row_weight, denominator, return_stats,
            backend: as in `cross_entropy`.
        target: class indices in 0..K−1, or `ignore_index`, of the shape without the class axis.
        lam: λ ≥ 0, a number or a 0-d tensor.
        weight: (K,) class weights of the cross-entropy, as there. The penalty takes none: its mean is over
            the rows that count, or by the `denominator`.

    Returns:
        As `cross_entropy`.

    Raises:
        TypeError, ValueError: as `cross_entropy`; dense targets or a mixture; or λ is negative or no number.

    Cost: that of `row_stats`, and a backward that reads the logits once and writes the gradient once.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> brier_penalty(logits, torch.tensor([0, 1]), lam=0.5)
        tensor(0.4378)

    Source: Brier 1950, Verification of Forecasts Expressed in Terms of Probability.
    """
    require_factor(lam, "lam")
    settings = Settings(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        row_weight=row_weight,
        denominator=denominator,
    )
    logits, targets = check_logits(input, target, class_axis, settings)
    if targets.labels is None:
        raise InputError("the Brier score takes class indices, got dense targets or a Mixture")
    return penalised(logits, targets, lam, _score, return_stats, backend, log_sum_sq=True)


def _score(stats: RowStats) -> Tensor:
    """Return the Brier score of rows."""
    return stats.brier
