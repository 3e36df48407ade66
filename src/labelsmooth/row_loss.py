"""The loss of rows as a function of their statistics, and its slopes in these.

A row's loss is M·ℓ − Σ_j w_j·a_j − β·b + z_loss·lse². None of it changes when the row maximum does, so that
the gradient through m, which all statistics are relative to, cancels (`shift_free` of the backends).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from labelsmooth.backends import op
from labelsmooth.backends.contract import Parts, Request
from labelsmooth.mixture import Mixture


@dataclass(frozen=True, slots=True, eq=False)
class RowLoss:
    """The loss of rows of batch shape (…) against a mixture over the same rows."""

    mixture: Mixture
    z_loss: float | Tensor
    whole: bool  # whether the prior sums to 1 in every row: it is uniform, over all classes
    dtype: torch.dtype  # of the result

    @property
    def needs_grad(self) -> bool:
        """Whether anything but the logits asks for a gradient."""
        parts = (self.mixture.weight, self.mixture.prior, self.mixture.prior_weight, self.z_loss)
        return any(isinstance(part, Tensor) and part.requires_grad for part in parts)

    def of(self, stats: Parts) -> Tensor:
        """The losses (…), by operations that torch differentiates; 0·(±inf) is 0."""
        loss = _times(self._mass(stats), stats.log_sum)
        if stats.at_index is not None:
            weight = self._weight()
            if isinstance(weight, Tensor):
                loss = loss - _times(weight, stats.at_index).sum(-1)
            elif stats.at_index.shape[-1] == 1:
                loss = _minus(loss, weight, stats.at_index.squeeze(-1))
            else:
                loss = _minus(loss, weight, stats.at_index.sum(-1))
        if stats.at_prior is not None:
            loss = _minus(loss, self._prior_weight(), stats.at_prior)
        if isinstance(self.z_loss, Tensor) or self.z_loss != 0:
            assert stats.max is not None
            assert stats.log_sum is not None
            loss = loss + self.z_loss * (stats.max + stats.log_sum).square()
        return loss

    def slopes(self, stats: Parts, upstream: Tensor) -> Parts:  # upstream: (…)
        """The gradients of Σ upstream·loss in the statistics, but for those through m."""
        at_index = at_prior = None
        if stats.at_index is not None:
            weight = self._weight()
            if isinstance(weight, Tensor):
                at_index = -(upstream.unsqueeze(-1) * weight).expand(stats.at_index.shape)
            else:
                at_index = (upstream * -weight).unsqueeze(-1).expand(stats.at_index.shape)
        if stats.at_prior is not None:
            at_prior = -(upstream * self._prior_weight()).expand(stats.at_prior.shape)
        mass = self._mass(stats)
        if isinstance(self.z_loss, Tensor) or self.z_loss != 0:
            assert stats.max is not None
            assert stats.log_sum is not None
            mass = mass + 2 * self.z_loss * (stats.max + stats.log_sum)
        log_sum = upstream if isinstance(mass, float) and mass == 1 else upstream * mass
        return Parts(log_sum=log_sum, at_index=at_index, at_prior=at_prior)

    def rows(self, chosen: slice | Tensor) -> RowLoss:
        """The loss of some rows of a batch (N,)."""
        return replace(self, mixture=self.mixture.rows(chosen))

    def _weight(self) -> float | Tensor:
        weight = self.mixture.weight
        return weight.to(self.dtype) if isinstance(weight, Tensor) else float(weight or 0)

    def _prior_weight(self) -> float | Tensor:
        weight = self.mixture.prior_weight
        return weight.to(self.dtype) if isinstance(weight, Tensor) else float(weight or 0)

    def _mass(self, stats: Parts) -> float | Tensor:
        mass: float | Tensor = 0.0
        if stats.at_index is not None:
            weight = self._weight()
            picks = stats.at_index.shape[-1]
            if not isinstance(weight, Tensor):
                mass = weight * picks
            elif weight.dim() and weight.shape[-1] == picks:
                mass = weight.sum(-1)
            else:
                mass = weight.expand(stats.at_index.shape).sum(-1)
        if stats.at_prior is not None:
            assert stats.prior_mass is not None
            mass = mass + self._prior_weight() * (1.0 if self.whole else stats.prior_mass)
        return mass


def of_logits(
    logits: Tensor, request: Request, loss: RowLoss, backend: str, *, inplace: bool
) -> tuple[Tensor, Parts]:
    """The losses (…), differentiable in the logits alone, and the detached statistics.

    One step of autograd for all of it. With `inplace` the backward writes the gradient over the logits.
    """
    with torch.no_grad():
        stats = op.forward(logits, request, backend)
    rows: Tensor = _OfLogits.apply(logits, request, loss, stats, backend, inplace)  # type: ignore[no-untyped-call]
    return rows, stats


class _OfLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, request: Request, loss: RowLoss, stats: Parts, backend: str, inplace: bool
    ) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.rest = request, loss, stats, backend, inplace
        return loss.of(stats)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (logits,) = ctx.saved_tensors
        request, loss, stats, backend, inplace = ctx.rest
        if torch.is_grad_enabled() and logits.requires_grad:
            if inplace:
                raise RuntimeError("inplace_backward leaves no logits for a second derivative")
            losses = loss.of(op.row_stats(logits, request, "reference"))
            (gradient,) = torch.autograd.grad(losses, logits, upstream, create_graph=True)
        else:
            slopes = loss.slopes(stats, upstream)
            gradient = op.backward(logits, request, stats, slopes, backend, shift_free=True, inplace=inplace)
            if inplace:  # whoever saved the logits for a backward of its own is told so by torch
                torch.autograd.graph.increment_version(logits)
        return gradient, None, None, None, None, None


def _minus(loss: Tensor, factor: float | Tensor, value: Tensor) -> Tensor:
    """loss − factor·value."""
    if isinstance(factor, Tensor):
        return loss - _times(factor, value)
    return loss if factor == 0 else torch.sub(loss, value, alpha=factor)


def _times(factor: float | Tensor, value: Tensor | None) -> Tensor:
    """factor·value, where 0·(±inf) is 0."""
    assert value is not None
    if isinstance(factor, Tensor):
        return factor * torch.where((factor == 0) & value.isinf(), 0, value)
    return value if factor == 1 else torch.zeros_like(value) if factor == 0 else factor * value
