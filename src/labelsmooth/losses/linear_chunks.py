"""The loss of a linear layer's logits, without ever holding them all: chunks of rows through one buffer.

Of each chunk the logits x·Wᵀ + b are made, reduced to row statistics, overwritten by their gradient, and used
up in the products for the gradients of x and W, before the next chunk takes their place. Where the caller
wants a sum over rows this happens in the forward, as the rows' shares in the sum are known; the backward then
only multiplies. Smoothing adds no product: the kernels read the prior beside the logits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from labelsmooth.backends import op
from labelsmooth.backends.contract import Backend, Empty, Request, Statistics
from labelsmooth.backends.registry import BACKENDS
from labelsmooth.checks import is_batched
from labelsmooth.losses.row_loss import Reduction, RowLoss

# Rows whose logits exist at a time where the caller does not say. Each chunk packs W anew for its products:
# with 512 rows that costs 3 % of them, with 256 rows 8 %, with 128 rows 24 %, whatever H and K are.
CHUNK_ROWS = 512
# Of W at a time in the product for the logits, on a CPU: what stays in cache while the chunk's rows pass by.
_CACHED = 1 << 21  # numbers


class Layer(NamedTuple):
    """A linear layer and what goes into it."""

    input: Tensor  # (N, H)
    weight: Tensor  # (K, H)
    bias: Tensor | None  # (K,)


def linear_losses(
    layer: Layer,
    request: Request,
    loss: RowLoss,
    reduction: Reduction,
    backend: str,
    chunk_rows: int,
    *,
    keep_stats: bool,
) -> tuple[Tensor, Statistics | None]:
    """The reduced losses, differentiable in the layer alone, and the statistics.

    Args:
        layer: what makes the logits.
        request: about the N rows of logits; rows that do not count are dropped before any product.
        loss: of the same rows, its mixture with one batch dimension.
        reduction: of the losses.
        backend: the backend's name.
        chunk_rows: rows in the buffer at once.
        keep_stats: whether to return the detached statistics.

    Cost: three products of the size of the logits, as the layer and its backward alone; four without a sum,
        as the backward then makes the logits again. Beside the gradients, chunk_rows·K numbers. On a GPU one
        synchronisation where rows may not count.
    """
    kept: list[Statistics] = []
    settings = _Settings(
        request, loss, reduction, BACKENDS[backend], chunk_rows, kept if keep_stats else None
    )
    if torch.is_grad_enabled():
        losses: Tensor = _Losses.apply(*layer, settings)  # type: ignore[no-untyped-call]
    else:
        losses = reduction(_pass(layer, settings, None), None)
    return losses, kept[0] if keep_stats else None


class _Settings(NamedTuple):
    request: Request
    loss: RowLoss
    reduction: Reduction
    backend: Backend
    chunk_rows: int
    kept: list[Statistics] | None  # takes the statistics, where they are wanted


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
        layer = Layer(input, weight, bias)
        slopes = None
        if settings.reduction.total and any(ctx.needs_input_grad):
            slopes = _Slopes(layer, _factor(layer, settings), ctx.needs_input_grad, settings.backend.empty)
        losses = _pass(layer, settings, slopes)
        used = (settings.request, settings.loss, settings.reduction)
        ctx.save_for_backward(input, weight, bias, *(tensor for part in used for tensor in part.tensors()))
        ctx.settings, ctx.slopes = settings._replace(kept=None), slopes
        return settings.reduction(losses, None)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        layer = Layer(*ctx.saved_tensors[:3])
        settings, total = ctx.settings, ctx.settings.reduction.total
        if torch.is_grad_enabled() or is_batched(upstream):
            return (*_through_logits(layer, settings, upstream), None)
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:  # losses of rows, or a second backward through a sum
            share = _factor(layer, settings)
            slopes = _Slopes(
                layer, share if total else share * upstream, ctx.needs_input_grad, settings.backend.empty
            )
            _pass(layer, settings, slopes)
        return (*slopes.finish(upstream if total else None), None)


def _factor(layer: Layer, settings: _Settings) -> Tensor:
    """What each row's loss is multiplied by, (N,) or ()."""
    factor = settings.reduction.factor
    if isinstance(factor, Tensor):
        return factor
    return torch.full((), factor, dtype=settings.loss.dtype, device=layer.input.device)


