"""The loss of a linear layer's logits, without ever holding them all: chunks of rows through one buffer.

The logits of a chunk, x·Wᵀ + b or what `Cap` makes of it, are computed, reduced to row statistics,
overwritten by their gradient and used in the products for the gradients of x and W, before the next chunk
takes their place. Where the caller wants a sum over rows this happens in the forward, as the factors of the
rows' losses are known; the backward then only multiplies. Smoothing adds no product: the kernels read the
prior beside the logits. Nor does a scale; a softcap takes a second buffer, for its slopes, and in float16
either takes one, for logits in float32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from labelsmooth.backends import Backend, Empty, Request, Statistics, op
from labelsmooth.checks import is_batched
from labelsmooth.losses.row_loss import Reduction, RowLoss, require_whole_rows

# Rows whose logits exist at a time by default. Each chunk packs W anew for its products:
# with 512 rows that costs 3 % of them, with 256 rows 8 %, with 128 rows 24 %, whatever H and K are.
CHUNK_ROWS = 512
# Numbers of W at a time in the product for the logits on a CPU: they stay in cache for all rows of the chunk.
_CACHED = 1 << 21


class Layer(NamedTuple):
    """A linear layer and its input."""

    input: Tensor  # (N, H)
    weight: Tensor  # (K, H)
    bias: Tensor | None  # (K,)


class Cap(NamedTuple):
    """What becomes of the outputs o of a layer: the logits scale·o, or softcap·tanh(scale·o / softcap)."""

    scale: float = 1.0
    softcap: float | None = None

    def dtype_of_logits(self, outputs: torch.dtype) -> torch.dtype:
        """Return float32 for what is made of float16, whose range logits and outputs / softcap may leave."""
        return torch.float32 if outputs == torch.float16 and self != Cap() else outputs

    def __call__(self, outputs: Tensor) -> Tensor:
        """Make the logits, by operations that torch differentiates."""
        logits = outputs.to(self.dtype_of_logits(outputs.dtype))
        logits = logits if self.scale == 1 else self.scale * logits
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()


def linear_losses(
    layer: Layer,
    cap: Cap,
    request: Request,
    loss: RowLoss,
    reduction: Reduction,
    backend: Backend,
    chunk_rows: int,
    *,
    keep_stats: bool,
) -> tuple[Tensor, Statistics | None]:
    """Compute the reduced losses, differentiable in the layer only, and the statistics.

    Args:
        layer: the layer that makes the logits.
        cap: what becomes of its outputs.
        request: the statistics wanted of the N rows; rows that do not count are dropped before any product.
        loss: the loss of these rows, its mixture with one batch dimension.
        reduction: the reduction of the losses.
        backend: that makes the statistics.
        chunk_rows: the number of rows in the buffer.
        keep_stats: True to return the detached statistics.

    Cost: three products of the size of the logits, as the layer and its backward alone; four without a sum,
        as the backward then makes the logits again. Beside the gradients, chunk_rows·K numbers. On a GPU one
        synchronisation where rows may not count.
    """
    kept: list[Statistics] = []
    settings = _Settings(
        cap=cap,
        request=request,
        loss=loss,
        reduction=reduction,
        backend=backend,
        chunk_rows=chunk_rows,
        kept=kept if keep_stats else None,
    )
    if torch.is_grad_enabled():
        losses: Tensor = _Losses.apply(*layer, settings)  # type: ignore[no-untyped-call]
    else:
        losses = reduction(_pass(layer, settings, None), None)
    return losses, kept[0] if keep_stats else None


class _Settings(NamedTuple):
    """The arguments of `linear_losses` beside the layer."""

    cap: Cap
    request: Request
    loss: RowLoss
    reduction: Reduction
    backend: Backend
    chunk_rows: int
    kept: list[Statistics] | None  # takes the statistics, where they are wanted


class _Losses(torch.autograd.Function):
    """The losses of a linear layer's logits, with gradients made in the forward where that is possible."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
        layer = Layer(input, weight, bias)
        gradients = None
        if settings.reduction.total and any(ctx.needs_input_grad):
            gradients = _Gradients(
                layer, _factor(layer, settings), ctx.needs_input_grad, settings.backend.empty
            )
        losses = _pass(layer, settings, gradients)
        made_of = (settings.request, settings.loss, settings.reduction)
        ctx.save_for_backward(input, weight, bias, *(tensor for part in made_of for tensor in part.tensors()))
        ctx.settings, ctx.gradients = settings._replace(kept=None), gradients
        return settings.reduction(losses, None)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        layer = Layer(*ctx.saved_tensors[:3])
        settings, total = ctx.settings, ctx.settings.reduction.total
        if torch.is_grad_enabled() or is_batched(upstream):
            return (*_through_logits(layer, settings, upstream), None)
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:  # losses of rows, or a second backward through a sum
            factor = _factor(layer, settings)
            gradients = _Gradients(
                layer, factor if total else factor * upstream, ctx.needs_input_grad, settings.backend.empty
            )
            _pass(layer, settings, gradients)
        return (*gradients.finish(upstream if total else None), None)


