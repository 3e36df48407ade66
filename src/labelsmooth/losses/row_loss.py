"""The loss of rows as a function of their statistics, and its gradients in these.

A row's loss is M·ℓ − Σ_j w_j·a_j − β·b + z_loss·lse². None of it changes when the row maximum does, so that
the gradient through m, which all statistics are relative to, cancels (`shift_free` of the backends).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from labelsmooth.backends import Backend, Combination, Request, Statistics, op
from labelsmooth.checks import is_batched
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats


@dataclass(frozen=True, slots=True, eq=False)
class RowLoss:
    """The loss of rows of batch shape (…) against a mixture over the same rows."""

    mixture: Mixture
    z_loss: float | Tensor
    unit_prior: bool  # True where the prior is known to sum to 1 in every row: uniform over all classes
    dtype: torch.dtype  # of the result

    def tensors(self) -> list[Tensor]:
        """Return the tensors that it is made of."""
        parts = (self.mixture.weight, self.mixture.prior, self.mixture.prior_weight, self.z_loss)
        return [part for part in parts if isinstance(part, Tensor)]

    @property
    def needs_grad(self) -> bool:
        """True where a tensor that it is made of needs a gradient."""
        return any(tensor.requires_grad for tensor in self.tensors())

    def __call__(self, stats: Statistics) -> Tensor:
        """Compute the losses (…), by operations that torch differentiates; 0·(±inf) is 0."""
        loss = times(self._mass(stats), stats.log_sum)
        if stats.at_index is not None:
            weight = self._weight()
            if isinstance(weight, Tensor):
                loss = loss - times(weight, stats.at_index).sum(-1)
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

    def combination(self, factor: float | Tensor) -> Combination | None:
        """Return factor·loss as a combination of statistics; None where coefficients differ between rows."""
        mixture, z_loss = self.mixture, self.z_loss
        for part in (mixture.weight, mixture.prior_weight, z_loss, factor):
            if isinstance(part, Tensor):
                return None
        if z_loss != 0 or not (self.unit_prior or mixture.prior_weight is None):  # each row has its own mass
            return None
        weight, prior_weight = float(mixture.weight or 0), float(mixture.prior_weight or 0)
        factor = float(factor)
        mass = weight * (0 if mixture.index is None else mixture.index.shape[-1]) + prior_weight
        return Combination(log_sum=mass * factor, at_index=-weight * factor, at_prior=-prior_weight * factor)

    def slopes(self, stats: Statistics, upstream: Tensor) -> Statistics:  # upstream: (…) or ()
        """Return the gradients of Σ upstream·loss in the statistics, without those through m."""
        assert stats.log_sum is not None
        at_index = at_prior = None
        if stats.at_index is not None:
            weight = self._weight()
            if isinstance(weight, Tensor):
                at_index = -(upstream.unsqueeze(-1) * weight).expand(stats.at_index.shape)
            elif upstream.dim():
                at_index = (upstream * -weight).unsqueeze(-1).expand(stats.at_index.shape)
            else:
                at_index = (upstream * -weight).expand(stats.at_index.shape)
        if stats.at_prior is not None:
            at_prior = (upstream * -self._prior_weight()).expand(stats.at_prior.shape)
        mass = self._mass(stats)
        if isinstance(self.z_loss, Tensor) or self.z_loss != 0:
            assert stats.max is not None
            mass = mass + 2 * self.z_loss * (stats.max + stats.log_sum)
        log_sum = upstream if isinstance(mass, float) and mass == 1 else upstream * mass
        return Statistics(log_sum=log_sum.expand(stats.log_sum.shape), at_index=at_index, at_prior=at_prior)

    def rows(self, chosen: slice | Tensor) -> RowLoss:
        """Return the loss of some rows of a batch (N,)."""
        return replace(self, mixture=self.mixture.rows(chosen))

    def _weight(self) -> float | Tensor:
        """Return the weights of the indices in the dtype of the loss."""
        weight = self.mixture.weight
        return weight.to(self.dtype) if isinstance(weight, Tensor) else float(weight or 0)

    def _prior_weight(self) -> float | Tensor:
        """Return the weight of the prior in the dtype of the loss."""
        weight = self.mixture.prior_weight
        return weight.to(self.dtype) if isinstance(weight, Tensor) else float(weight or 0)

    def _mass(self, stats: Statistics) -> float | Tensor:
        """Return M, the sum of the target."""
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
            mass = mass + self._prior_weight() * (1.0 if self.unit_prior else stats.prior_mass)
        return mass


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """The reduction of the losses of rows: a factor, 0 where a row does not count, and perhaps the sum."""

    factor: float | Tensor  # (…) or ()
    total: bool

    def tensors(self) -> list[Tensor]:
        return [self.factor] if isinstance(self.factor, Tensor) else []

    @property
    def needs_grad(self) -> bool:
        return any(tensor.requires_grad for tensor in self.tensors())

    def __call__(self, losses: Tensor, counted: Tensor | None) -> Tensor:
        per_row = isinstance(self.factor, Tensor) and self.factor.dim() > 0
        if per_row:
            losses = losses * self.factor
        if counted is not None:
            losses = torch.where(counted, losses, 0)
        if self.total:
            losses = losses.sum()
        plain = per_row or (isinstance(self.factor, float) and self.factor == 1)
        result: Tensor = losses if plain else losses * self.factor
        return result


def losses_of_logits(
    logits: Tensor,  # (…, K)
    request: Request,
    loss: RowLoss,
    reduction: Reduction,
    backend: Backend,
    *,
    inplace: bool,
    keep_stats: bool,
) -> tuple[Tensor, Statistics | None]:
    """Compute the reduced losses, differentiable in the logits only, and the detached statistics.

    It is one step of autograd. With `inplace` the backward writes the gradient over the logits.
    """
    if backend.combine is not None and not keep_stats:
        combination = loss.combination(reduction.factor)
        if combination is not None:
            rows, request = op.flat(logits, request, backend)
            settings = (request, loss, reduction, combination, inplace, backend)
            losses: Tensor = _CombinationLoss.apply(rows, *settings)  # type: ignore[no-untyped-call]
            return losses if reduction.total else losses.reshape(logits.shape[:-1]), None
    with torch.no_grad():
        stats = op.forward(logits, request, backend)
    losses = _StatisticsLoss.apply(logits, request, loss, reduction, inplace, stats, backend)  # type: ignore[no-untyped-call]
    return losses, stats


class _CombinationLoss(torch.autograd.Function):
    """A loss that is the same combination in each row, which the backend computes in one call each way."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, *settings: Any) -> Tensor:
        request, _, reduction, combination, _, backend = settings
        losses: Tensor
        losses, origins = backend.combine(logits, request, combination, total=reduction.total)
        ctx.save_for_backward(logits, origins, *request.tensors())
        ctx.settings = settings
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, origins, *_ = ctx.saved_tensors
        request, loss, reduction, combination, inplace, backend = ctx.settings
        if torch.is_grad_enabled() or is_batched(upstream):
            return _by_reference(logits, request, loss, reduction, upstream, inplace), *(None,) * 6
        if inplace:
            logits = logits.detach()  # a gradient is no part of the graph of the logits
        out = logits if inplace else None
        gradient: Tensor = backend.combine_backward(logits, request, combination, origins, upstream, out)
        if inplace:
            torch.autograd.graph.increment_version(logits)
        return gradient, *(None,) * 6