class _Slopes:
    """The gradients of the layer, to which chunks add; those of W and b in at least float32.

    In float16 a row's share in a mean would take them below the smallest number: there they are made for
    shares of at most 1, and what the shares were divided by comes in last.
    """

    def __init__(self, layer: Layer, share: Tensor, needed: tuple[bool, ...], empty: Empty) -> None:
        x, weight, bias = layer
        wide = torch.promote_types(weight.dtype, torch.float32)
        self.layer, self.share = layer, share
        self.unit: Tensor | None = None
        self.input = torch.zeros_like(x) if needed[0] else None
        self.weight = empty(weight, weight.shape, wide) if needed[1] else None
        self.bias = torch.zeros_like(bias, dtype=wide) if needed[2] and bias is not None else None
        self.empty = True
        if x.dtype == torch.float16 and share.numel():
            largest = share.abs().max()
            self.unit = torch.where(largest > 0, largest, 1)
            self.share = share / self.unit

    def add(self, rows: slice | Tensor, x: Tensor, slope: Tensor) -> None:  # x (R, H), slope (R, K)
        if self.input is not None:
            self.input[rows] = torch.mm(slope, self.layer.weight)
        if self.weight is not None and self.weight.dtype == x.dtype:
            beta = 0 if self.empty else 1
            torch.addmm(self.weight, slope.t(), x, beta=beta, out=self.weight)
        elif self.weight is not None:
            product = torch.mm(slope.t(), x)
            self.weight = self.weight.copy_(product) if self.empty else self.weight.add_(product)
        if self.bias is not None:
            self.bias += slope.sum(0, dtype=self.bias.dtype)
        self.empty = False

    def finish(self, factor: Tensor | None) -> list[Tensor | None]:
        """The gradients times the factor, each in the dtype of its tensor."""
        if self.empty and self.weight is not None:
            self.weight.zero_()
        # as one, since each alone may take float16 out of its range
        scale = self.unit if factor is None else factor if self.unit is None else factor * self.unit
        if scale is not None and not (scale.device.type == "cpu" and scale == 1):
            for gradient in (self.input, self.weight, self.bias):
                if gradient is not None:
                    gradient *= scale.reshape(1)  # 0-d, it would be rounded to the gradient's dtype first
        return [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip((self.input, self.weight, self.bias), self.layer, strict=True)
        ]


def _pass(layer: Layer, settings: _Settings, slopes: _Slopes | None) -> Tensor:
    """The losses (N,), 0 for rows that do not count; adds to the slopes, where given."""
    x, weight, bias = layer
    request, loss, _, backend, chunk_rows, kept = settings
    counted = request.counted
    if counted is not None:
        chosen = counted.nonzero().squeeze(-1)
        request, loss, x = replace(_take(request, chosen), counted=None), loss.rows(chosen), x[chosen]
    num_rows = x.shape[0]
    buffer = backend.empty(x, (min(chunk_rows, num_rows), weight.shape[0]), x.dtype)
    losses = torch.empty(num_rows, dtype=loss.dtype, device=x.device)
    pieces = []
    for start in range(0, num_rows, chunk_rows):
        rows = slice(start, min(start + chunk_rows, num_rows))
        logits = _logits(x[rows], weight, bias, buffer[: rows.stop - start])
        asked, mine = _take(request, rows), loss.rows(rows)
        stats = backend.forward(logits, asked)
        losses[rows] = mine(stats)
        if kept is not None:
            pieces.append(stats)
        if slopes is not None:
            where = rows if counted is None else chosen[rows]
            share = slopes.share[where] if slopes.share.dim() else slopes.share.expand(len(logits))
            grads = mine.slopes(stats, share)
            backend.backward(logits, asked, stats, grads, logits, shift_free=True)
            slopes.add(where, x[rows], logits)
    if counted is not None:
        losses = losses.new_zeros(len(layer.input)).index_copy_(0, chosen, losses)
    if kept is not None:
        kept.append(_joined(pieces, settings, layer))
    return losses


def _logits(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    step = max(1, _CACHED // max(1, weight.shape[1])) if x.device.type == "cpu" else weight.shape[0]
    for start in range(0, weight.shape[0], step):
        columns = slice(start, start + step)
        if bias is None:
            torch.mm(x, weight[columns].t(), out=out[:, columns])
        else:
            torch.addmm(bias[columns], x, weight[columns].t(), out=out[:, columns])
    return out


def _take(request: Request, rows: slice | Tensor) -> Request:
    index, row, counted = (
        None if values is None else values[rows]
        for values in (request.index, request.prior_row, request.counted)
    )
    return replace(request, index=index, prior_row=row, counted=counted)


def _joined(pieces: list[Statistics], settings: _Settings, layer: Layer) -> Statistics:
    """The statistics of all N rows; those that do not count hold the statistics of a row of zeros."""
    request, backend = settings.request, settings.backend
    blank = layer.input.new_zeros(1, layer.weight.shape[0])
    first = replace(_take(request, slice(0, 1)), counted=None)
    if not len(layer.input):
        return backend.forward(blank[:0], first)
    zero = backend.forward(blank, first)
    joined = []
    for parts in zip(zero, *pieces, strict=True):
        blank_part, *rest = parts
        if blank_part is None or blank_part.dim() == 0:
            joined.append(blank_part)
        elif request.counted is None:
            joined.append(torch.cat(rest))
        else:
            whole = blank_part.expand(len(layer.input), *blank_part.shape[1:]).clone()
            whole[request.counted] = torch.cat([blank_part[:0], *rest])
            joined.append(whole)
    return Statistics._make(joined)


def _through_logits(layer: Layer, settings: _Settings, upstream: Tensor) -> list[Tensor | None]:
    """The gradients by way of the full logits: differentiable again, and for many upstreams at once."""
    request, create_graph = settings.request, torch.is_grad_enabled()
    with torch.enable_grad():
        losses = settings.loss(op.row_stats(nn.functional.linear(*layer), request, "reference"))
        result = settings.reduction(losses, request.counted)
    wanted = [tensor for tensor in layer if tensor is not None and tensor.requires_grad]
    gradients = iter(torch.autograd.grad(result, wanted, upstream, create_graph=create_graph))
    return [next(gradients) if tensor is not None and tensor.requires_grad else None for tensor in layer]
