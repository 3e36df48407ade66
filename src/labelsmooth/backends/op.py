"""The two functions of a compiled backend as differentiable operations over rows of any batch shape (…).

Eager calls go to the backend straight away. Where torch traces (torch.compile, export, fake tensors) they are
the operators `labelsmooth::row_stats` and `labelsmooth::row_stats_backward`, which hold the same calls. A
gradient that has to be differentiated again is made by the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from labelsmooth.backends import reference
from labelsmooth.backends.contract import Parts, Request
from labelsmooth.backends.registry import BACKENDS
from labelsmooth.checks import is_batched, is_traced

# the parts that have a gradient
SLOPED = ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit")


def forward(logits: Tensor, request: Request, backend: str) -> Parts:  # (…, C)
    """The statistics of shape (…), not differentiable."""
    return _unflat(BACKENDS[backend].forward(*flat(logits, request, backend)), logits.shape[:-1])


def backward(
    logits: Tensor,  # (…, C)
    request: Request,
    stats: Parts,
    grads: Parts,
    backend: str,
    *,
    shift_free: bool = False,
    inplace: bool = False,
) -> Tensor:
    """The gradient of the logits; by the reference where it is differentiated again, or many at once."""
    again = torch.is_grad_enabled() and logits.requires_grad
    if again or any(grad is not None and is_batched(grad) for grad in grads):
        return reference.backward(logits, request, stats, grads, shift_free=shift_free)
    one = _flatter(logits.dim() - 1)
    rows, request = flat(logits, request, backend)
    gradient = BACKENDS[backend].backward(
        rows,
        request,
        Parts._make(map(one, stats)),
        Parts._make(map(one, grads)),
        rows if inplace else None,
        shift_free=shift_free,
    )
    return gradient.reshape(logits.shape)


def row_stats(logits: Tensor, request: Request, backend: str) -> Parts:  # (…, C)
    """The statistics of shape (…), differentiable in the logits."""
    if backend == "reference":
        return reference.forward(logits, request)
    if is_traced(logits):
        rows, request = flat(logits, request, "reference")
        values = _row_stats(rows, *_arguments(request), backend)
        wanted = _wanted(rows, request)
        return _unflat(
            Parts._make(v if w else None for v, w in zip(values, wanted, strict=True)), logits.shape[:-1]
        )
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return forward(logits, request, backend)
    tensors = (request.index, request.prior, request.prior_row, request.counted)
    parts: tuple[Tensor | None, ...] = _RowStats.apply(logits, *tensors, request, backend)  # type: ignore[no-untyped-call]
    return Parts._make(parts)


class _RowStats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, *arguments: Any) -> tuple[Tensor | None, ...]:
        *_, request, backend = arguments
        parts = forward(logits, request, backend)
        ctx.mark_non_differentiable(
            *(p for name, p in parts._asdict().items() if p is not None and name not in SLOPED)
        )
        ctx.set_materialize_grads(False)
        ctx.uniform = request.prior if isinstance(request.prior, str) else None
        ctx.rest = replace(request, index=None, prior=None, prior_row=None, counted=None)
        ctx.backend = backend
        ctx.save_for_backward(
            logits,
            request.index,
            None if ctx.uniform else request.prior,
            request.prior_row,
            request.counted,
            *parts,
        )
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, index, prior, prior_row, counted, *stats = ctx.saved_tensors
        request = replace(
            ctx.rest, index=index, prior=ctx.uniform or prior, prior_row=prior_row, counted=counted
        )
        gradient = backward(logits, request, Parts(*stats), Parts(*grads), ctx.backend)
        return gradient, None, None, None, None, None, None


@torch.library.custom_op("labelsmooth::row_stats", mutates_args=())
def _row_stats(
    logits: Tensor,  # (N, C)
    index: Tensor | None,
    prior: Tensor | None,
    prior_row: Tensor | None,
    counted: Tensor | None,
    uniform: bool,
    num_classes: int,
    first_class: int,
    finite: bool,
    log_sum_sq: bool,
    mean_logit: bool,
    backend: str,
) -> list[Tensor]:
    """The parts; those not asked for are empty."""
    numbers = (num_classes, first_class, finite, log_sum_sq, mean_logit)
    request = _request(index, prior, prior_row, counted, uniform, *numbers)
    return [logits.new_empty(0) if p is None else p for p in BACKENDS[backend].forward(logits, request)]


@_row_stats.register_fake
def _(logits: Tensor, *arguments: Any) -> list[Tensor]:
    request = _request(*arguments[:-1])
    rows = logits.shape[0]
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    index_shape = () if request.index is None else request.index.shape
    own_mass = request.finite_support or request.prior_row is not None
    shapes: dict[str, tuple[Any, torch.dtype]] = {
        "argmax": ((rows,), torch.int64),
        "at_index": (index_shape, wide),
        "seen": (index_shape, torch.bool),
        "prior_mass": ((rows,) if own_mass else (), wide),
    }
    return [
        logits.new_empty(shapes.get(name, ((rows,), wide))[0], dtype=shapes.get(name, ((rows,), wide))[1])
        if wanted
        else logits.new_empty(0)
        for name, wanted in zip(Parts._fields, _wanted(logits, request), strict=True)
    ]


@torch.library.custom_op("labelsmooth::row_stats_backward", mutates_args=())
def _row_stats_backward(
    logits: Tensor,  # (N, C)
    index: Tensor | None,
    prior: Tensor | None,
    prior_row: Tensor | None,
    counted: Tensor | None,
    uniform: bool,
    num_classes: int,
    first_class: int,
    finite: bool,
    log_sum_sq: bool,
    mean_logit: bool,
    backend: str,
    stats: list[Tensor | None],
    grads: list[Tensor | None],
) -> Tensor:
    numbers = (num_classes, first_class, finite, log_sum_sq, mean_logit)
    request = _request(index, prior, prior_row, counted, uniform, *numbers)
    return BACKENDS[backend].backward(logits, request, Parts(*stats), Parts(*grads))


@_row_stats_backward.register_fake
def _(logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    logits, index, prior, prior_row, counted, *ctx.rest = inputs
    ctx.save_for_backward(logits, index, prior, prior_row, counted, *output)
    ctx.wanted = _wanted(logits, _request(*inputs[1:-1]))


def _gradient(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    logits, index, prior, prior_row, counted, *stats = ctx.saved_tensors
    sloped = [
        g if wanted and name in SLOPED else None
        for g, wanted, name in zip(grads, ctx.wanted, Parts._fields, strict=True)
    ]
    known = [s if wanted else None for s, wanted in zip(stats, ctx.wanted, strict=True)]
    gradient = _row_stats_backward(logits, index, prior, prior_row, counted, *ctx.rest, known, sloped)
    return (gradient, *(None,) * 11)


_row_stats.register_autograd(_gradient, setup_context=_setup_context)


def _arguments(request: Request) -> tuple[Any, ...]:
    """A request as arguments that an operator takes."""
    uniform = isinstance(request.prior, str)
    return (
        request.index,
        None if uniform else request.prior,
        request.prior_row,
        request.counted,
        uniform,
        request.num_classes,
        request.first_class,
        request.finite_support,
        request.log_sum_sq,
        request.mean_logit,
    )


def _request(
    index: Tensor | None,
    prior: Tensor | None,
    prior_row: Tensor | None,
    counted: Tensor | None,
    uniform: bool,
    *rest: Any,
) -> Request:
    return Request(index, "uniform" if uniform else prior, prior_row, counted, *rest)


def _wanted(logits: Tensor, request: Request) -> Parts:  # (N, C)
    """Which parts an answer has."""
    index, prior = request.index is not None, request.prior is not None
    block = logits.shape[-1] != request.num_classes
    wanted = (True, True, True, index, index and block, prior, prior, request.log_sum_sq, request.mean_logit)
    return Parts._make(wanted)


def flat(logits: Tensor, request: Request, backend: str) -> tuple[Tensor, Request]:
    """Flatten the rows to one batch dimension, or to two where one would need a copy and the backend can."""
    if logits.dim() == 2:
        return logits, request
    one = _flatter(logits.dim() - 1)
    index, row, counted = (one(tensor) for tensor in (request.index, request.prior_row, request.counted))
    request = replace(request, index=index, prior_row=row, counted=counted)
    if BACKENDS[backend].three_dimensional and not logits.is_contiguous():
        return logits.flatten(1, -2), request
    return logits.reshape(-1, logits.shape[-1]), request


def _flatter(batch: int) -> Callable[[Tensor | None], Tensor | None]:
    def one(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or batch == 1 or tensor.dim() < batch:
            return tensor  # one value for all rows stays one
        return tensor.reshape(-1, *tensor.shape[batch:])

    return one


def _unflat(parts: Parts, batch: torch.Size) -> Parts:
    if len(batch) == 1:
        return parts
    return Parts._make(
        None if p is None else p if p.dim() == 0 and batch else p.reshape(batch + p.shape[1:]) for p in parts
    )
