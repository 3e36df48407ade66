"""The smoothed cross-entropy of a linear layer whose classes are sharded over processes."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labelsmooth.backends import BACKENDS, BackendName, select
from labelsmooth.errors import InputError
from labelsmooth.losses.linear import as_autocast, check_cap, check_chunk_rows, check_layer, in_chunks
from labelsmooth.losses.sharded import place_block, refused_by_all, whole_rows
from labelsmooth.losses.targets import Denominator, ReductionName, Settings
from labelsmooth.losses.vocab_parallel import Options, sharded_targets
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats
from labelsmooth.smoothing import Smoothing


class LinearOptions(Options, total=False):
    """The keywords that the overloads of the loss of a linear layer share."""

    linear_bias: Tensor | None
    scale: float
    softcap: float | None
    sequence_parallel: bool
    weight: Tensor | None
    ignore_index: int
    reduction: ReductionName
    label_smoothing: float | Smoothing
    chunk_rows: int | None


@overload
def vocab_parallel_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    num_classes: int,
    return_stats: Literal[False] = ...,
    **options: Unpack[LinearOptions],
) -> Tensor: ...
@overload
def vocab_parallel_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    num_classes: int,
    return_stats: Literal[True],
    **options: Unpack[LinearOptions],
) -> tuple[Tensor, RowStats]: ...
@overload
def vocab_parallel_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    num_classes: int,
    return_stats: bool = ...,
    **options: Unpack[LinearOptions],
) -> Tensor | tuple[Tensor, RowStats]: ...
def vocab_parallel_linear_cross_entropy(
    input: Tensor,  # (..., H)
    linear_weight: Tensor | nn.Linear,  # (C, H), this process's rows
    target: Tensor | Mixture,  # (...), or dense (..., K)
    *,
    num_classes: int,
    first_class: int | None = None,
    group: dist.ProcessGroup | None = None,
    linear_bias: Tensor | None = None,  # (C,)
    scale: float = 1.0,
    softcap: float | None = None,
    sequence_parallel: bool = False,
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    row_weight: Tensor | None = None,  # (...)
    z_loss: float | Tensor = 0.0,
    denominator: Denominator = None,
    chunk_rows: int | None = None,
    return_stats: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy of the logits of a linear layer whose classes are sharded over processes, in nats.

    The logits never exist all at once in any process. Every process calls it with the same input, targets and
    settings, and with its own rows of the layer's weight, and gets the same loss, to the last bit.

    Args:
        input: (…, H) features, the same in every process; with `sequence_parallel` this process's share of
            them along their first axis, of the same size in every process.
        linear_weight: (C, H), this process's rows of the weight; or an `nn.Linear` of them.
        target: of the whole rows, as in `vocab_parallel_cross_entropy`.
        linear_bias: (C,), this process's part of the bias.
        scale, softcap, chunk_rows: as in `linear_cross_entropy`.
        sequence_parallel: gather the input along its first axis first, and scatter its gradient.
        num_classes, first_class, group, weight, ignore_index, reduction, label_smoothing, row_weight, z_loss,
            denominator, return_stats, backend: as in `vocab_parallel_cross_entropy`.

    Returns:
        As `vocab_parallel_cross_entropy`.

    Raises:
        TypeError, ValueError, RuntimeError: as `vocab_parallel_cross_entropy` and `linear_cross_entropy`.

    Cost: as `linear_cross_entropy` of C classes, and one gathering call for each chunk of rows. The backward
        sums the gradient of the input over the processes (scatters the sum, with `sequence_parallel`); that
        of the weight stays where it is. For "none" the backward gathers once more for each chunk.

    Example:
        With `head.weight` (C, H) of the process's shard of 32,000 classes:

            loss = ls.vocab_parallel_linear_cross_entropy(
                hidden, head.weight, labels, label_smoothing=0.1, num_classes=32_000
            )
    """
    with refused_by_all(input, first_class, group):
        layer = as_autocast(check_layer(input, linear_weight, linear_bias))
        cap = check_cap(scale, softcap)
        check_chunk_rows(chunk_rows)
        settings = Settings(weight, ignore_index, reduction, label_smoothing, row_weight, z_loss, denominator)
        rows = layer.input.shape[:-1]
        if sequence_parallel:
            if not rows:
                raise InputError(
                    "sequence_parallel needs an input of shape (…, H) with an axis of rows, got (H,)"
                )
            rows = torch.Size((rows[0] * dist.get_world_size(group), *rows[1:]))
        targets = sharded_targets(target, settings, rows, num_classes, layer.input).flat()
        chosen, _ = select(backend, layer.input.device)
    block = place_block(
        math.prod(rows), len(layer.weight), num_classes, first_class, group, layer.input.device
    )
    spread = _GatheredRows if sequence_parallel else _SharedInput
    layer = layer._replace(
        input=spread.apply(layer.input, group),  # type: ignore[no-untyped-call]
        weight=layer.weight[: block.columns],
        bias=None if layer.bias is None else layer.bias[: block.columns],
    )
    sharded = whole_rows(BACKENDS[chosen], block)
    return in_chunks(layer, cap, targets, rows, sharded, chunk_rows, return_stats=return_stats)


class _SharedInput(torch.autograd.Function):
    """The same in every process, which uses it for a part of what is made of it: its gradient is the sum."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class _GatheredRows(torch.autograd.Function):
    """The rows of all processes along the first axis; each gets the sum of the gradients of its own."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        size = dist.get_world_size(group)
        gathered = input.new_empty(size * input.shape[0], *input.shape[1:])
        dist.all_gather_into_tensor(gathered, input.contiguous(), group)
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        size = dist.get_world_size(ctx.group)
        own = gradient.new_empty(gradient.shape[0] // size, *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous(), group=ctx.group)
        return own, None
