"""Makers of mixtures: what a label becomes when it is smoothed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Literal

import torch
from torch import Tensor

from labelsmooth.checks import (
    PerRow,
    as_classes,
    as_values,
    plain,
    require,
    require_classes,
    require_num_classes,
    require_tensor,
)
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.mixture import Mixture, finite_scale, take_rows

# How far from 1 the sum of a prior may be: single-precision rounding over a large vocabulary.
PRIOR_SUM_TOLERANCE = 1e-4
# How far above 1 rounding may put an ε that was converted from another convention.
EPS_ROUNDING = 1e-12


class Smoothing(ABC):
    """A frozen rule that turns targets into mixtures; made by `uniform`, `others`, `prior` and their kin."""

    eps: float | Tensor

    def __call__(self, target: Tensor, num_classes: int) -> Mixture:
        """The smoothed targets.

        Args:
            target: class indices (…,) in 0..K−1, or dense rows (…, K) of any mass.
            num_classes: K ≥ 2.

        Returns:
            A `Mixture` of batch shape (…). A dense row d becomes (1−ε)·d + ε·π, as in torch.

        Raises:
            TypeError: `target` holds neither integers nor floating-point rows.
            ValueError: a class out of range, rows of the wrong length, or a prior of another length than K.
        """
        require_num_classes(num_classes)
        self.check_num_classes(num_classes)
        require_tensor(target, "target")
        if target.is_floating_point():
            return self.of_rows(target, num_classes)
        index = as_classes(target, "target")
        require_classes(index, num_classes, "target")
        return self.of_classes(index, num_classes)

    def of_classes(self, target: Tensor, num_classes: int) -> Mixture:
        """The smoothed targets of int64 class indices (…,) that were checked already."""
        self.check_num_classes(num_classes)
        return self._fitting(target.shape)._mixture(target, num_classes)

    def of_rows(self, target: Tensor, num_classes: int, finite: Tensor | None = None) -> Mixture:
        """The smoothed targets of dense rows (…, K), with the smoothing mass on the `finite` classes only."""
        if target.dim() == 0 or target.shape[-1] != num_classes:
            raise InputError(f"dense targets must have shape (…, {num_classes}), got {tuple(target.shape)}")
        rows = target.shape[:-1]
        target = _at_least_float32(plain(target))
        kept, spread = self._fitting(rows)._smooth_rows(target, num_classes)
        if finite is not None:
            spread = spread.expand(target.shape)
            scale = finite_scale(spread, finite, target.dtype).unsqueeze(-1)
            spread = torch.where(finite, spread * scale, 0)
        return Mixture(
            prior=(kept + spread).reshape(-1, num_classes),
            prior_weight=1.0,
            prior_row=torch.arange(rows.numel(), device=target.device).reshape(rows),
        )

    @abstractmethod
    def _mixture(self, target: Tensor, num_classes: int) -> Mixture:
        """The mixture of checked class indices (…,)."""

    @abstractmethod
    def _smooth_rows(self, target: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """What dense targets (…, K) keep of themselves, and the smoothing mass; the latter may broadcast."""

    @abstractmethod
    def exclude(self, classes: Iterable[int]) -> Smoothing:
        """The same smoothing with no smoothing mass on `classes`, the rest renormalised.

        The excluded classes stay in the softmax, and a row labelled with one keeps its share of the target.

        Args:
            classes: class indices ≥ 0, e.g. a padding token's.

        Raises:
            ValueError: a negative class, or no class left to carry the mass.
        """

    @abstractmethod
    def to_uniform(self, num_classes: int) -> float | Tensor:
        """The ε′ for which `uniform(ε′)` gives the same targets.

        Args:
            num_classes: K ≥ 2.

        Returns:
            ε′, at most 1, and at least 0 but for a signed `uniform`; a number or a tensor as `eps` is.

        Raises:
            ValueError: no uniform smoothing gives these targets.
        """

    @abstractmethod
    def check_num_classes(self, num_classes: int) -> None:
        """Raise `ValueError` where the rule itself does not fit K classes."""

    def _fitting(self, rows: torch.Size) -> Smoothing:
        """The same smoothing with its ε in the shape of the rows; `ValueError` where it does not fit."""
        if not isinstance(self.eps, Tensor):
            return self
        eps = _of_rows(self.eps, rows, "eps")
        return self if eps is self.eps else replace(self, eps=eps)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False, kw_only=True)
class TowardsPrior(Smoothing):
    """(1−ε)·δ + ε·π, with one π for all labels or a row of a table for each label."""

    eps: float | Tensor
    prior: Tensor | None = None  # None (uniform), (K,), or (K, K) indexed by the label
    excluded: frozenset[int] = frozenset()  # only beside prior=None: other priors carry their zeros

    def __repr__(self) -> str:
        made_by = (
            "uniform" if self.prior is None else "prior" if self.prior.dim() == 1 else "class_conditional"
        )
        prior = "" if self.prior is None else f", {tuple(self.prior.shape)}"
        return f"{made_by}({_show(self.eps)}{prior}){_show_excluded(self.excluded)}"

    def check_num_classes(self, num_classes: int) -> None:
        if self.prior is not None and self.prior.shape[-1] != num_classes:
            raise InputError(
                f"the prior must cover the {num_classes} classes, got one over {self.prior.shape[-1]}"
            )
        _check_excluded(self.excluded, num_classes, least=1)

    def _mixture(self, target: Tensor, num_classes: int) -> Mixture:
        index = target.unsqueeze(-1)
        if isinstance(self.eps, float):
            if self.eps == 0:
                return Mixture(index=index, weight=1.0)
            eps: float | Tensor = self.eps
            weight: float | Tensor = 1 - eps
        else:
            eps = self.eps.to(target.device)
            weight = (1 - eps).unsqueeze(-1)
        prior, total = self._prior(num_classes, target.device)
        row = target if prior is not None and prior.dim() == 2 else None
        return Mixture(index=index, weight=weight, prior=prior, prior_weight=eps / total, prior_row=row)

    def _smooth_rows(self, target: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        prior, total = self._prior(num_classes, target.device)
        if prior is None:
            prior, total = target.new_ones(num_classes), num_classes
        elif prior.dim() == 2:
            with torch.autocast(target.device.type, enabled=False):
                prior = target @ prior.to(target.dtype)
        eps = _column(self.eps, target)
        return (1 - eps) * target, eps / total * prior.to(target.dtype)

    def _prior(self, num_classes: int, device: torch.device) -> tuple[Tensor | None, int]:
        """The prior up to a factor, and that factor."""
        if self.prior is not None:
            return self.prior.to(device, non_blocking=True), 1
        if not self.excluded:
            return None, 1
        return _allowed(self.excluded, num_classes, device), num_classes - len(self.excluded)

    def exclude(self, classes: Iterable[int]) -> Smoothing:
        excluded = _as_excluded(classes)
        if self.prior is None:
            return replace(self, excluded=self.excluded | excluded)
        _check_excluded(excluded, self.prior.shape[-1], least=1)
        rest = self.prior * _allowed(excluded, self.prior.shape[-1], self.prior.device)
        mass = rest.sum(-1, keepdim=True)
        require(mass > 0, lambda: f"excluding {sorted(excluded)} leaves a prior without any mass")
        return replace(self, prior=rest / mass)

    def to_uniform(self, num_classes: int) -> float | Tensor:
        require_num_classes(num_classes)
        self.check_num_classes(num_classes)
        if isinstance(self.eps, float) and self.eps == 0:
            return 0.0
        off = 0.0 if self.prior is None else float((self.prior.cpu().double() * num_classes - 1).abs().max())
        if self.excluded or off > 1e-6:
            raise InputError(f"no uniform smoothing gives the targets of {self}, whose prior is not uniform")
        return self.eps


@dataclass(frozen=True, eq=False, kw_only=True)
class OntoOthers(Smoothing):
    """The same amount on each other class: ε/(K−1) for others, ε/K for the two that do not sum to 1."""

    eps: float | Tensor
    kind: Literal["others", "coincheung", "leaky"]  # leaky leaves all of 1 on the class, the rest 1−ε
    excluded: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"{self.kind}({_show(self.eps)}){_show_excluded(self.excluded)}"

    def check_num_classes(self, num_classes: int) -> None:
        _check_excluded(self.excluded, num_classes, least=2)

    def _on_and_mass(self, eps: float | Tensor, num_classes: int) -> tuple[float | Tensor, float | Tensor]:
        """What stands on the class, and the sum over the other classes."""
        on = 1.0 if self.kind == "leaky" else 1 - eps
        return on, eps if self.kind == "others" else eps * ((num_classes - 1) / num_classes)

    def _mixture(self, target: Tensor, num_classes: int) -> Mixture:
        index = target.unsqueeze(-1)
        if isinstance(self.eps, float) and self.eps == 0:
            return Mixture(index=index, weight=1.0)
        eps = self.eps.to(target.device) if isinstance(self.eps, Tensor) else self.eps
        on, mass = self._on_and_mass(eps, num_classes)
        carriers = num_classes - len(self.excluded)  # classes that may carry smoothing mass
        # A prior over the carriers reaches the label too, where it is one of them; its weight there is
        # taken back from the label's own.
        share = mass / (carriers - 1)
        own: float | Tensor = on - share
        spread: float | Tensor = share * num_classes
        prior = None
        if self.excluded:
            allowed = _allowed(self.excluded, num_classes, target.device)
            prior, spread = allowed, share
            carrier = take_rows(allowed, target).to(
                _widest_float(target.device)
            )  # whether the label is one, 0 or 1
            own = on - share * carrier
            spread = share * carrier + mass / carriers * (1 - carrier)
        weight = own.unsqueeze(-1) if isinstance(own, Tensor) else own
        return Mixture(index=index, weight=weight, prior=prior, prior_weight=spread)

    def _smooth_rows(self, target: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        on, mass = self._on_and_mass(_column(self.eps, target), num_classes)
        carriers = num_classes - len(self.excluded)
        allowed = _allowed(self.excluded, num_classes, target.device).to(target.dtype)
        share = mass / (carriers - 1)
        # the mass labelled with an excluded class has one carrier more to spread over
        outside = (target * (1 - allowed)).sum(-1, keepdim=True)
        spread = share * (1 - outside) + mass / carriers * outside
        return target * (on - share * allowed), spread * allowed

    def exclude(self, classes: Iterable[int]) -> Smoothing:
        return replace(self, excluded=self.excluded | _as_excluded(classes))

    def to_uniform(self, num_classes: int) -> float | Tensor:
        require_num_classes(num_classes)
        if isinstance(self.eps, float) and self.eps == 0:
            return 0.0
        if self.kind != "others":
            raise InputError(f"no uniform smoothing gives the targets of {self}, whose sum is not 1")
        if self.excluded:
            raise InputError(f"no uniform smoothing gives the targets of {self}, which exclude classes")
        eps = self.eps * (num_classes / (num_classes - 1))
        if isinstance(eps, Tensor):
            require(eps <= 1 + EPS_ROUNDING, lambda: _above_uniform(float(eps.max()), num_classes))
            return eps.clamp(max=1)
        if eps > 1 + EPS_ROUNDING:
            raise InputError(_above_uniform(eps, num_classes))
        return min(eps, 1.0)


def uniform(eps: PerRow, *, signed: bool = False) -> Smoothing:
    """Smoothing towards the uniform distribution, q = (1−ε)·δ + ε/K on every class.

    What a plain `label_smoothing=eps` means here and in torch.

    Args:
        eps: ε in [0, 1], a number, or a tensor, array or list of one value per row, (…) or (…, 1).
        signed: allow ε < 0, generalised label smoothing, whose targets lie beyond the one-hot label. The loss
            then has no floor and no optimum, so `theory` has nothing on it; its paper trains with ε = 0 for
            some epochs first where labels are very noisy.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError: `eps` is neither a number nor a floating-point tensor.
        ValueError: ε outside its range.

    Example:
        >>> uniform(0.1)(torch.tensor([1]), 4).dense(4)
        tensor([[0.0250, 0.9250, 0.0250, 0.0250]])

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, §7. Signed: Wei et al. 2022, To Smooth
    or Not? torch takes a negative ε silently for 0; here it raises unless `signed`.
    """
    return TowardsPrior(eps=as_eps(eps, signed=signed))


def others(eps: PerRow) -> Smoothing:
    """Smoothing over the other classes, q = 1−ε on the class and ε/(K−1) on each other class.

    The convention of fairseq, tensor2tensor and *Bag of Tricks*; equal to `uniform(ε·K/(K−1))`.

    Args:
        eps: ε in [0, 1], a number, or one per row as for `uniform`.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError, ValueError: as `uniform`.

    Example:
        >>> others(0.3)(torch.tensor([1]), 4).dense(4)
        tensor([[0.1000, 0.7000, 0.1000, 0.1000]])

    Source: He et al. 2019, Bag of Tricks for Image Classification, §5.2.
    """
    return OntoOthers(eps=as_eps(eps), kind="others")


def prior(eps: PerRow, p: Tensor) -> Smoothing:
    """Smoothing towards a given distribution over the classes, q = (1−ε)·δ + ε·p.

    Args:
        eps: ε in [0, 1], a number, or one per row as for `uniform`.
        p: (K,) non-negative, summing to 1, e.g. `unigram(counts)`.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError, ValueError: as `uniform`; or `p` is no distribution.

    Example:
        >>> prior(0.5, torch.tensor([0.5, 0.5, 0.0]))(torch.tensor([2]), 3).dense(3)
        tensor([[0.2500, 0.2500, 0.5000]])

    Source: Pereyra et al. 2017, Regularizing Neural Networks by Penalizing Confident Output Distributions,
    §3.2 (unigram smoothing).
    """
    return TowardsPrior(eps=as_eps(eps), prior=_as_distributions(p, dim=1, name="prior"))


def class_conditional(eps: PerRow, table: Tensor) -> Smoothing:
    """Smoothing towards a distribution of each label's own, q = (1−ε)·δ_y + ε·S[y].

    Args:
        eps: ε in [0, 1], a number, or one per row as for `uniform`.
        table: S, (K, K) non-negative; row y, summing to 1, is where the mass of label y goes.

    Returns:
        A `Smoothing` whose targets sum to 1.

    Raises:
        TypeError, ValueError: as `uniform`; or `table` is not square, or a row is no distribution.

    Example:
        >>> S = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
        >>> class_conditional(0.2, S)(torch.tensor([1]), 3).dense(3)
        tensor([[0.1000, 0.8000, 0.1000]])

    Source: Zhang et al. 2021, Delving Deep into Label Smoothing (online smoothing); Bertinetto et al. 2020,
    Making Better Mistakes (hierarchical).
    """
    table = _as_distributions(table, dim=2, name="class-conditional table")
    if table.shape[0] != table.shape[1]:
        raise InputError(f"a class-conditional table must be square (K, K), got {tuple(table.shape)}")
    return TowardsPrior(eps=as_eps(eps), prior=table)


def unigram(counts: Tensor) -> Tensor:
    """The class frequencies, counts/Σcounts, as a distribution for `prior`.

    Args:
        counts: (K,) non-negative with a positive sum, e.g. how often each class or token occurs.

    Returns:
        (K,) in float64.

    Raises:
        ValueError: `counts` is not one row, or holds a negative or no positive value.

    Example:
        >>> unigram(torch.tensor([6, 3, 1]))
        tensor([0.6000, 0.3000, 0.1000], dtype=torch.float64)
    """
    require_tensor(counts, "counts")
    if counts.dim() != 1 or counts.shape[0] < 2:
        raise InputError(f"counts must have shape (K,) with K ≥ 2, got {tuple(counts.shape)}")
    counts = counts.double()
    valid = (counts >= 0) & counts.isfinite()
    require(valid, lambda: f"counts must be finite and not negative, got {_first(counts[~valid])}")
    total = counts.sum()
    require(total > 0, lambda: "counts must have a positive sum, got 0")
    return counts / total


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
    share = _as_share(lam, "lam")
    if isinstance(share, Tensor):
        share = _of_rows(share.to(target.device), target.shape, "lam").expand(target.shape)
    else:
        share = torch.full(target.shape, share, dtype=_widest_float(target.device), device=target.device)
    needs_classes = not isinstance(smoothing, TowardsPrior) or bool(smoothing.excluded)
    if num_classes is None:
        if needs_classes:
            raise InputError(f"mixup with {smoothing} needs num_classes, got None")
        # without K the range of the labels is checked by the loss
        first, second = (smoothing._mixture(labels, 0) for labels in (target, partner))
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
    smoothing = uniform(eps)._fitting(target.shape)
    chance = smoothing.eps.to(target.device) if isinstance(smoothing.eps, Tensor) else smoothing.eps
    if prior is None:
        drawn = torch.randint(num_classes, target.shape, generator=generator, device=target.device)
    else:
        prior = _as_distributions(prior, dim=1, name="prior")
        if prior.shape[0] != num_classes:
            raise InputError(f"the prior must cover the {num_classes} classes, got one over {prior.shape[0]}")
        drawn = torch.multinomial(
            prior.to(target.device), max(target.numel(), 1), replacement=True, generator=generator
        )
        drawn = drawn[: target.numel()].reshape(target.shape)
    # in float64 where there is one, so that the chance of a redraw is ε and not its rounding
    draw = torch.rand(
        target.shape, generator=generator, dtype=_widest_float(target.device), device=target.device
    )
    return torch.where((draw < chance) & ~kept, drawn, target)


def as_smoothing(label_smoothing: float | Smoothing) -> Smoothing:
    """A `label_smoothing` argument as a `Smoothing`: a plain number means `uniform`."""
    return label_smoothing if isinstance(label_smoothing, Smoothing) else uniform(label_smoothing)


def as_eps(eps: PerRow, *, signed: bool = False) -> float | Tensor:
    """A checked ε: a float, or a tensor in at least float32."""
    return _as_share(eps, "eps", signed=signed)


def _as_share(value: PerRow, name: str, *, signed: bool = False) -> float | Tensor:
    """A number or one per row, in [0, 1], or at most 1 where `signed`."""
    expected = "at most 1" if signed else "in [0, 1]"
    share = value if type(value) is float else as_values(value)  # as it mostly is
    if isinstance(share, Tensor):
        if not share.is_floating_point():
            raise InputTypeError(f"a tensor {name} must be floating-point, got {share.dtype}")
        values = share
        inside = (values <= 1) & values.isfinite()
        if not signed:
            inside = inside & (values >= 0)
        require(inside, lambda: f"{name} must be {expected}, got {_first(values[~inside])}")
        return _at_least_float32(share)
    if type(share) is not float and (isinstance(share, bool) or not isinstance(share, Real | torch.SymFloat)):
        raise InputTypeError(f"{name} must be a number or a tensor, got {type(share).__name__}")
    share = float(share)
    if not (share <= 1 and (share >= 0 or (signed and share > -math.inf))):
        raise InputError(f"{name} must be {expected}, got {share}")
    return share


def _of_rows(value: Tensor, rows: torch.Size, name: str) -> Tensor:
    """One value, or one for each of the rows (…), which may have dimensions of 1 behind them."""
    if value.dim() == 0 or value.shape == rows:
        return value
    if value.shape[: len(rows)] == rows and value.numel() == rows.numel():
        return value.reshape(rows)
    raise InputError(f"a tensor {name} must hold one value per row {tuple(rows)}, got {tuple(value.shape)}")


def _as_distributions(p: Tensor, *, dim: int, name: str) -> Tensor:
    if not isinstance(p, Tensor) or not p.is_floating_point():
        raise InputTypeError(
            f"the {name} must be a floating-point tensor, got {getattr(p, 'dtype', type(p))}"
        )
    p = _at_least_float32(p)
    if p.dim() != dim or p.shape[-1] < 2:
        shape = "(K,)" if dim == 1 else "(K, K)"
        raise InputError(f"the {name} must have shape {shape} with K ≥ 2, got {tuple(p.shape)}")
    require(p >= 0, lambda: f"the {name} must not be negative or NaN, got {_first(p[~(p >= 0)])}")
    off = (p.sum(-1) - 1).abs()
    require(
        off <= PRIOR_SUM_TOLERANCE,
        lambda: f"the {name} must sum to 1, got {_first(p.sum(-1)[off == off.max()])}",
    )
    return p


def _as_excluded(classes: Iterable[int]) -> frozenset[int]:
    if not isinstance(classes, Iterable):
        raise InputTypeError(f"excluded classes must be a list of ints, got {type(classes).__name__}")
    excluded: set[int] = set()
    for k in classes:
        if isinstance(k, bool) or not isinstance(k, Integral):
            raise InputTypeError(f"excluded classes must be ints, got {k!r}")
        excluded.add(int(k))
    if any(k < 0 for k in excluded):
        raise InputError(f"excluded classes must not be negative, got {min(excluded)}")
    return frozenset(excluded)


def _check_excluded(excluded: frozenset[int], num_classes: int, *, least: int) -> None:
    if excluded and max(excluded) >= num_classes:
        raise InputError(f"excluded classes must lie in 0..{num_classes - 1}, got {max(excluded)}")
    if num_classes - len(excluded) < least:
        raise InputError(
            f"at least {least} of the {num_classes} classes must stay, got {len(excluded)} excluded"
        )


def _allowed(excluded: frozenset[int], num_classes: int, device: torch.device) -> Tensor:
    """(K,) of ones, and zeros at the excluded classes: a uniform prior times the number of the rest."""
    allowed = torch.ones(num_classes, device=device)
    return allowed.index_fill(0, torch.tensor(sorted(excluded), dtype=torch.int64, device=device), 0)


def _at_least_float32(values: Tensor) -> Tensor:
    """Half precision widened: 1−ε of a bfloat16 ε would be off by parts in a thousand."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _widest_float(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _column(value: float | Tensor, rows: Tensor) -> float | Tensor:
    """A value per row as a column beside dense rows (…, K)."""
    return value.to(rows).unsqueeze(-1) if isinstance(value, Tensor) else value


def _above_uniform(eps: float, num_classes: int) -> str:
    most = (num_classes - 1) / num_classes
    return (
        f"no uniform smoothing gives `others` above eps {most:.6g} for {num_classes} classes, "
        f"it would be {eps:.6g}"
    )


def _first(values: Tensor) -> float:
    return float(values.flatten()[0])


def _show(eps: float | Tensor) -> str:
    return f"{eps:g}" if isinstance(eps, float) else f"tensor{tuple(eps.shape)}"


def _show_excluded(excluded: frozenset[int]) -> str:
    return f".exclude({sorted(excluded)})" if excluded else ""