def _factor(layer: Layer, settings: _Settings) -> Tensor:
    """Return the factor of each row's gradient in the layer's outputs but for a softcap, (N,) or ()."""
    factor = settings.reduction.factor * settings.cap.scale
    if isinstance(factor, Tensor):
        return factor
    return torch.full((), factor, dtype=settings.loss.dtype, device=layer.input.device)


class _Gradients:
    """The gradients of the layer, to which chunks of rows add; those of W and b in at least float32.

    In float16 a row's factor in a mean would take them below the smallest number: there they are made for
    factors of at most 1, and `finish` multiplies by the largest, which the factors were divided by.
    """

    def __init__(self, layer: Layer, factor: Tensor, needed: tuple[bool, ...], empty: Empty) -> None:
        x, weight, bias = layer
        wide = torch.promote_types(weight.dtype, torch.float32)
        self.layer, self.factor = layer, factor
        self.largest: Tensor | None = None
        self.input = torch.zeros_like(x) if needed[0] else None
        self.weight = empty(weight, weight.shape, wide) if needed[1] else None
        self.bias = torch.zeros_like(bias, dtype=wide) if needed[2] and bias is not None else None
        self.empty = True
        if x.dtype == torch.float16 and factor.numel():
            largest = factor.abs().max()
            self.largest = torch.where(largest > 0, largest, 1)
            self.factor = factor / self.largest

    def factor_of(self, rows: slice | Tensor, num_rows: int) -> Tensor:
        """Return the factor of some rows' losses, (num_rows,)."""
        return self.factor[rows] if self.factor.dim() else self.factor.expand(num_rows)

    def add(self, rows: slice | Tensor, x: Tensor, output_grad: Tensor) -> None:  # (R, H), (R, K)
        """Add the products of some rows with the gradient of the layer's outputs."""
        if self.input is not None:
            self.input[rows] = torch.mm(output_grad, self.layer.weight)
        if self.weight is not None and self.weight.dtype == x.dtype:
            beta = 0 if self.empty else 1
            torch.addmm(self.weight, output_grad.t(), x, beta=beta, out=self.weight)
        elif self.weight is not None:
            product = torch.mm(output_grad.t(), x)
            self.weight = self.weight.copy_(product) if self.empty else self.weight.add_(product)
        if self.bias is not None:
            self.bias += output_grad.sum(0, dtype=self.bias.dtype)
        self.empty = False

    def finish(self, upstream: Tensor | None) -> list[Tensor | None]:
        """Return the gradients times the upstream gradient of the sum, in the dtypes of the layer."""
        if self.empty and self.weight is not None:
            self.weight.zero_()
        # one product first, since each factor by itself may take float16 out of its range
        scale = upstream
        if self.largest is not None:
            scale = self.largest if upstream is None else upstream * self.largest
        if scale is not None and not (scale.device.type == "cpu" and scale == 1):
            for gradient in (self.input, self.weight, self.bias):
                if gradient is not None:
                    gradient *= scale.reshape(1)  # 0-d, it would be rounded to the gradient's dtype first
        return [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip((self.input, self.weight, self.bias), self.layer, strict=True)
        ]


def _pass(layer: Layer, settings: _Settings, gradients: _Gradients | None) -> Tensor:
    """Compute the losses (N,), 0 for rows that do not count, and add to the gradients, where given."""
    x, weight, _ = layer
    cap, request, loss, _, backend, chunk_rows, kept = settings
    counted = request.counted
    if counted is not None:
        chosen = counted.nonzero().squeeze(-1)
        request, loss, x = replace(_take(request, chosen), counted=None), loss.rows(chosen), x[chosen]
    num_rows = x.shape[0]
    shape = (min(chunk_rows, num_rows), weight.shape[0])
    head = _CappedHead(cap, x, shape, backend.empty, differentiable=gradients is not None)
    losses = torch.empty(num_rows, dtype=loss.dtype, device=x.device)
    pieces = []
    for start in range(0, num_rows, chunk_rows):
        rows = slice(start, min(start + chunk_rows, num_rows))
        size = rows.stop - start
        logits = head.logits(layer._replace(input=x[rows]))
        chunk_request, chunk_loss = _take(request, rows), loss.rows(rows)
        stats = backend.forward(logits, chunk_request)
        losses[rows] = chunk_loss(stats)
        if kept is not None:
            pieces.append(stats)
        if gradients is not None:
            rows_of_input = rows if counted is None else chosen[rows]
            slopes = chunk_loss.slopes(stats, gradients.factor_of(rows_of_input, size))
            backend.backward(logits, chunk_request, stats, slopes, logits, shift_free=True)
            gradients.add(rows_of_input, x[rows], head.gradient(logits))
    if counted is not None:
        losses = losses.new_zeros(len(layer.input)).index_copy_(0, chosen, losses)
    if kept is not None:
        kept.append(_joined(pieces, settings, layer))
    return losses


