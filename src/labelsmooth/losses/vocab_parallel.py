"""The smoothed cross-entropy of logits whose classes are sharded over processes."""

from __future__ import annotations

import math
from typing import Literal, TypedDict, Unpack, overload

import torch
import torch.distributed as dist
from torch import Tensor

from labelsmooth.backends import BACKENDS, BackendName, hindrance, select, statistics_dtype
from labelsmooth.checks import plain, require_logits, require_no_dtensor
from labelsmooth.errors import InputError
from labelsmooth.losses.row_loss import losses_of_logits, row_stats_of
from labelsmooth.losses.sharded import place_block, refused_by_all, whole_rows
from labelsmooth.losses.targets import Denominator, ReductionName, Settings, Targets, check_targets
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats
from labelsmooth.smoothing import Smoothing


class Options(TypedDict, total=False):
    """The keywords that the overloads share."""

    first_class: int | None
    group: dist.ProcessGroup | None
    row_weight: Tensor | None
    z_loss: float | Tensor
    denominator: Denominator
    backend: BackendName


@overload
def vocab_parallel_cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    num_classes: int,
    return_stats: Literal[False] = ...,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def vocab_parallel_cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    num_classes: int,
    return_stats: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, RowStats]: ...
@overload
def vocab_parallel_cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    num_classes: int,
    return_stats: bool = ...,
    **options: Unpack[Options],
) -> Tensor | tuple[Tensor, RowStats]: ...
def vocab_parallel_cross_entropy(
    input: Tensor,  # (..., C), this process's columns
    target: Tensor | Mixture,  # (...), or dense (..., K)
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    num_classes: int,
    first_class: int | None = None,
    group: dist.ProcessGroup | None = None,
    row_weight: Tensor | None = None,  # (...)
    z_loss: float | Tensor = 0.0,
    denominator: Denominator = None,
    return_stats: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy of logits whose classes are sharded over processes, against smoothed targets, in nats.

    Every process calls it with the same targets and settings, and with its own columns of the logits of the
    same rows, and gets the same loss, to the last bit. Blocks of columns stand in the order of the processes
    and may differ in width; columns past the last class are padding, which is not read.

    Args:
        input: (…, C) logits of this process's columns, the class axis last.
        target: of the whole rows: class indices (…) in 0..K−1, dense targets (…, K), or a `Mixture`.
        weight, label_smoothing: over all K classes.
        ignore_index, reduction, row_weight, z_loss, denominator, return_stats, backend: as in
            `cross_entropy`.
        num_classes: K, without padding.
        first_class: the class of this process's first column; None takes the sum of the columns of the
            processes before, which they have to tell each other first (a GPU waits for that). A given one is
            held against that sum on a CPU, and believed elsewhere.
        group: the processes that share the classes; None for all.

    Returns:
        As `cross_entropy`; "none" gives (…).

    Raises:
        TypeError, ValueError: as `cross_entropy`; or torch.distributed is not initialised, the processes have
            fewer than K columns in all, or a target or a weight needs a gradient.
        RuntimeError: from the backward, for a second derivative.

        What is refused in one process alone is refused in all, but on a GPU with a given `first_class`: there
        the others wait for it.

    Cost: as `cross_entropy` of the C columns. The forward gathers five to twelve numbers of each row from
        every process, in one call; the backward calls none.

    Example:
        With `logits` (B, T, C) of the process's shard of 32,000 classes:

            loss = ls.vocab_parallel_cross_entropy(
                logits, labels, label_smoothing=0.1, num_classes=32_000, group=tensor_parallel_group
            )

    Source: `RowStats.merge`; as `VocabParallelCrossEntropy` of Megatron-LM, whose smoothing takes the classes
    of a shard for all of them.
    """
    with refused_by_all(input, first_class, group):
        input = plain(input)
        require_no_dtensor(input, "input")
        require_logits(input, "input")
        if input.dim() == 0:
            raise InputError("input must have shape (…, C), got ()")
        settings = Settings(weight, ignore_index, reduction, label_smoothing, row_weight, z_loss, denominator)
        rows, columns = input.shape[:-1], input.shape[-1]
        targets = sharded_targets(target, settings, rows, num_classes, input).flat()
        chosen, _ = select(backend, input.device)
    block = place_block(math.prod(rows), columns, num_classes, first_class, group, input.device)
    request = targets.request(every_statistic=return_stats)
    losses, stats = losses_of_logits(
        input.reshape(math.prod(rows), columns)[:, : block.columns],
        request,
        targets.row_loss(),
        targets.reduction(),
        whole_rows(BACKENDS[chosen], block),
        inplace=False,
        keep_stats=True,
    )
    assert stats is not None
    if reduction == "none":
        losses = losses.reshape(rows)
    return (losses, row_stats_of(stats, request, rows)) if return_stats else losses


def sharded_targets(
    target: Tensor | Mixture, settings: Settings, rows: torch.Size, num_classes: int, logits: Tensor
) -> Targets:
    """Return the targets of whole rows, or refuse those that need a gradient, and calls under transforms."""
    reason = hindrance(logits, None)
    if reason is not None:
        raise InputError(f"a loss of sharded classes cannot be computed where {reason}")
    targets = check_targets(
        target,
        settings,
        rows=rows,
        num_classes=num_classes,
        class_axis=len(rows),
        device=logits.device,
        dtype=statistics_dtype(logits),
        finite=None,
    )
    if targets.row_loss().needs_grad or targets.reduction().needs_grad:
        raise InputError(
            "a loss of sharded classes has a gradient in its logits, got a target or a weight that needs one"
        )
    return targets
