"""Targets of the tokens of sequences, smoothed over the tokens beside them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.checks import PerRow, as_classes
from labelsmooth.errors import InputError
from labelsmooth.mixture import Mixture
from labelsmooth.smoothing.values import as_eps, one_per_row, widest_float

# The label of a token and those at distance 1, 1, 2, 2, as places of a window of five; what each gets of ε.
_ORDER = (2, 1, 3, 0, 4)
_SHARES = (0, 5 / 14, 5 / 14, 2 / 14, 2 / 14)


def neighbourhood(target: Tensor, eps: PerRow, *, ignore_index: int = -100) -> Mixture:
    """Targets of tokens smoothed over their neighbours in the sequence (temporal smoothing).

    q_t = (1−ε)·δ(y_t) + ε/14·(5·δ(y_{t−1}) + 5·δ(y_{t+1}) + 2·δ(y_{t−2}) + 2·δ(y_{t+2})). A neighbour that
    recurs, or is the label itself, gets the sum. What would go to one that is not there, as before the first
    token, or is not counted, stays on the label.

    Args:
        target: (…, T) class indices of sequences, or `ignore_index` where a token does not count.
        eps: ε in [0, 1], a number, or one per token as for `uniform`.
        ignore_index: the label of tokens that do not count, as behind the end of a shorter sequence.

    Returns:
        A `Mixture` of batch shape (…, T) with J = 5, the label first. Tokens that do not count have the mass
        0; `mixture[target != ignore_index]` are the others.

    Raises:
        TypeError, ValueError: as `uniform`; or targets that are not integers, or without an axis of tokens.

    Cost: five indices and weights a token.

    Example:
        >>> neighbourhood(torch.tensor([0, 1, 2, -100]), 0.14).dense(3)
        tensor([[0.9300, 0.0500, 0.0200],
                [0.0500, 0.9000, 0.0500],
                [0.0200, 0.0500, 0.9300],
                [0.0000, 0.0000, 0.0000]], dtype=torch.float64)

    Source: Chorowski & Jaitly 2017, Towards better decoding and language model integration in sequence to
    sequence models (neighborhood smoothing), with the ratio 5 : 2 of the distances ±1 and ±2, and the same
    weight on both sides, as Espresso reads it. At a border Espresso divides ε among those that are there.
    """
    target = as_classes(target, "target")
    if target.dim() == 0:
        raise InputError("target must have shape (…, T), got ()")
    eps = as_eps(eps)
    if isinstance(eps, Tensor):
        eps = one_per_row(eps, target.shape, "eps").to(target.device).unsqueeze(-1)
    counted = target != ignore_index
    index, beside = (
        F.pad(values, (2, 2)).unfold(-1, 5, 1)[..., _ORDER]
        for values in (torch.where(counted, target, 0), counted.long())
    )
    shares = torch.tensor(_SHARES, dtype=widest_float(target.device), device=target.device)
    weight = eps * shares * beside
    weight[..., 0] = 1 - weight.sum(-1)
    return Mixture(index=index, weight=weight * counted.unsqueeze(-1))
