"""Losses that penalise confidence beside the cross-entropy, where smoothing would change its target."""

from __future__ import annotations

from typing import Literal, Unpack, overload

import torch
from torch import Tensor

from labelsmooth.backends import BackendName
from labelsmooth.checks import require_factor
from labelsmooth.losses.penalised import Options, penalised
from labelsmooth.losses.targets import Denominator, ReductionName, Settings, check_logits
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats, row_stats
from labelsmooth.smoothing import Smoothing


@overload
def confidence_penalty(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    beta: float | Tensor,
    return_stats: Literal[False] = ...,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def confidence_penalty(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    beta: float | Tensor,
    return_stats: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, RowStats]: ...
def confidence_penalty(
    input: Tensor,  # (N, K, d1, ...) or (K,), or the classes on class_axis
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    beta: float | Tensor,
    class_axis: int = 1,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    return_stats: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy less β times the entropy of the prediction, in nats.

    A row's loss is H(q, p) − β·H(p), with H(p) = −Σ_k p_k·log p_k = ℓ − Σ_k p_k·(z_k−m) in the symbols of
    `RowStats`. Smoothing adds a multiple of KL(u‖p), this β·KL(p‖u) but for a constant, so that classes which
    the prediction rules out cost nothing.

    Args:
        input, target, ignore_index, reduction, label_smoothing, class_axis, row_weight, denominator,
            return_stats, backend: as in `cross_entropy`.
        beta: β ≥ 0, a number or a 0-d tensor.
        weight: (K,) class weights of the cross-entropy, as there. The penalty takes none: its mean is over
            the rows that count, or by the `denominator`.

    Returns:
        As `cross_entropy`; it can be negative.

    Raises:
        TypeError, ValueError: as `cross_entropy`; or β is negative or no number.

    Cost: that of `row_stats`, and a backward that reads the logits once and writes the gradient once.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> confidence_penalty(logits, torch.tensor([0, 1]), beta=0.1)
        tensor(0.2857)

    Source: Pereyra et al. 2017, Regularizing Neural Networks by Penalizing Confident Output Distributions,
    §3.
    """
    require_factor(beta, "beta")
    settings = Settings(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        row_weight=row_weight,
        denominator=denominator,
    )
    logits, targets = check_logits(input, target, class_axis, settings)
    return penalised(logits, targets, beta, _negative_entropy, return_stats, backend, mean_logit=True)


@overload
def max_suppression(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    eps: float | Tensor,
    return_stats: Literal[False] = ...,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def max_suppression(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    eps: float | Tensor,
    return_stats: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, RowStats]: ...
def max_suppression(
    input: Tensor,  # (N, K, d1, ...) or (K,), or the classes on class_axis
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    eps: float | Tensor,
    class_axis: int = 1,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    return_stats: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy plus ε times how far the largest logit lies above the mean logit (MaxSup), in nats.

    A row's loss is H(q, p) + ε·(max z − mean z), the penalty being −ε·b for the uniform prior, in the symbols
    of `RowStats`. Uniform smoothing of a label is H(δ_y, p) + ε·(z_y − mean z): the same where the prediction
    is right, but where it is wrong smoothing pulls the label down too, and this what stands above it.

    Args:
        input, target, ignore_index, reduction, label_smoothing, class_axis, row_weight, denominator,
            return_stats, backend: as in `cross_entropy`.
        eps: ε ≥ 0, a number or a 0-d tensor. The authors train with an ε that grows from 0.1 to 0.2 over the
            epochs.
        weight: (K,) class weights of the cross-entropy, as there. The penalty takes none: its mean is over
            the rows that count, or by the `denominator`.

    Returns:
        As `cross_entropy`. +inf where a logit is −inf, unless ε is 0.

    Raises:
        TypeError, ValueError: as `cross_entropy`; or ε is negative or no number.

    Cost: that of `row_stats`, and a backward that reads the logits once and writes the gradient once; twice
        that for dense targets and other mixtures with a prior of their own.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> max_suppression(logits, torch.tensor([0, 2]), eps=0.1)  # the second row is wrong
        tensor(0.9773)

    Source: Zhou et al. 2025, MaxSup: Overcoming Representation Collapse in Label Smoothing.
    """
    require_factor(eps, "eps")
    settings = Settings(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        row_weight=row_weight,
        denominator=denominator,
    )
    logits, targets = check_logits(input, target, class_axis, settings)

    def top_over_mean(stats: RowStats) -> Tensor:
        if targets.mixture.prior is not None:  # then `stats.at_prior` is of that prior
            stats = row_stats(logits, prior="uniform", counted=targets.counted, backend=backend)
        assert stats.at_prior is not None
        return -stats.at_prior

    return penalised(logits, targets, eps, top_over_mean, return_stats, backend, needs_prior=True)


@overload
def margin_smoothing(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    lam: float | Tensor = ...,
    margin: float | Tensor = ...,
    return_stats: Literal[False] = ...,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def margin_smoothing(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    lam: float | Tensor = ...,
    margin: float | Tensor = ...,
    return_stats: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, RowStats]: ...
def margin_smoothing(
    input: Tensor,  # (N, K, d1, ...) or (K,), or the classes on class_axis
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    lam: float | Tensor = 0.1,
    margin: float | Tensor = 10.0,
    class_axis: int = 1,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    return_stats: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy plus λ times how far logits lie more than a margin below the largest (MbLS), in nats.

    A row's loss is H(q, p) + λ·(1/K)·Σ_k max(0, max z − z_k − margin). With a margin of 0 the penalty is that
    of `max_suppression`; one the logits stay within leaves the cross-entropy alone.

    Args:
        input, target, ignore_index, reduction, label_smoothing, class_axis, row_weight, denominator,
            return_stats, backend: as in `cross_entropy`.
        lam: λ ≥ 0, a number or a 0-d tensor; by default that of the paper's code.
        margin: ≥ 0, in nats, a number or a 0-d tensor; by default that of the paper's code for images.
        weight: (K,) class weights of the cross-entropy, as there. The penalty takes none: its mean is over
            the rows that count, or by the `denominator`.

    Returns:
        As `cross_entropy`. +inf where a logit is −inf, unless λ is 0.

    Raises:
        TypeError, ValueError: as `cross_entropy`; or λ or the margin is negative or no number.

    Cost: that of `cross_entropy`, and about five passes and three tensors of the size of the logits, in
        float32: a bound on each logit is no statistic of the row.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> margin_smoothing(logits, torch.tensor([0, 1]), lam=0.1, margin=1.0)
        tensor(0.4106)

    Source: Liu et al. 2022, The Devil is in the Margin: Margin-based Label Smoothing for Network Calibration.
    The paper writes the sum over the classes; its code, and so this, takes their mean, for which λ is K times
    that of the sum.
    """
    require_factor(lam, "lam")
    require_factor(margin, "margin")
    settings = Settings(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        row_weight=row_weight,
        denominator=denominator,
    )
    logits, targets = check_logits(input, target, class_axis, settings)
    logits = logits.to(targets.dtype)  # both parts of the gradient meet before it is rounded

    def beyond_margin(stats: RowStats) -> Tensor:
        z = logits
        if targets.counted is not None:
            z = z.masked_fill(~targets.counted.unsqueeze(-1), 0)
        # the difference first: it is exact at any offset
        return torch.relu(stats.max.unsqueeze(-1) - z - margin).mean(-1)

    return penalised(logits, targets, lam, beyond_margin, return_stats, backend)


def _negative_entropy(stats: RowStats) -> Tensor:
    """Return −H(p) of rows."""
    return -stats.entropy
