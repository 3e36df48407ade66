"""The GPU backend: kernels in Triton that read each logit once forward, and read and write once backward.

`contract` says what the two functions take and give. Triton is imported by the first call.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelsmooth.backends import reference
from labelsmooth.backends.contract import Parts, Request

_PER_THREAD = 16  # logits
_PER_WARP = 32 * _PER_THREAD
_WARPS = 4  # at most


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


def forward(
    logits: Tensor,  # (N, C)
    request: Request,
) -> Parts:
    """The statistics, by one read of the logits of the rows that count: N·C·itemsize bytes.

    Where a row holds NaN, `argmax` is the index of its first NaN.
    """
    rows, columns = logits.shape
    tile = _tile(logits)
    blocks = _ceil(columns, tile.block)
    # few long rows are split, so that eight programs for each multiprocessor hide the wait for memory
    programs = 8 * _device(logits).multi_processors
    splits = min(blocks // 4, programs // max(1, _ceil(rows, tile.rows)))
    return _forward(logits, request, _ceil(blocks, max(1, splits)))


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
    from labelsmooth.backends import gpu_kernels

    rows, columns = logits.shape
    if out is None:
        out = torch.empty_like(logits)
    if rows == 0:
        return out
    assert stats.max is not None
    tile = _tile(logits)
    inputs = _inputs(logits, request)
    upstream: dict[str, Any] = {}
    for name in ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit"):
        grad = getattr(grads, name)
        if grad is not None and grad.numel() == 0:
            grad = None
        upstream[f"grad_{name}"] = grad
        upstream[f"grad_{name}_stride"] = 0 if grad is None else grad.stride(0)
        if name == "at_index":
            upstream["grad_at_index_column_stride"] = 0 if grad is None else grad.stride(1)
    mass = stats.prior_mass
    with _on(logits):
        gpu_kernels.backward[(_ceil(rows, tile.rows) * _ceil(columns, tile.block),)](
            out=out,
            max_in=stats.max,
            argmax_in=stats.argmax,
            log_sum_in=stats.log_sum,
            prior_mass_in=mass,
            log_sum_sq_in=stats.log_sum_sq,
            mean_logit_in=stats.mean_logit,
            **inputs,
            **upstream,
            out_stride=out.stride(0),
            out_column_stride=out.stride(1),
            prior_mass_stride=mass.stride(0) if mass is not None and mass.dim() else 0,
            ROWS=tile.rows,
            BLOCK=tile.block,
            SHIFT_FREE=shift_free,
            EVICT="" if _fits_in_cache(logits) else "evict_first",
            num_warps=tile.warps,
        )
    return out


def _forward(
    logits: Tensor,  # (N, C)
    request: Request,
    num_blocks: int,  # of columns, for each program
) -> Parts:
    from labelsmooth.backends import gpu_kernels

    rows, columns = logits.shape
    if rows == 0:
        return reference.forward(logits, request)
    tile = _tile(logits)
    splits = _ceil(_ceil(columns, tile.block), num_blocks)
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

    whole = {name: inputs.pop(name) for name in ("prior", "prior_row", "prior_stride", "prior_column_stride")}
    settings = {
        **inputs,
        "J_BLOCK": 1 if index is None else _power_of_2(index.shape[1]),
    }
    launch = {
        **whole,
        "num_blocks": num_blocks,
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        "REPEATS": tile.repeats,
        "VECTOR": tile.vector,
        "STAGES": 3 if columns > tile.block else 1,
        "EVICT": "evict_last" if _fits_in_cache(logits) else "evict_first",
        "num_warps": tile.warps,
    }
    grid = (_ceil(rows, tile.rows) * splits,)
    with _on(logits):
        if splits == 1:
            gpu_kernels.forward[grid](**settings, **launch, **outputs, PARTIAL=False)
            return parts
        pieces: dict[str, Tensor | None] = {
            "max": floats(splits, rows),
            "argmax": logits.new_empty((splits, rows), dtype=torch.int64),
            "log_sum": floats(splits, rows),
            "at_prior": None if request.prior is None else floats(splits, rows),
            "prior_mass": None if request.prior is None else floats(splits, rows),
            "log_sum_sq": floats(splits, rows) if request.log_sum_sq else None,
            "mean_logit": floats(splits, rows) if request.mean_logit else None,
        }
        gpu_kernels.forward[grid](
            **(settings | {"index": None}),
            **launch,
            **{f"{name}_out": piece for name, piece in pieces.items()},
            at_index_out=None,
            seen_out=None,
            PARTIAL=True,
        )
        gpu_kernels.merge[(rows,)](
            **settings,
            **{f"{name}_in": piece for name, piece in pieces.items()},
            **outputs,
            splits=splits,
            SPLITS=_power_of_2(splits),
            num_warps=1,
        )
    return parts


def _inputs(
    logits: Tensor,  # (N, C)
    request: Request,
) -> dict[str, Any]:
    """What all kernels are told of a call."""
    import triton.language as tl

    index, prior = request.index, request.prior
    if index is not None and index.shape[1] == 0:
        index = None
    table = prior if isinstance(prior, Tensor) else None
    return {
        "logits": logits,
        "index": None if index is None else index.contiguous(),
        "counted": None if request.counted is None else request.counted.contiguous(),
        "prior": table,
        "prior_row": None if request.prior_row is None else request.prior_row.contiguous(),
        "row_stride": logits.stride(0),
        "column_stride": logits.stride(1),
        "prior_stride": 0 if table is None else table.stride(0),
        "prior_column_stride": 0 if table is None else table.stride(-1),
        "num_rows": logits.shape[0],
        "num_columns": logits.shape[1],
        "num_classes": request.num_classes,
        "first_class": request.first_class,
        "UNIFORM": prior == "uniform" if isinstance(prior, str) else False,
        "FINITE": request.finite_support,
        "J": 0 if index is None else index.shape[1],
        "ACC": tl.float64 if logits.dtype == torch.float64 else tl.float32,
    }


class _Tile(NamedTuple):
    rows: int
    block: int  # columns, repeats × lanes × vector
    repeats: int  # vectors of a thread in a block
    vector: int  # neighbouring columns that a thread loads at once
    warps: int


def _tile(logits: Tensor) -> _Tile:  # (N, C)
    """The logits that a program holds at a time, and how its threads share them.

    A thread holds 16 logits, in loads of 16 bytes where rows are aligned; four warps hold 2048. Eight such
    programs fit a multiprocessor by their registers. With two blocks each on the way these are 64 KiB of
    bfloat16 in flight, and 4.8 TB/s over 132 multiprocessors at a latency of 0.7 µs take 25 KiB. Short rows
    share a warp, 8 logits to a thread, as each has an address of its own.
    """
    columns, itemsize = logits.shape[1], logits.element_size()
    block = min(_power_of_2(columns), _WARPS * _PER_WARP)
    rows = max(1, _PER_WARP // 2 // block)
    aligned = logits.stride(1) == 1 and logits.stride(0) % 16 == 0 and columns % 16 == 0
    vector = min(block, 16 // itemsize) if aligned else 1
    return _Tile(rows, block, min(block, _PER_THREAD) // vector, vector, max(1, block // _PER_WARP))


class _Device(NamedTuple):
    multi_processors: int
    cache: int  # bytes of L2


def _device(logits: Tensor) -> _Device:
    if not logits.is_cuda:  # Triton's interpreter
        return _Device(1, 0)
    properties = torch.cuda.get_device_properties(logits.device)
    return _Device(properties.multi_processor_count, properties.L2_cache_size)


def _fits_in_cache(logits: Tensor) -> bool:
    """Whether the logits may still be in the cache, beside as much else, when the backward reads them."""
    return 2 * logits.numel() * logits.element_size() <= _device(logits).cache


def _on(logits: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return torch.cuda.device(logits.device) if logits.is_cuda else nullcontext()


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _power_of_2(value: int) -> int:
    """The least power of 2 that is not less."""
    return 1 << (value - 1).bit_length()
