"""The GPU backend: kernels in Triton that read each logit once forward, and read and write once backward.

`contract` says what the two functions take and give. Triton is imported by the first call.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from math import gcd
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.backends import reference
from labelsmooth.backends.contract import Backend, Parts, Request

_PER_THREAD = 16  # logits
_PER_WARP = 32 * _PER_THREAD
_WARPS = 4  # at most
_LOAD = 16  # bytes, the widest of a thread
_SPLITS = 64  # pieces of a row, at most


def unavailable(device: torch.device) -> str | None:
    """Why these kernels cannot serve this device, in words; None where they can."""
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
    """A launch of a kernel."""

    kernel: Any  # of `gpu_kernels`
    programs: int
    arguments: dict[str, Any]  # with what is known when it is compiled, and `num_warps`


def forward(
    logits: Tensor,  # (N, C)
    request: Request,
) -> Parts:
    """The statistics, by one read of the logits of the rows that count: N·C·itemsize bytes.

    Where a row holds NaN, `argmax` is the index of its first NaN.
    """
    if logits.shape[0] == 0:
        return reference.forward(logits, request)
    parts, launches = plan_forward(logits, request)
    run(launches, logits)
    return parts


def backward(
    logits: Tensor,  # (N, C)
    request: Request,
    stats: Parts,
    grads: Parts,
    out: Tensor | None = None,
    *,
    shift_free: bool = False,
) -> Tensor:
    """The gradient of the logits, by one read of them and one write: 2·N·C·itemsize bytes."""
    if out is None:
        out = torch.empty_like(logits)
    if logits.shape[0] > 0:
        run([plan_backward(logits, request, stats, grads, out, shift_free=shift_free)], logits)
    return out


def plan_forward(
    logits: Tensor,  # (N, C)
    request: Request,
    num_blocks: int | None = None,
) -> tuple[Parts, list[Launch]]:
    """The statistics, not written yet, and the launches that write them.

    Args:
        logits: of at least one row.
        request: what is wanted.
        num_blocks: of columns for each program; None for as many as keep the device busy. Rows of more blocks
            are split among programs, and a second kernel merges their pieces.
    """
    from labelsmooth.backends import gpu_kernels

    rows, columns = logits.shape
    tile = _tile(logits, request.prior)
    blocks = tile.blocks(columns)
    if num_blocks is None:
        # few long rows are split, so that eight programs for each multiprocessor hide the wait for memory
        programs = 8 * _multi_processors(logits)
        num_blocks = _ceil(blocks, max(1, min(blocks // 4, programs // _ceil(rows, tile.rows))))
    num_blocks = max(num_blocks, _ceil(blocks, _SPLITS))
    splits = _ceil(blocks, num_blocks)
    acc = torch.float64 if logits.dtype == torch.float64 else torch.float32
    inputs = _inputs(logits, request)
    index = inputs["index"]

    def floats(*shape: int) -> Tensor:
        return logits.new_empty(shape, dtype=acc)

    at_index = seen = prior_mass = None
    if request.index is not None:
        at_index = floats(*request.index.shape)
        if columns != request.num_classes:
            seen = torch.empty_like(at_index, dtype=torch.bool)
    mass_by_row = request.finite_support or request.prior_row is not None
    if request.prior is not None:
        if mass_by_row:
            prior_mass = floats(rows)
        elif isinstance(request.prior, Tensor):
            prior_mass = request.prior.to(acc).sum()
        else:
            prior_mass = logits.new_full((), columns / request.num_classes, dtype=acc)
    parts = Parts(
        max=floats(rows),
        argmax=logits.new_empty(rows, dtype=torch.int64),
        log_sum=floats(rows),
        at_index=at_index,
        seen=seen,
        at_prior=None if request.prior is None else floats(rows),
        prior_mass=prior_mass,
        log_sum_sq=floats(rows) if request.log_sum_sq else None,
        mean_logit=floats(rows) if request.mean_logit else None,
    )
    outputs = {f"{name}_out": part for name, part in parts._asdict().items()}
    if not mass_by_row:
        outputs["prior_mass_out"] = None
    if index is None:
        outputs["at_index_out"] = outputs["seen_out"] = None

    settings = {**inputs, "J_BLOCK": 1 if index is None else _power_of_2(index.shape[1])}
    passing = {
        **settings,
        **_prior(request),
        "splits": splits,
        "num_blocks": num_blocks,
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        "REPEATS": tile.repeats,
        "VECTOR": tile.vector,
        "RAGGED": tile.ragged,
        # loads of single logits keep enough on the way without the next blocks', whose masks would spill
        "STAGES": 3 if blocks > 1 and tile.vector > 1 else 1,
        "num_warps": tile.warps,
    }
    programs = _ceil(rows, tile.rows) * splits
    if splits == 1:
        return parts, [Launch(gpu_kernels.forward, programs, {**passing, **outputs, "PARTIAL": False})]
    pieces: dict[str, Tensor | None] = {
        "max": floats(splits, rows),
        "argmax": logits.new_empty((splits, rows), dtype=torch.int64),
        "log_sum": floats(splits, rows),
        "at_prior": None if request.prior is None else floats(splits, rows),
        "prior_mass": None if request.prior is None else floats(splits, rows),
        "log_sum_sq": floats(splits, rows) if request.log_sum_sq else None,
        "mean_logit": floats(splits, rows) if request.mean_logit else None,
    }
    partial = {
        **passing,
        **{f"{name}_out": piece for name, piece in pieces.items()},
        "index": None,
        "at_index_out": None,
        "seen_out": None,
        "PARTIAL": True,
    }
    merging = {
        **settings,
        **{f"{name}_in": piece for name, piece in pieces.items()},
        **outputs,
        "splits": splits,
        "SPLITS": _SPLITS,
        "num_warps": 1,
    }
    return parts, [
        Launch(gpu_kernels.forward, programs, partial),
        Launch(gpu_kernels.merge, rows, merging),
    ]


def plan_backward(
    logits: Tensor,  # (N, C)
    request: Request,
    stats: Parts,
    grads: Parts,
    out: Tensor,  # (N, C), may be logits
    *,
    shift_free: bool = False,
) -> Launch:
    """The launch that writes the gradient of at least one row of logits to `out`."""
    from labelsmooth.backends import gpu_kernels

    rows, columns = logits.shape
    assert stats.max is not None
    tile = _tile(logits, request.prior)
    blocks = tile.blocks(columns)
    upstream: dict[str, Any] = {}
    for name in ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit"):
        grad = getattr(grads, name)
        if grad is not None and grad.numel() == 0:
            grad = None
        upstream[f"grad_{name}"] = grad
        upstream[f"grad_{name}_stride"] = 0 if grad is None else grad.stride(0)
        if name == "at_index":
            upstream["grad_at_index_j_stride"] = 0 if grad is None else grad.stride(1)
    mass = stats.prior_mass
    arguments = {
        **_inputs(logits, request),
        **_prior(request),
        **upstream,
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


def run(launches: list[Launch], logits: Tensor) -> None:
    # Triton launches on the current device
    device = torch.cuda.device(logits.device) if logits.is_cuda else nullcontext()
    with device:
        for launch in launches:
            launch.kernel[(launch.programs,)](**launch.arguments)


def _inputs(
    logits: Tensor,  # (N, C)
    request: Request,
) -> dict[str, Any]:
    """What all kernels are told of a call."""
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


def _prior(request: Request) -> dict[str, Any]:
    """What the kernels are told of the prior beside its kind."""
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
        """How many hold a row, wherever it begins."""
        return _ceil(columns + (self.vector - 1 if self.ragged else 0), self.block)


def _tile(logits: Tensor, prior: Tensor | str | None) -> _Tile:  # (N, C)
    """The logits that a program holds at a time, and how its threads share them.

    A thread holds 16 logits, in loads of 16 bytes; four warps hold 2048. Eight such programs fit a
    multiprocessor by their registers. With two blocks each on the way these are 64 KiB of bfloat16 in flight,
    and 4.8 TB/s over 132 multiprocessors at a latency of 0.7 µs take 25 KiB. Short rows share a warp, 8
    logits to a thread, as each has an address of its own.

    Loads are as wide as the alignment of all rows allows, but long rows that do not all begin and end at
    multiples of 16 bytes are ragged. Beside a table for a prior they are not: it lies otherwise than they do,
    and both are read best by neighbouring threads one by one.
    """
    columns = logits.shape[1]
    block = min(_power_of_2(columns), _WARPS * _PER_WARP)
    rows = max(1, _PER_WARP // 2 // block)
    widest, vector = _vector(logits), _vector(logits, _start(logits), logits.stride(0), columns)
    ragged = vector < widest and rows == 1 and not isinstance(prior, Tensor)
    if ragged:
        vector = widest
        block = min(_power_of_2(columns + widest - 1), _WARPS * _PER_WARP)
    return _Tile(rows, block, min(block, _PER_THREAD) // vector, vector, ragged, max(1, block // _PER_WARP))


def _start(table: Tensor) -> int:
    """The address, in elements."""
    return table.data_ptr() // table.element_size()


def _vector(table: Tensor, *distances: int) -> int:
    """The most neighbouring elements that a load takes at once, of which all distances are multiples."""
    return gcd(_LOAD // table.element_size(), *distances) if table.stride(-1) == 1 else 1


def _multi_processors(logits: Tensor) -> int:
    if not logits.is_cuda:  # Triton's interpreter
        return 1
    return torch.cuda.get_device_properties(logits.device).multi_processor_count


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _power_of_2(value: int) -> int:
    """The least power of 2 that is not less."""
    return 1 << (value - 1).bit_length()


BACKEND = Backend(forward=forward, backward=backward, unavailable=unavailable, kernels="Triton kernels")
