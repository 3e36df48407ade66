"""The two kinds of smoothing: towards a prior over all classes, and onto the other classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from labelsmooth.checks import require, require_num_classes
from labelsmooth.conventions import OWN_NAMES, Convention
from labelsmooth.errors import InputError
from labelsmooth.mixture import Mixture, take_rows
from labelsmooth.smoothing.rule import Smoothing
from labelsmooth.smoothing.values import (
    EPS_ROUNDING,
    allowed_classes,
    as_column,
    as_excluded,
    check_excluded,
    one_per_row,
    show_eps,
    show_excluded,
    widest_float,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class _EpsSmoothing(Smoothing):
    """A smoothing with an ε for all rows, or one for each."""

    eps: float | Tensor

    def for_rows(self, rows: torch.Size) -> Smoothing:
        if not isinstance(self.eps, Tensor):
            return self
        eps = one_per_row(self.eps, rows, "eps")
        return self if eps is self.eps else replace(self, eps=eps)


@dataclass(frozen=True, eq=False, kw_only=True)
class TowardsPrior(_EpsSmoothing):
    """(1−ε)·δ + ε·π, with one π for all labels or a row of a table for each label."""

    prior: Tensor | None = None  # None (uniform), (K,), or (K, K) indexed by the label
    excluded: frozenset[int] = frozenset()  # only beside prior=None: other priors carry their zeros

    def __repr__(self) -> str:
        made_by = (
            "uniform" if self.prior is None else "prior" if self.prior.dim() == 1 else "class_conditional"
        )
        prior = "" if self.prior is None else f", {tuple(self.prior.shape)}"
        return f"{made_by}({show_eps(self.eps)}{prior}){show_excluded(self.excluded)}"

    def check_num_classes(self, num_classes: int) -> None:
        if self.prior is not None and self.prior.shape[-1] != num_classes:
            raise InputError(
                f"the prior must cover the {num_classes} classes, got one over {self.prior.shape[-1]}"
            )
        check_excluded(self.excluded, num_classes, least=1)

    def mixture(self, target: Tensor, num_classes: int) -> Mixture:
        index = target.unsqueeze(-1)
        if isinstance(self.eps, float):
            if self.eps == 0:
                return Mixture(index=index, weight=1.0)
            eps: float | Tensor = self.eps
            weight: float | Tensor = 1 - eps
        else:
            eps = self.eps.to(target.device)
            weight = (1 - eps).unsqueeze(-1)
        prior, total = self._scaled_prior(num_classes, target.device)
        row = target if prior is not None and prior.dim() == 2 else None
        return Mixture(index=index, weight=weight, prior=prior, prior_weight=eps / total, prior_row=row)

    def smooth_rows(self, rows: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        prior, total = self._scaled_prior(num_classes, rows.device)
        if prior is None:
            prior, total = rows.new_ones(num_classes), num_classes
        elif prior.dim() == 2:
            with torch.autocast(rows.device.type, enabled=False):
                prior = rows @ prior.to(rows.dtype)
        eps = as_column(self.eps, rows)
        return (1 - eps) * rows, eps / total * prior.to(rows.dtype)

    def _scaled_prior(self, num_classes: int, device: torch.device) -> tuple[Tensor | None, int]:
        """Return the prior up to a factor, and that factor."""
        if self.prior is not None:
            return self.prior.to(device, non_blocking=True), 1
        if not self.excluded:
            return None, 1
        return allowed_classes(self.excluded, num_classes, device), num_classes - len(self.excluded)

    def exclude(self, classes: Iterable[int]) -> Smoothing:
        excluded = as_excluded(classes)
        if self.prior is None:
            return replace(self, excluded=self.excluded | excluded)
        check_excluded(excluded, self.prior.shape[-1], least=1)
        rest = self.prior * allowed_classes(excluded, self.prior.shape[-1], self.prior.device)
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
class OntoOthers(_EpsSmoothing):
    """The target of a convention: q_y on the label's class, and the same q_k on each other class."""

    convention: Convention
    excluded: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        name = self.convention.same_as
        shown = next((ours for ours, known in OWN_NAMES.items() if known == name), name)
        return f"{shown}({show_eps(self.eps)}){show_excluded(self.excluded)}"

    def check_num_classes(self, num_classes: int) -> None:
        check_excluded(self.excluded, num_classes, least=2)

    def mixture(self, target: Tensor, num_classes: int) -> Mixture:
        index = target.unsqueeze(-1)
        if isinstance(self.eps, float) and self.eps == 0:
            return Mixture(index=index, weight=1.0)
        eps = self.eps.to(target.device) if isinstance(self.eps, Tensor) else self.eps
        # A prior over all classes that may carry smoothing mass reaches the label too, where it is one of
        # them; its weight there is taken back from the label's own.
        share, share_if_excluded = self._shares(eps, num_classes)
        own: float | Tensor = self.convention.on_class(eps, num_classes) - share
        spread: float | Tensor = share * num_classes
        prior = None
        if self.excluded:
            prior = allowed_classes(self.excluded, num_classes, target.device)
            # whether the label may carry smoothing mass, 0 or 1
            allowed = take_rows(prior, target).to(widest_float(target.device))
            own = self.convention.on_class(eps, num_classes) - share * allowed
            spread = share * allowed + share_if_excluded * (1 - allowed)
        weight = own.unsqueeze(-1) if isinstance(own, Tensor) else own
        return Mixture(index=index, weight=weight, prior=prior, prior_weight=spread)

    def smooth_rows(self, rows: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        eps = as_column(self.eps, rows)
        share, share_if_excluded = self._shares(eps, num_classes)
        allowed = allowed_classes(self.excluded, num_classes, rows.device).to(rows.dtype)
        # the mass labelled with an excluded class has one class more to spread over
        outside = (rows * (1 - allowed)).sum(-1, keepdim=True)
        spread = share * (1 - outside) + share_if_excluded * outside
        return rows * (self.convention.on_class(eps, num_classes) - share * allowed), spread * allowed

    def _shares(self, eps: float | Tensor, num_classes: int) -> tuple[float | Tensor, float | Tensor]:
        """Return what each allowed class gets beside a label that is allowed, and beside an excluded one."""
        on_other = self.convention.on_other(eps, num_classes)
        num_others, num_allowed = self.convention.num_others(num_classes), num_classes - len(self.excluded)
        # excluding classes moves mass, it does not change the sum; the first ratio is 1 where none are
        return on_other * (num_others / (num_allowed - 1)), on_other * (num_others / num_allowed)

    def exclude(self, classes: Iterable[int]) -> Smoothing:
        return replace(self, excluded=self.excluded | as_excluded(classes))

    def to_uniform(self, num_classes: int) -> float | Tensor:
        require_num_classes(num_classes)
        if isinstance(self.eps, float) and self.eps == 0:
            return 0.0
        if self.convention.mass != "1":
            raise InputError(f"no uniform smoothing gives the targets of {self}, whose sum is not 1")
        if self.excluded:
            raise InputError(f"no uniform smoothing gives the targets of {self}, which exclude classes")
        eps: float | Tensor = self.convention.on_other(self.eps, num_classes) * num_classes
        if isinstance(eps, Tensor):
            require(eps <= 1 + EPS_ROUNDING, lambda: _above_uniform(float(eps.max()), num_classes))
            return eps.clamp(max=1)
        if eps > 1 + EPS_ROUNDING:
            raise InputError(_above_uniform(eps, num_classes))
        return min(eps, 1.0)


def _above_uniform(eps: float, num_classes: int) -> str:
    """Say why no uniform smoothing gives the targets of `others`."""
    most = (num_classes - 1) / num_classes
    return (
        f"no uniform smoothing gives `others` above eps {most:.6g} for {num_classes} classes, "
        f"it would be {eps:.6g}"
    )
