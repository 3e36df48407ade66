"""The smoothed loss of preferences between two answers, of which some are labelled the wrong way round."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.checks import plain, require, require_logits, require_positive
from labelsmooth.conventions import PreferenceKind, require_preference_kind
from labelsmooth.errors import InputError
from labelsmooth.losses.row_loss import times
from labelsmooth.losses.targets import ReductionName, Settings
from labelsmooth.smoothing import as_eps


def preference_loss(
    margin: Tensor,  # (...)
    beta: float = 0.1,
    label_smoothing: float | Tensor = 0.0,
    kind: PreferenceKind = "conservative",
    *,
    reduction: ReductionName = "mean",
) -> Tensor:
    """Loss of the margins h between the answer that was preferred and the other, in nats.

    Conservative: −(1−ε)·log σ(βh) − ε·log σ(−βh), the cross-entropy against a preference that holds with
    probability 1−ε. Robust: (−(1−ε)·log σ(βh) + ε·log σ(−βh)) / (1−2ε), whose mean over labels that are wrong
    with probability ε is the loss of the right ones; it is the conservative one at −ε/(1−2ε).

    Args:
        margin: (…) h, as in DPO the log-ratio of policy and reference of the preferred answer minus that of
            the other.
        beta: > 0.
        label_smoothing: ε, in [0, 1], or of the robust loss in [0, ½); or one for each pair, (…).
        kind: "conservative" or "robust".
        reduction: "none", "mean" or "sum" over the pairs.

    Returns:
        0-d, or (…) for "none"; float64 for float64 margins, else float32. The mean of no pair is 0.

    Raises:
        TypeError, ValueError: margins that are not floating-point, an ε out of range or of another shape.

    Cost: some passes over one number a pair.

    Example:
        >>> preference_loss(torch.tensor([10.0, -10.0]), label_smoothing=0.1)
        tensor(0.8133)

    Source: Mitchell 2023, "A note on DPO with noisy preferences" (conservative); Chowdhury et al. 2024,
    arXiv:2403.00409 (robust).
    """
    margin = plain(margin)
    require_logits(margin, "margin")
    eps = plain(check_preference(beta, label_smoothing, kind, reduction))
    if isinstance(eps, Tensor):
        if eps.dim() and eps.shape != margin.shape:
            raise InputError(f"label_smoothing must have shape {tuple(margin.shape)}, got {tuple(eps.shape)}")
        if margin.dtype != torch.float64:
            eps = eps.float()
    if kind == "robust":
        eps = eps_of_other_kind(eps)
    scaled = beta * (margin if margin.dtype == torch.float64 else margin.float())
    losses = times(eps - 1, F.logsigmoid(scaled)) - times(eps, F.logsigmoid(-scaled))
    if reduction == "none":
        return losses
    return losses.sum() / max(losses.numel(), 1) if reduction == "mean" else losses.sum()


def check_preference(
    beta: float, label_smoothing: float | Tensor, kind: PreferenceKind, reduction: ReductionName
) -> float | Tensor:
    """Return ε, or raise `TypeError` or `ValueError` for a setting that no margins could make right."""
    require_positive(beta, "beta")
    Settings(reduction=reduction).check()
    require_preference_kind(kind)
    eps = as_eps(label_smoothing)
    if kind == "robust":
        below = torch.as_tensor(eps) < 0.5
        require(below, lambda: f"label_smoothing of the robust loss must be below 0.5, got {eps}")
    return eps


def eps_of_other_kind(eps: Any) -> Any:
    """Give −ε/(1−2ε): at this ε the conservative loss is the robust one at ε, and the other way round."""
    return -eps / (1 - 2 * eps)
