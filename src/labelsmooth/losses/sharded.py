"""Rows whose classes are shared out over processes: statistics of whole rows, by one collective call.

Each process holds a block of columns of the logits of the same rows. A backend made by `whole_rows` gives the
statistics of the whole rows from the logits of a block, and the block's part of the gradient; the losses are
then computed as ever, in every process alike, to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor

from labelsmooth.backends import Backend, Request, Statistics, statistics_dtype
from labelsmooth.checks import require_int
from labelsmooth.errors import REFUSALS, InputError
from labelsmooth.row_stats import RowStats

# what a process tells in place of its first class
_NOT_GIVEN, _REFUSED = -1, -2


@dataclass(frozen=True)
class Block:
    """This process's block of the classes."""

    first_class: int
    columns: int  # 0 where all are padding
    group: dist.ProcessGroup | None  # None for all processes


@contextmanager
def refused_by_all(input: Tensor, first_class: int | None, group: dist.ProcessGroup | None) -> Iterator[None]:
    """Let what is refused within the block in one process end `place_block`, which follows, in all others.

    Where the processes tell each other nothing there, the others wait for the one that is gone.

    Args:
        input, first_class, group: as given to the loss, not checked yet; `first_class` is, by this.

    Raises:
        TypeError, ValueError: there is no process group, or `first_class` is no int from 0 on.
    """
    require_processes()
    try:
        if first_class is not None:
            require_int(first_class, "first_class")
            if first_class < 0:
                raise InputError(f"first_class must be at least 0, got {first_class}")
        yield
    except REFUSALS:
        device = input.device if isinstance(input, Tensor) else torch.device("cpu")
        if _is_told(first_class, device):
            _tell([_REFUSED] * 4, group, device)
        raise


def place_block(
    rows: int,
    columns: int,
    num_classes: int,
    first_class: int | None,
    group: dist.ProcessGroup | None,
    device: torch.device,
) -> Block:
    """Find which classes are the columns of this process; those past the last class are padding.

    Args:
        rows: of the logits.
        columns: of this process, padding included.
        num_classes: K.
        first_class: the class of the first column; None takes the sum of the columns of the processes before,
            which they have to tell each other. On a CPU a given one is held against that sum.
        group: of the processes that share the classes.
        device: of the logits.

    Raises:
        ValueError: where that is looked at, another process refused its arguments, or has other rows or
            classes, or the columns of all are fewer than the classes, or blocks that are not in order.
    """
    if _is_told(first_class, device):
        first = _NOT_GIVEN if first_class is None else min(first_class, num_classes)
        told = _tell([first, columns, rows, num_classes], group, device)
        refused = [rank for rank, (given, *_) in enumerate(told) if given == _REFUSED]
        if refused:
            raise InputError(f"the arguments of the processes {refused} of the group were refused there")
        given, widths, heights, classes = zip(*told, strict=True)
        if len({*heights}) > 1 or len({*classes}) > 1:
            raise InputError(
                "the processes must have the same rows and num_classes, "
                f"got {[*heights]} rows and num_classes={[*classes]}"
            )
        starts = list(accumulate(widths[:-1], initial=0))
        if sum(widths) < num_classes:
            raise InputError(f"the processes must have {num_classes} columns in all, got {[*widths]}")
        wanted = [min(start, num_classes) for start in starts]
        if any(first not in (_NOT_GIVEN, start) for first, start in zip(given, wanted, strict=True)):
            raise InputError(
                f"blocks of {[*widths]} columns must begin at the classes {starts}, got {[*given]}"
            )
        first_class = starts[dist.get_rank(group)]
    assert first_class is not None
    return Block(first_class, max(0, min(columns, num_classes - first_class)), group)


def _is_told(first_class: int | None, device: torch.device) -> bool:
    """Return True where the processes tell each other about their blocks, for which a GPU has to wait."""
    return first_class is None or device.type == "cpu"


def _tell(own: list[int], group: dist.ProcessGroup | None, device: torch.device) -> list[list[int]]:
    """Return the numbers of every process."""
    numbers = torch.tensor(own, device=device)
    told = numbers.new_empty(dist.get_world_size(group) * len(own))
    dist.all_gather_into_tensor(told, numbers, group)
    lists: list[list[int]] = told.view(-1, len(own)).tolist()
    return lists


def require_processes() -> None:
    """Raise `ValueError` where there is no process group."""
    if not dist.is_available() or not dist.is_initialized():
        raise InputError(
            "classes are sharded over the processes of torch.distributed, which is not initialised"
        )