class _StatisticsLoss(torch.autograd.Function):
    """A loss made of row statistics, whose slopes in these the backend turns into the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, *settings: Any) -> Tensor:
        request, loss, reduction, _, stats, _ = settings
        ctx.save_for_backward(logits, *request.tensors(), *loss.tensors(), *reduction.tensors())
        ctx.settings = settings
        losses: Tensor = reduction(loss(stats), request.counted)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, *_ = ctx.saved_tensors
        request, loss, reduction, inplace, stats, backend = ctx.settings
        if torch.is_grad_enabled() or is_batched(upstream):
            return _by_reference(logits, request, loss, reduction, upstream, inplace), *(None,) * 6
        if inplace:
            logits = logits.detach()
        slopes = loss.slopes(stats, upstream * reduction.factor)
        gradient = op.backward(logits, request, stats, slopes, backend, shift_free=True, inplace=inplace)
        if inplace:  # torch then refuses another backward that saved the logits
            torch.autograd.graph.increment_version(logits)
        return gradient, *(None,) * 6


def _by_reference(
    logits: Tensor, request: Request, loss: RowLoss, reduction: Reduction, upstream: Tensor, inplace: bool
) -> Tensor:
    """Compute the gradient so that it can be differentiated again, or for a batch of upstream gradients."""
    if inplace:
        raise RuntimeError("inplace_backward leaves no logits for a second derivative or for many gradients")
    require_whole_rows(request, logits.shape[-1])
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        losses = reduction(loss(op.row_stats(logits, request, "reference")), request.counted)
    gradients: tuple[Tensor, ...] = torch.autograd.grad(losses, logits, upstream, create_graph=create_graph)
    return gradients[0]


def row_stats_of(stats: Statistics, request: Request, rows: torch.Size) -> RowStats:
    """Return the statistics of N rows in the shape (…) of the rows."""

    def shaped(value: Tensor | None) -> Tensor | None:
        return value if value is None or value.dim() == 0 else value.reshape(rows + value.shape[1:])

    values = Statistics._make(map(shaped, stats))
    return RowStats(index=shaped(request.index), mask=shaped(request.counted), **values._asdict())


def require_whole_rows(request: Request, columns: int) -> None:
    """Raise `RuntimeError` where a gradient is to be differentiated whose rows lie in several processes."""
    if columns != request.num_classes:
        raise RuntimeError("a loss of sharded classes has no second derivative, and one gradient at a time")


def _minus(loss: Tensor, factor: float | Tensor, value: Tensor) -> Tensor:
    """Return loss − factor·value."""
    if isinstance(factor, Tensor):
        return loss - times(factor, value)
    return loss if factor == 0 else torch.sub(loss, value, alpha=factor)


def times(factor: float | Tensor, value: Tensor | None) -> Tensor:
    """Return factor·value, where 0·(±inf) is 0."""
    assert value is not None
    if isinstance(factor, Tensor):
        return factor * torch.where((factor == 0) & value.isinf(), 0, value)
    return value if factor == 1 else torch.zeros_like(value) if factor == 0 else factor * value
