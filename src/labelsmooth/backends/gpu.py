"""The GPU backend: kernels in Triton that read each logit once forward, and read and write once backward.

`contract` says what the two functions take and give. Triton is imported by the first call.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from math import gcd
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.backends import reference
from labelsmooth.backends.contract import Backend, Request, Statistics

_LOGITS_PER_THREAD = 16
_LOGITS_PER_WARP = 32 * _LOGITS_PER_THREAD
_MAX_WARPS = 4
_WIDEST_LOAD = 16  # bytes, of a thread
_MAX_SPLITS = 64  # of a row among programs


def unavailable(device: torch.device) -> str | None:
    """Return in words why these kernels cannot serve a device, or None."""
    if device.type != "cuda":
        return f"it serves CUDA and HIP devices, not {device.type}"
    if find_spec("triton") is None:
        return "triton is not installed"
    if not torch.cuda.is_available():
        return "torch sees no such device"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return "Triton's kernels need a GPU of compute capability 8.0 or more"
    return None


class Launch(NamedTuple):
    """A kernel with the number of its programs and its arguments."""

    kernel: Any  # of `gpu_kernels`
    programs: int
    arguments: dict[str, Any]  # with the constants that it is compiled for, and `num_warps`


def forward(
    logits: Tensor,  # (N, C)
    request: Request,
) -> Statistics:
    """Compute the statistics by one read of the logits of the rows that count: N·C·itemsize bytes.

    Where a row holds NaN, `argmax` is the index of its first NaN.
    """
    if logits.shape[0] == 0:
        return reference.forward(logits, request)
    stats, launches = plan_forward(logits, request)
    run(launches, logits)
    return stats


def backward(
    logits: Tensor,  # (N, C)
    request: Request,
    stats: Statistics,
    grads: Statistics,
    out: Tensor | None = None,
    *,
    shift_free: bool = False,
) -> Tensor:
    """Compute the gradient of the logits by one read of them and one write: 2·N·C·itemsize bytes."""
    if out is None:
        out = torch.empty_like(logits)
    if logits.shape[0] > 0:
        run([plan_backward(logits, request, stats, grads, out, shift_free=shift_free)], logits)
    return out


def plan_forward(
    logits: Tensor,  # (N, C)
    request: Request,
    num_blocks: int | None = None,
) -> tuple[Statistics, list[Launch]]:
    """Allocate the statistics, and plan the launches that write them.

    Args:
        logits: at least one row.
        request: the statistics wanted.
        num_blocks: blocks of columns for each program; None for as many as keep the device busy. Rows of more
            blocks are split among programs, and a second kernel merges their pieces.
    """
    from labelsmooth.backends import gpu_kernels

    rows = logits.shape[0]
    tile = _tile(logits, request.prior)
    blocks = tile.blocks(logits.shape[1])
    if num_blocks is None:
        # few long rows are split, so that eight programs for each multiprocessor hide the wait for memory
        programs = 8 * _multi_processors(logits)
        num_blocks = _ceil(blocks, max(1, min(blocks // 4, programs // _ceil(rows, tile.rows))))
    num_blocks = max(num_blocks, _ceil(blocks, _MAX_SPLITS))
    splits = _ceil(blocks, num_blocks)
    stats = _empty_statistics(logits, request)
    outputs = {f"{name}_out": value for name, value in stats._asdict().items()}
    if not request.prior_mass_by_row:
        outputs["prior_mass_out"] = None

    inputs = _inputs(logits, request)
    index = inputs["index"]
    if index is None:
        outputs["at_index_out"] = outputs["seen_out"] = None
    inputs["J_BLOCK"] = 1 if index is None else _power_of_2(index.shape[1])
    arguments = {
        **inputs,
        **_prior_arguments(request),
        "splits": splits,
        "num_blocks": num_blocks,
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        "REPEATS": tile.repeats,
        "VECTOR": tile.vector,
        "RAGGED": tile.ragged,
        # loads of single logits keep memory busy without prefetching the next blocks, whose masks would spill
        "STAGES": 3 if blocks > 1 and tile.vector > 1 else 1,
        "num_warps": tile.warps,
    }
    programs = _ceil(rows, tile.rows) * splits
    if splits == 1:
        return stats, [Launch(gpu_kernels.forward, programs, {**arguments, **outputs, "PARTIAL": False})]
    pieces = _empty_pieces(logits, request, splits)
    forward_arguments = {
        **arguments,
        **{f"{name}_out": piece for name, piece in pieces.items()},
        "index": None,
        "at_index_out": None,
        "seen_out": None,
        "PARTIAL": True,
    }
    merge_arguments = {
        **inputs,
        **{f"{name}_in": piece for name, piece in pieces.items()},
        **outputs,
        "splits": splits,
        "SPLITS": _MAX_SPLITS,
        "num_warps": 1,
    }
    return stats, [
        Launch(gpu_kernels.forward, programs, forward_arguments),
        Launch(gpu_kernels.merge, rows, merge_arguments),
    ]


def _empty_statistics(logits: Tensor, request: Request) -> Statistics:  # (N, C)
    """Allocate the statistics of all rows; the mass of a prior that all rows share is filled in."""
    rows, columns = logits.shape
    acc = _accumulator(logits)
    empty = partial(torch.empty, dtype=acc, device=logits.device)
    at_index = seen = prior_mass = None
    if request.index is not None:
        at_index = empty(request.index.shape)
        if columns != request.num_classes:
            seen = torch.empty_like(at_index, dtype=torch.bool)
    if request.prior is not None:
        if request.prior_mass_by_row:
            prior_mass = empty(rows)
        elif isinstance(request.prior, Tensor):
            prior_mass = request.prior.to(acc).sum()
        else:
            prior_mass = logits.new_full((), columns / request.num_classes, dtype=acc)
    return Statistics(
        max=empty(rows),
        argmax=logits.new_empty(rows, dtype=torch.int64),
        log_sum=empty(rows),
        at_index=at_index,
        seen=seen,
        at_prior=None if request.prior is None else empty(rows),
        prior_mass=prior_mass,
        log_sum_sq=empty(rows) if request.log_sum_sq else None,
        mean_logit=empty(rows) if request.mean_logit else None,
    )


def _empty_pieces(logits: Tensor, request: Request, splits: int) -> dict[str, Tensor | None]:  # (N, C)
    """Allocate the sums (splits, N) that programs write of their pieces of rows."""
    shape = (splits, logits.shape[0])
    empty = partial(torch.empty, shape, dtype=_accumulator(logits), device=logits.device)
    return {
        "max": empty(),
        "argmax": logits.new_empty(shape, dtype=torch.int64),
        "log_sum": empty(),
        "at_prior": None if request.prior is None else empty(),
        "prior_mass": None if request.prior is None else empty(),
        "log_sum_sq": empty() if request.log_sum_sq else None,
        "mean_logit": empty() if request.mean_logit else None,
    }


def plan_backward(
    logits: Tensor,  # (N, C)
    request: Request,
    stats: Statistics,
    grads: Statistics,
    out: Tensor,  # (N, C), may be logits
    *,
    shift_free: bool = False,
) -> Launch:
    """Plan the launch that writes the gradient of at least one row of logits to `out`."""
    from labelsmooth.backends import gpu_kernels

    rows, columns = logits.shape
    assert stats.max is not None
    tile = _tile(logits, request.prior)
    blocks = tile.blocks(columns)
    mass = stats.prior_mass
    arguments = {
        **_inputs(logits, request),
        **_prior_arguments(request),
        **_upstream_arguments(grads),
        "out": out,
        "max_in": stats.max,
        "argmax_in": stats.argmax,
        "log_sum_in": stats.log_sum,
        "prior_mass_in": mass,
        "log_sum_sq_in": stats.log_sum_sq,
        "mean_logit_in": stats.mean_logit,
        "out_stride": out.stride(0),
        "out_column_stride": out.stride(1),
        "prior_mass_stride": mass.stride(0) if mass is not None and mass.dim() else 0,
        "blocks": blocks,
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        "VECTOR": tile.vector,
        "OUT_VECTOR": gcd(
            tile.vector, _vector(out, _start(out) - _start(logits), out.stride(0) - logits.stride(0))
        ),
        "RAGGED": tile.ragged,
        "SHIFT_FREE": shift_free,
        "num_warps": tile.warps,
    }
    return Launch(gpu_kernels.backward, _ceil(rows, tile.rows) * blocks, arguments)


def _upstream_arguments(grads: Statistics) -> dict[str, Any]:
    """Return the upstream gradients and their strides, as the backward kernel takes them."""
    arguments: dict[str, Any] = {}
    for name in ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit"):
        grad = getattr(grads, name)
        if grad is not None and grad.numel() == 0:
            grad = None
        arguments[f"grad_{name}"] = grad
        arguments[f"grad_{name}_stride"] = 0 if grad is None else grad.stride(0)
        if name == "at_index":
            arguments["grad_at_index_j_stride"] = 0 if grad is None else grad.stride(1)
    return arguments


def run(launches: list[Launch], logits: Tensor) -> None:
    """Run the launches one after another on the device of the logits."""
    # Triton launches on the current device
    device = torch.cuda.device(logits.device) if logits.is_cuda else nullcontext()
    with device:
        for launch in launches:
            launch.kernel[(launch.programs,)](**launch.arguments)


def _inputs(
    logits: Tensor,  # (N, C)
    request: Request,
) -> dict[str, Any]:
    """Return the arguments that all kernels take."""
    import triton.language as tl

    index = request.index
    if index is not None and index.shape[1] == 0:
        index = None
    return {
        "logits": logits,
        "index": None if index is None else index.contiguous(),
        "counted": None if request.counted is None else request.counted.contiguous(),
        "row_stride": logits.stride(0),
        "column_stride": logits.stride(1),
        "num_rows": logits.shape[0],
        "num_columns": logits.shape[1],
        "num_classes": request.num_classes,
        "first_class": request.first_class,
        "UNIFORM": isinstance(request.prior, str),
        "FINITE": request.finite_support,
        "J": 0 if index is None else index.shape[1],
        "ACC": tl.float64 if logits.dtype == torch.float64 else tl.float32,
    }


def _prior_arguments(request: Request) -> dict[str, Any]:
    """Return the prior as the kernels take it beside its kind."""
    table = request.prior if isinstance(request.prior, Tensor) else None
    stride = 0 if table is None or table.dim() == 1 else table.stride(0)
    return {
        "prior": table,
        "prior_row": None if request.prior_row is None else request.prior_row.contiguous(),
        "prior_stride": stride,
        "prior_column_stride": 0 if table is None else table.stride(-1),
        "PRIOR_VECTOR": 1 if table is None else _vector(table, _start(table), stride),
    }


class _Tile(NamedTuple):
    rows: int
    block: int  # columns, repeats × lanes × vector
    repeats: int  # vectors of a thread in a block
    vector: int  # neighbouring columns that a thread loads at once
    ragged: bool  # whether rows begin and end between vectors
    warps: int

    def blocks(self, columns: int) -> int:
        """Return how many blocks hold a row, wherever it begins."""
        return _ceil(columns + (self.vector - 1 if self.ragged else 0), self.block)


def _tile(logits: Tensor, prior: Tensor | str | None) -> _Tile:  # (N, C)
    """Choose how many logits a program holds at a time, and how its threads share them.

    A thread holds 16 logits, in loads of 16 bytes; four warps hold 2048. Eight such programs fit a
    multiprocessor by their registers. With two blocks each on the way these are 64 KiB of bfloat16 in flight,
    and 4.8 TB/s over 132 multiprocessors at a latency of 0.7 µs take 25 KiB. Short rows share a warp, 8
    logits to a thread, as each has an address of its own.

    Loads are as wide as the alignment of all rows allows, but long rows that do not all begin and end at
    multiples of 16 bytes are ragged. Beside a table for a prior they are not: it lies otherwise than they do,
    and both are read best by neighbouring threads one by one.
    """
    columns = logits.shape[1]
    block = min(_power_of_2(columns), _MAX_WARPS * _LOGITS_PER_WARP)
    rows = max(1, _LOGITS_PER_WARP // 2 // block)
    widest, vector = _vector(logits), _vector(logits, _start(logits), logits.stride(0), columns)
    ragged = vector < widest and rows == 1 and not isinstance(prior, Tensor)
    if ragged:
        vector = widest
        block = min(_power_of_2(columns + widest - 1), _MAX_WARPS * _LOGITS_PER_WARP)
    return _Tile(
        rows,
        block,
        min(block, _LOGITS_PER_THREAD) // vector,
        vector,
        ragged,
        max(1, block // _LOGITS_PER_WARP),
    )


def _start(table: Tensor) -> int:
    """Return the address of the first element, in elements."""
    return table.data_ptr() // table.element_size()


def _vector(table: Tensor, *distances: int) -> int:
    """Return how many neighbouring elements a load takes at once: the most that divide all distances."""
    return gcd(_WIDEST_LOAD // table.element_size(), *distances) if table.stride(-1) == 1 else 1


def _accumulator(logits: Tensor) -> torch.dtype:
    """Return the dtype of the statistics."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _multi_processors(logits: Tensor) -> int:
    """Return the number of multiprocessors of the device."""
    if not logits.is_cuda:  # Triton's interpreter
        return 1
    return torch.cuda.get_device_properties(logits.device).multi_processor_count


def _ceil(a: int, b: int) -> int:
    """Return a/b, rounded up."""
    return -(-a // b)


def _power_of_2(value: int) -> int:
    """Return the least power of 2 that is at least `value`."""
    return 1 << (value - 1).bit_length()


BACKEND = Backend(forward=forward, backward=backward, unavailable=unavailable, kernels="Triton kernels")