def whole_rows(backend: Backend, block: Block) -> Backend:
    """Make of a backend one that takes the logits of a block, and the request of whole rows.

    Cost: a forward gathers some numbers of each row from every process, in one call; a backward none.
    """

    def of_block(request: Request) -> Request:
        prior = request.prior
        if isinstance(prior, Tensor):
            prior = prior[..., block.first_class : block.first_class + block.columns]
        return replace(request, prior=prior, first_class=block.first_class)

    def forward(logits: Tensor, request: Request) -> Statistics:
        own = of_block(request)
        stats = backend.forward(logits, own) if block.columns else _of_no_column(logits, own)
        return _merged(stats, request, block.group)

    def backward(
        logits: Tensor,
        request: Request,
        stats: Statistics,
        grads: Statistics,
        out: Tensor | None = None,
        *,
        shift_free: bool = False,
    ) -> Tensor:
        assert shift_free
        if not block.columns:
            return torch.empty_like(logits)
        return backend.backward(logits, of_block(request), stats, grads, out, shift_free=True)

    return replace(
        backend,
        forward=forward,
        backward=backward,
        combine=None,
        combine_backward=None,
        three_dimensional=False,
    )


def _of_no_column(logits: Tensor, request: Request) -> Statistics:  # (N, 0)
    """Return what merges as nothing."""
    wide = statistics_dtype(logits)
    rows = logits.shape[:1]
    zeros = torch.zeros(rows, dtype=wide, device=logits.device)
    nothing = torch.full_like(zeros, -torch.inf)
    index, prior = request.index, request.prior
    return Statistics(
        max=nothing,
        argmax=torch.full(rows, request.num_classes, device=logits.device),
        log_sum=nothing,
        at_index=None if index is None else nothing.unsqueeze(-1).expand(index.shape),
        seen=None if index is None else torch.zeros_like(index, dtype=torch.bool),
        at_prior=None if prior is None else zeros,
        prior_mass=None if prior is None else zeros,
        log_sum_sq=nothing if request.log_sum_sq else None,
        mean_logit=zeros if request.mean_logit else None,
    )


def _merged(stats: Statistics, request: Request, group: dist.ProcessGroup | None) -> Statistics:
    """Merge the statistics of the blocks of all processes, in their order."""
    blocks = [
        RowStats(index=request.index, mask=request.counted, **one._asdict())
        for one in _gathered(stats, group)
    ]
    whole = blocks[0]
    for block in blocks[1:]:
        whole = whole.merge(block)
    return Statistics._make(getattr(whole, name) for name in Statistics._fields)


def _gathered(stats: Statistics, group: dist.ProcessGroup | None) -> list[Statistics]:
    """Return the statistics of every process, by one call: the numbers of a row side by side, as they are."""
    assert stats.max is not None
    rows, wide = len(stats.max), stats.max.dtype
    if stats.at_index is not None and stats.seen is None:  # the block is the whole row
        stats = stats._replace(seen=torch.ones_like(stats.at_index, dtype=torch.bool))
    parts = {
        name: part.expand(rows, *part.shape[1:]) for name, part in stats._asdict().items() if part is not None
    }
    packed = [_as_numbers(part, wide) for part in parts.values()]
    own = torch.cat(packed, dim=1)
    size = dist.get_world_size(group)
    gathered = own.new_empty(size * rows, own.shape[1])
    dist.all_gather_into_tensor(gathered, own, group)
    widths = [part.shape[1] for part in packed]
    return [
        Statistics(
            **{
                name: _as_before(numbers, part)
                for (name, part), numbers in zip(parts.items(), one.split(widths, dim=1), strict=True)
            }
        )
        for one in gathered.view(size, rows, own.shape[1])
    ]


def _as_numbers(part: Tensor, dtype: torch.dtype) -> Tensor:
    """Give values of rows, (N,) or (N, J), as (N, …) numbers of a dtype; whole numbers by their bits."""
    columns = part if part.dim() == 2 else part.unsqueeze(1)
    if part.dtype == torch.int64:
        return columns.contiguous().view(dtype)
    return columns.to(dtype)


def _as_before(numbers: Tensor, like: Tensor) -> Tensor:
    """Undo `_as_numbers`."""
    if like.dtype == torch.int64:
        # a copy: a part of few rows may be contiguous already, and not lie where whole numbers may
        numbers = numbers.clone(memory_format=torch.contiguous_format).view(torch.int64)
    return numbers.reshape(like.shape).to(like.dtype)
