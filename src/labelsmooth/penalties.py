"""Losses that penalise confidence beside the cross-entropy, where smoothing would change its target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from labelsmooth.backends import op
from labelsmooth.backends.select import Backend, hindrance, select
from labelsmooth.checks import require_factor
from labelsmooth.losses import Denominator, ReductionName, Targets, checked
from labelsmooth.mixture import Mixture
from labelsmooth.row_loss import times
from labelsmooth.row_stats import RowStats, row_stats
from labelsmooth.smoothing import Smoothing


def confidence_penalty(
    input: Tensor,  # (N, K, d1, ...) or (K,)
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    beta: float | Tensor,
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    backend: Backend = "auto",
) -> Tensor:
    """Cross-entropy less β times the entropy of the prediction, in nats.

    A row's loss is H(q, p) − β·H(p), with H(p) = −Σ_k p_k·log p_k = ℓ − Σ_k p_k·(z_k−m) in the symbols of
    `RowStats`. Smoothing adds a multiple of KL(u‖p), this β·KL(p‖u) but for a constant, so that classes which
    the prediction rules out cost nothing.

    Args:
        input, target, ignore_index, reduction, row_weight, denominator, backend: as in `cross_entropy`.
        beta: β ≥ 0, a number or a 0-d tensor.
        weight: (K,) class weights of the cross-entropy, as there. The penalty takes none: its mean is over
            the rows that count, or by the `denominator`.
        label_smoothing: of q, as in `cross_entropy`.

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
    logits, targets = checked(
        input,
        target,
        weight,
        ignore_index,
        reduction,
        label_smoothing,
        row_weight=row_weight,
        denominator=denominator,
    )
    return _penalised(
        logits,
        targets,
        beta,
        lambda stats: -stats.entropy,
        reduction,
        denominator,
        backend,
        mean_logit=True,
    )


def max_suppression(
    input: Tensor,  # (N, K, d1, ...) or (K,)
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    eps: float | Tensor,
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    *,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    backend: Backend = "auto",
) -> Tensor:
    """Cross-entropy plus ε times how far the largest logit lies above the mean logit (MaxSup), in nats.

    A row's loss is H(q, p) + ε·(max z − mean z), the penalty being −ε·b for the uniform prior, in the symbols
    of `RowStats`. Uniform smoothing of a label is H(δ_y, p) + ε·(z_y − mean z): the same where the prediction
    is right, but where it is wrong smoothing pulls the label down too, and this what stands above it.

    Args:
        input, target, ignore_index, reduction, row_weight, denominator, backend: as in `cross_entropy`.
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
    logits, targets = checked(
        input, target, weight, ignore_index, reduction, 0.0, row_weight=row_weight, denominator=denominator
    )

    def top_over_mean(stats: RowStats) -> Tensor:
        if targets.mixture.prior is not None:  # which is what the one pass went over
            stats = row_stats(logits, prior="uniform", counted=targets.counted, backend=backend)
        assert stats.at_prior is not None
        return -stats.at_prior

    return _penalised(logits, targets, eps, top_over_mean, reduction, denominator, backend, prior=True)


def margin_smoothing(
    input: Tensor,  # (N, K, d1, ...) or (K,)
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    lam: float | Tensor,
    margin: float | Tensor,
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    *,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    backend: Backend = "auto",
) -> Tensor:
    """Cross-entropy plus λ times how far logits lie more than a margin below the largest (MbLS), in nats.

    A row's loss is H(q, p) + λ·(1/K)·Σ_k max(0, max z − z_k − margin). With a margin of 0 the penalty is that
    of `max_suppression`; one the logits stay within leaves the cross-entropy alone.

    Args:
        input, target, ignore_index, reduction, row_weight, denominator, backend: as in `cross_entropy`.
        lam: λ ≥ 0, a number or a 0-d tensor; 0.1 in the paper's code.
        margin: ≥ 0, in nats, a number or a 0-d tensor; 10 in the paper's code for images.
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
    logits, targets = checked(
        input, target, weight, ignore_index, reduction, 0.0, row_weight=row_weight, denominator=denominator
    )
    logits = logits.to(targets.dtype)  # both parts of the gradient meet before it is rounded

    def beyond_margin(stats: RowStats) -> Tensor:
        z = logits
        if targets.counted is not None:
            z = z.masked_fill(~targets.counted.unsqueeze(-1), 0)
        # the difference first: it is exact at any offset
        return torch.relu(stats.max.unsqueeze(-1) - z - margin).mean(-1)

    return _penalised(logits, targets, lam, beyond_margin, reduction, denominator, backend)


def _penalised(
    logits: Tensor,  # (..., K)
    targets: Targets,
    factor: float | Tensor,
    penalty: Callable[[RowStats], Tensor],  # of rows, (...)
    reduction: ReductionName,
    denominator: Denominator,
    backend: Backend,
    *,
    mean_logit: bool = False,
    prior: bool = False,  # whether the penalty reads `at_prior`, of the uniform prior where targets have none
) -> Tensor:
    """The reduced cross-entropy plus factor·penalty, both of one pass over the logits."""
    rows, num_classes = logits.shape[:-1], logits.shape[-1]
    request = replace(targets.request(rows, num_classes, everything=False), mean_logit=mean_logit)
    if prior and request.prior is None:
        request = replace(request, prior="uniform")
    chosen, _ = select(backend, logits.device, hindrance(logits, targets.mixture.prior))
    parts = op.row_stats(logits, request, chosen)
    stats = RowStats(index=request.index, mask=request.counted, **parts._asdict())
    # class weights are of the cross-entropy, so each of the two is averaged as if it were alone
    of_entropy, of_penalty = (
        each.reduction(reduction, denominator, math.prod(rows))
        for each in (targets, replace(targets, weight=None))
    )
    entropy = of_entropy(targets.row_loss(0.0).of(parts), targets.counted)
    return entropy + of_penalty(times(factor, penalty(stats)), targets.counted)
