"""The two functions of a backend as differentiable operations over rows of any batch shape (…).

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
from labelsmooth.backends.contract import Backend, Request, Statistics, statistics_dtype
from labelsmooth.backends.registry import BACKENDS
from labelsmooth.checks import is_batched, is_traced

# the statistics that have a gradient
DIFFERENTIABLE = ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit")


def forward(logits: Tensor, request: Request, backend: Backend) -> Statistics:  # (…, C)
    """Compute the statistics of shape (…), without a graph."""
    return _unflat(backend.forward(*flat(logits, request, backend)), logits.shape[:-1])


def backward(
    logits: Tensor,  # (…, C)
    request: Request,
    stats: Statistics,
    grads: Statistics,
    backend: Backend,
    *,
    shift_free: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Compute the gradient of the logits; by the reference where it must be differentiable or is batched."""
    create_graph = torch.is_grad_enabled() and logits.requires_grad
    if create_graph or any(grad is not None and is_batched(grad) for grad in grads):
        return reference.backward(logits, request, stats, grads, shift_free=shift_free)
    flatten = _flattener(logits.dim() - 1)
    rows, request = flat(logits, request, backend)
    gradient = backend.backward(
        rows,
        request,
        Statistics._make(map(flatten, stats)),
        Statistics._make(map(flatten, grads)),
        rows if inplace else None,
        shift_free=shift_free,
    )
    return gradient.reshape(logits.shape)


def row_stats(logits: Tensor, request: Request, backend: str) -> Statistics:  # (…, C)
    """Compute the statistics of shape (…), differentiable in the logits."""
    if backend == "reference":
        return reference.forward(logits, request)
    if is_traced(logits):
        rows, request = flat(logits, request, reference.BACKEND)
        values = _row_stats(rows, *_arguments(request), backend)
        wanted = _wanted(rows, request)
        present = Statistics._make(v if w else None for v, w in zip(values, wanted, strict=True))
        return _unflat(present, logits.shape[:-1])
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return forward(logits, request, BACKENDS[backend])
    tensors = (request.index, request.prior, request.prior_row, request.counted)
    stats: tuple[Tensor | None, ...] = _RowStats.apply(logits, *tensors, request, BACKENDS[backend])  # type: ignore[no-untyped-call]
    return Statistics._make(stats)


class _RowStats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, *arguments: Any) -> tuple[Tensor | None, ...]:
        *_, request, backend = arguments
        stats = forward(logits, request, backend)
        ctx.mark_non_differentiable(
            *(s for name, s in stats._asdict().items() if s is not None and name not in DIFFERENTIABLE)
        )
        ctx.set_materialize_grads(False)
        ctx.uniform = request.prior if isinstance(request.prior, str) else None
        ctx.options = replace(request, index=None, prior=None, prior_row=None, counted=None)
        ctx.backend = backend
        ctx.save_for_backward(
            logits,
            request.index,
            None if ctx.uniform else request.prior,
            request.prior_row,
            request.counted,
            *stats,
        )
        return tuple(stats)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, index, prior, prior_row, counted, *stats = ctx.saved_tensors
        request = replace(
            ctx.options, index=index, prior=ctx.uniform or prior, prior_row=prior_row, counted=counted
        )
        gradient = backward(logits, request, Statistics(*stats), Statistics(*grads), ctx.backend)
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
    """Compute the statistics; those that are not wanted are empty tensors."""
    numbers = (num_classes, first_class, finite, log_sum_sq, mean_logit)
    request = _request(index, prior, prior_row, counted, uniform, *numbers)
    return [logits.new_empty(0) if s is None else s for s in BACKENDS[backend].forward(logits, request)]


@_row_stats.register_fake
def _(logits: Tensor, *arguments: Any) -> list[Tensor]:
    request = _request(*arguments[:-1])
    rows = logits.shape[0]
    wide = statistics_dtype(logits)
    index_shape = () if request.index is None else request.index.shape
    shapes = {
        "at_index": index_shape,
        "seen": index_shape,
        "prior_mass": (rows,) if request.prior_mass_by_row else (),
    }
    dtypes = {"argmax": torch.int64, "seen": torch.bool}
    return [
        logits.new_empty(shapes.get(name, (rows,)), dtype=dtypes.get(name, wide))
        if wanted
        else logits.new_empty(0)
        for name, wanted in zip(Statistics._fields, _wanted(logits, request), strict=True)
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
    return BACKENDS[backend].backward(logits, request, Statistics(*stats), Statistics(*grads))


@_row_stats_backward.register_fake
def _(logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    logits, index, prior, prior_row, counted, *ctx.options = inputs
    ctx.save_for_backward(logits, index, prior, prior_row, counted, *output)
    ctx.wanted = _wanted(logits, _request(*inputs[1:-1]))


def _gradient(ctx: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    logits, index, prior, prior_row, counted, *stats = ctx.saved_tensors
    upstream = [
        grad if wanted and name in DIFFERENTIABLE else None
        for grad, wanted, name in zip(grads, ctx.wanted, Statistics._fields, strict=True)
    ]
    known = [value if wanted else None for value, wanted in zip(stats, ctx.wanted, strict=True)]
    gradient = _row_stats_backward(logits, index, prior, prior_row, counted, *ctx.options, known, upstream)
    return (gradient, *(None,) * 11)


_row_stats.register_autograd(_gradient, setup_context=_setup_context)


def _arguments(request: Request) -> tuple[Any, ...]:
    """Return a request as the arguments of an operator."""
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
    *options: Any,
) -> Request:
    """Return the request whose `_arguments` these are."""
    return Request(index, "uniform" if uniform else prior, prior_row, counted, *options)


def _wanted(logits: Tensor, request: Request) -> Statistics:  # (N, C)
    """Return True in the place of each statistic that the request wants, else False."""
    index, prior = request.index is not None, request.prior is not None
    block = logits.shape[-1] != request.num_classes
    wanted = (True, True, True, index, index and block, prior, prior, request.log_sum_sq, request.mean_logit)
    return Statistics._make(wanted)


def flat(logits: Tensor, request: Request, backend: Backend) -> tuple[Tensor, Request]:
    """Flatten the rows to one batch dimension, or to two where one would need a copy and the backend can."""
    if logits.dim() == 2:
        return logits, request
    flatten = _flattener(logits.dim() - 1)
    index, row, counted = (flatten(tensor) for tensor in (request.index, request.prior_row, request.counted))
    request = replace(request, index=index, prior_row=row, counted=counted)
    if backend.three_dimensional and not logits.is_contiguous():
        return logits.flatten(1, -2), request
    return logits.reshape(-1, logits.shape[-1]), request


def _flattener(batch: int) -> Callable[[Tensor | None], Tensor | None]:
    """Return a function that flattens the first `batch` dimensions of a tensor."""

    def flatten(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or batch == 1 or tensor.dim() < batch:
            return tensor  # a value that all rows share stays 0-d
        return tensor.reshape(-1, *tensor.shape[batch:])

    return flatten


def _unflat(stats: Statistics, batch: torch.Size) -> Statistics:
    """Give statistics with one batch dimension the shape `batch` of the rows."""
    if len(batch) == 1:
        return stats
    return Statistics._make(
        None if s is None else s if s.dim() == 0 and batch else s.reshape(batch + s.shape[1:]) for s in stats
    )