class _CappedHead:
    """The logits of one chunk of rows after another, and their gradients on the way back to the layer."""

    def __init__(
        self, cap: Cap, x: Tensor, shape: tuple[int, int], empty: Empty, *, differentiable: bool
    ) -> None:
        self.cap = cap
        self.outputs = self.buffer = empty(x, shape, x.dtype)
        self.widens = cap.dtype_of_logits(x.dtype) != x.dtype
        if self.widens:
            self.buffer = empty(x, shape, cap.dtype_of_logits(x.dtype))
        self.squares: Tensor | None = None  # of the tanh of a softcap
        if cap.softcap is not None and differentiable:
            self.squares = self.outputs if self.widens else empty(x, shape, x.dtype)

    def logits(self, layer: Layer) -> Tensor:
        """Compute the logits of the rows of a layer's input."""
        size, factor = len(layer.input), self.cap.scale / (self.cap.softcap or 1)
        logits = _scaled_outputs(layer, 1 if self.widens else factor, self.outputs[:size])
        if self.widens:
            logits = self.buffer[:size].copy_(logits).mul_(factor)
        if self.cap.softcap is not None:
            logits.tanh_()
            if self.squares is not None:
                torch.mul(logits, logits, out=self.squares[:size])
            logits.mul_(self.cap.softcap)
        return logits

    def gradient(self, logit_grad: Tensor) -> Tensor:
        """Make of the gradient of the logits that of the outputs but for the scale, in their dtype."""
        size = len(logit_grad)
        if self.squares is not None:
            logit_grad.addcmul_(logit_grad, self.squares[:size], value=-1)
        return self.outputs[:size].copy_(logit_grad) if self.widens else logit_grad


def _scaled_outputs(layer: Layer, scale: float, out: Tensor) -> Tensor:
    """Write scale·(x·Wᵀ + b) to `out`."""
    x, weight, bias = layer
    step = max(1, _CACHED // max(1, weight.shape[1])) if x.device.type == "cpu" else max(1, weight.shape[0])
    for start in range(0, weight.shape[0], step):
        columns = slice(start, start + step)
        into, transposed = out[:, columns], weight[columns].t()
        if bias is not None:
            torch.addmm(bias[columns], x, transposed, beta=scale, alpha=scale, out=into)
        elif scale != 1:
            torch.addmm(into, x, transposed, beta=0, alpha=scale, out=into)
        else:
            torch.mm(x, transposed, out=into)
    return out


def _take(request: Request, rows: slice | Tensor) -> Request:
    """Return the request for some of the rows."""
    index, row, counted = (
        None if values is None else values[rows]
        for values in (request.index, request.prior_row, request.counted)
    )
    return replace(request, index=index, prior_row=row, counted=counted)


def _joined(pieces: list[Statistics], settings: _Settings, layer: Layer) -> Statistics:
    """Join the statistics of chunks to N rows; rows that do not count get those of a row of zeros."""
    request, backend = settings.request, settings.backend
    blank = layer.input.new_zeros(1, layer.weight.shape[0])
    first = replace(_take(request, slice(0, 1)), counted=None)
    if not len(layer.input):
        return backend.forward(blank[:0], first)
    zero = backend.forward(blank, first)
    joined = []
    for blank_values, *chunk_values in zip(zero, *pieces, strict=True):
        if blank_values is None or blank_values.dim() == 0:
            joined.append(blank_values)
        elif request.counted is None:
            joined.append(torch.cat(chunk_values))
        else:
            whole = blank_values.expand(len(layer.input), *blank_values.shape[1:]).clone()
            whole[request.counted] = torch.cat([blank_values[:0], *chunk_values])
            joined.append(whole)
    return Statistics._make(joined)


def _through_logits(layer: Layer, settings: _Settings, upstream: Tensor) -> list[Tensor | None]:
    """Compute the gradients from the full logits, differentiable again, or for a batch of upstream ones."""
    request, create_graph = settings.request, torch.is_grad_enabled()
    require_whole_rows(request, layer.weight.shape[0])
    with torch.enable_grad():
        losses = settings.loss(op.row_stats(settings.cap(nn.functional.linear(*layer)), request, "reference"))
        result = settings.reduction(losses, request.counted)
    wanted = [tensor for tensor in layer if tensor is not None and tensor.requires_grad]
    gradients = iter(torch.autograd.grad(result, wanted, upstream, create_graph=create_graph))
    return [next(gradients) if tensor is not None and tensor.requires_grad else None for tensor in layer]
