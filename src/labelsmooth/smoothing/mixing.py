"""Targets of mixed inputs, and labels drawn at random from a smoothed target."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.checks import PerRow, as_classes, require_classes, require_num_classes
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.mixture import Mixture
from labelsmooth.smoothing.makers import as_smoothing
from labelsmooth.smoothing.rule import Smoothing
from labelsmooth.smoothing.rules import TowardsPrior
from labelsmooth.smoothing.values import as_distributions, as_eps, as_share, one_per_row, widest_float


def mixup(
    target: Tensor,
    partner: Tensor,
    lam: PerRow,
    label_smoothing: float | Smoothing = 0.0,
    num_classes: int | None = None,
) -> Mixture:
    """Targets of mixed inputs (mixup, CutMix), q = λ·q(target) + (1−λ)·q(partner), as two indices a row.

    Args:
        target: (…,) class indices.
        partner: (…,) class indices of what each input was mixed with.
        lam: λ in [0, 1], the share of `target`; a number, or one per row as for `uniform`.
        label_smoothing: ε of `uniform`, or a `Smoothing`, applied to both labels.
        num_classes: K, needed only where the smoothing depends on it (all but `uniform` and `prior`).

    Returns:
        A `Mixture` of batch shape (…) with J = 2.

    Raises:
        TypeError: labels that are not integers, such as soft targets, which are mixed as they are.
        ValueError: different shapes, λ outside [0, 1], `num_classes` missing, or a class-conditional
            smoothing, whose two priors a row one mixture cannot hold.

    Example:
        >>> mixup(torch.tensor([0]), torch.tensor([2]), 0.75).dense(3)
        tensor([[0.7500, 0.0000, 0.2500]], dtype=torch.float64)

    Source: Zhang et al. 2018, mixup; Yun et al. 2019, CutMix.
    """
    smoothing = as_smoothing(label_smoothing)
    for name, labels in (("target", target), ("partner", partner)):
        if isinstance(labels, Tensor) and labels.is_floating_point():
            raise InputTypeError(
                f"mixup takes integer class indices, got a {labels.dtype} {name}; mix soft targets by "
                "lam * target + (1 - lam) * partner and give them to the loss as they are"
            )
    target, partner = as_classes(target, "target"), as_classes(partner, "partner")
    if target.shape != partner.shape:
        raise InputError(
            "target and partner must have the same shape, "
            f"got {tuple(target.shape)} and {tuple(partner.shape)}"
        )
    share = as_share(lam, "lam")
    if isinstance(share, Tensor):
        share = one_per_row(share.to(target.device), target.shape, "lam").expand(target.shape)
    else:
        share = torch.full(target.shape, share, dtype=widest_float(target.device), device=target.device)
    needs_classes = not isinstance(smoothing, TowardsPrior) or bool(smoothing.excluded)
    if num_classes is None:
        if needs_classes:
            raise InputError(f"mixup with {smoothing} needs num_classes, got None")
        # without K the range of the labels is checked by the loss
        first, second = (smoothing.mixture(labels, 0) for labels in (target, partner))
    else:
        first, second = smoothing(target, num_classes), smoothing(partner, num_classes)
    if first.prior_row is not None:
        raise InputError("mixup cannot hold two class-conditional priors a row; mix dense targets instead")
    assert first.index is not None
    assert first.weight is not None
    assert second.index is not None
    assert second.weight is not None
    column = share.unsqueeze(-1)
    prior_weight: Tensor | float | None = None
    if first.prior_weight is not None and second.prior_weight is not None:
        prior_weight = share * first.prior_weight + (1 - share) * second.prior_weight
    return Mixture(
        index=torch.cat([first.index, second.index], -1),
        weight=torch.cat([column * first.weight, (1 - column) * second.weight], -1),
        prior=first.prior,
        prior_weight=prior_weight,
    )


def label_dropout(
    target: Tensor,
    num_classes: int,
    eps: PerRow,
    prior: Tensor | None = None,
    generator: torch.Generator | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Labels redrawn from the prior with probability ε; their mean is the smoothed target (1−ε)·δ + ε·π.

    Args:
        target: (…,) class indices in 0..K−1, or `ignore_index`.
        num_classes: K ≥ 2.
        eps: ε in [0, 1], a number, or one per row as for `uniform`.
        prior: (K,) the distribution drawn from; None for the uniform one.
        generator: the source of randomness; None for torch's own.
        ignore_index: labels with this value are left as they are.

    Returns:
        (…,) int64 class indices.

    Raises:
        TypeError, ValueError: as `uniform` and `prior`; or a label out of range.

    Example:
        >>> label_dropout(torch.tensor([1, 1, 1, 1]), 3, eps=0.0)
        tensor([1, 1, 1, 1])

    Source: Szegedy et al. 2016, §7, where smoothing is derived as its expectation (label-dropout).
    """
    require_num_classes(num_classes)
    target = as_classes(target, "target")
    kept = target == ignore_index
    require_classes(torch.where(kept, 0, target), num_classes, "target")
    chance = as_eps(eps)
    if isinstance(chance, Tensor):
        chance = one_per_row(chance, target.shape, "eps").to(target.device)
    if prior is None:
        drawn = torch.randint(num_classes, target.shape, generator=generator, device=target.device)
    else:
        prior = as_distributions(prior, dim=1, name="prior")
        if prior.shape[0] != num_classes:
            raise InputError(f"the prior must cover the {num_classes} classes, got one over {prior.shape[0]}")
        drawn = torch.multinomial(
            prior.to(target.device), max(target.numel(), 1), replacement=True, generator=generator
        )
        drawn = drawn[: target.numel()].reshape(target.shape)
    # in float64 where there is one, so that the chance of a redraw is ε and not its rounding
    draw = torch.rand(
        target.shape, generator=generator, dtype=widest_float(target.device), device=target.device
    )
    return torch.where((draw < chance) & ~kept, drawn, target)
