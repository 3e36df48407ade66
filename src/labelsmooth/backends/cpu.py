"""The CPU backend: the C++ kernels of csrc/, called through ctypes; it has every member of the contract.

For statistics of rows a call is one `Call` of csrc/row_stats.h, packed here from its input, statistics, slope
and output fields.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from labelsmooth.backends import cpu_library, cpu_sigmoid
from labelsmooth.backends.contract import Backend, Combination, Request, Statistics, statistics_dtype
from labelsmooth.backends.cpu_library import BEST, CALL, DTYPES, INSTRUCTION_SET, empty, in_huge_pages
from labelsmooth.errors import InputError

_OK = -1  # the status of a call without an index out of range

_NO_SLOPE = (0, 0, 0.0)
_NO_SLOPES = (*_NO_SLOPE * 3, 0, *_NO_SLOPE * 3)
_NO_STATS = (0,) * 10
_NO_GRADIENT = (0,) * 6


def forward(logits: Tensor, request: Request, isa: int = BEST) -> Statistics:  # (N, C)
    rows, columns = _num_rows(logits), logits.shape[-1]
    wide = statistics_dtype(logits)
    empty = functools.partial(torch.empty, dtype=wide, device="cpu")
    prior, inputs = _input_fields(logits, request, isa)

    at_index = seen = at_prior = prior_mass = mass_of_rows = None
    if request.index is not None:
        at_index = empty(request.index.shape)
        if columns < request.num_classes:
            seen = torch.empty(request.index.shape, dtype=torch.bool, device="cpu")
    if request.prior is not None:
        at_prior = empty(rows)
        if request.prior_mass_by_row:
            prior_mass = mass_of_rows = empty(rows)
        elif prior is not None:
            prior_mass = prior.sum()
        else:
            prior_mass = torch.full((), columns / request.num_classes, dtype=wide, device="cpu")
    stats = Statistics(
        max=empty(rows),
        argmax=torch.empty(rows, dtype=torch.int64, device="cpu"),
        log_sum=empty(rows),
        at_index=at_index,
        seen=seen,
        at_prior=at_prior,
        prior_mass=prior_mass,
        log_sum_sq=empty(rows) if request.log_sum_sq else None,
        mean_logit=empty(rows) if request.mean_logit else None,
    )
    stats_fields = _stats_fields(stats._replace(prior_mass=mass_of_rows))
    _run_forward(request, CALL.pack(*inputs, *stats_fields, *_NO_SLOPES, 0, 0, *_NO_GRADIENT))
    return stats


def backward(
    logits: Tensor,  # (N, C)
    request: Request,
    stats: Statistics,
    grads: Statistics,
    out: Tensor | None = None,
    *,
    shift_free: bool = False,
    isa: int = BEST,
) -> Tensor:
    _prior, inputs = _input_fields(logits, request, isa)
    wide = statistics_dtype(logits)
    grads = Statistics._make([g if g is None or g.dtype == wide else g.to(wide) for g in grads])
    slopes = (
        *_slope(grads.max),
        *_slope(grads.log_sum),
        *_slope(grads.at_index),
        0 if grads.at_index is None else grads.at_index.stride(1),
        *_slope(grads.at_prior),
        *_slope(grads.log_sum_sq),
        *_slope(grads.mean_logit),
    )
    return _run_backward(logits, request, inputs, _stats_fields(stats), slopes, out, shift_free)


def _combination_slopes(combination: Combination, upstream: Tensor | None) -> tuple[int | float, ...]:
    """Return the slope fields of `Call` for a combination, times the upstream gradient where there is one."""
    values, step = _strided(upstream)
    return (
        *_NO_SLOPE,
        *(values, step, combination.log_sum),
        *(values, step, combination.at_index, 0),
        *(values, step, combination.at_prior),
        *(_NO_SLOPE * 2),
    )


def combine(
    logits: Tensor,  # (N, C)
    request: Request,
    combination: Combination,
    *,
    total: bool,
) -> tuple[Tensor, Tensor]:
    """Compute the combination of each row (N,), or its sum over the rows that count (), and (2, N) max and ℓ.

    Equal to `forward` and arithmetic on its result, but in one call: in small batches the calls cost most.
    """
    _prior, inputs = _input_fields(logits, request, BEST)
    rows, wide = _num_rows(logits), statistics_dtype(logits)
    empty = functools.partial(torch.empty, dtype=wide, device="cpu")
    origins, combined = empty(2, rows), empty(rows)
    result = empty(()) if total else combined
    results = (combined.data_ptr(), result.data_ptr() if total else 0)
    slopes = _combination_slopes(combination, None)
    _run_forward(request, CALL.pack(*inputs, *_origin_fields(origins), *slopes, *results, *_NO_GRADIENT))
    return result, origins


def combine_backward(
    logits: Tensor,  # (N, C)
    request: Request,
    combination: Combination,
    origins: Tensor,  # (2, N)
    upstream: Tensor,  # (N,), or () for the sum
    out: Tensor | None,
) -> Tensor:
    """Compute the gradient of the logits from the upstream gradient of a combination."""
    _prior, inputs = _input_fields(logits, request, BEST)
    if upstream.dtype != origins.dtype:
        upstream = upstream.to(origins.dtype)
    slopes = _combination_slopes(combination, upstream)
    return _run_backward(logits, request, inputs, _origin_fields(origins), slopes, out, True)


def _origin_fields(origins: Tensor) -> tuple[int, ...]:
    """Return the statistics fields of `Call` where there are only max and log_sum."""
    first = origins.data_ptr()
    return (first, 0, first + origins.shape[1] * origins.element_size(), *_NO_STATS[3:])


def _run_forward(request: Request, call: bytes) -> None:
    assert cpu_library.KERNELS is not None
    status = cpu_library.KERNELS.labelsmooth_forward(call)
    if status != _OK:
        _raise_for(status, request)


def _raise_for(status: int, request: Request) -> None:
    """Raise `ValueError` where the status that a kernel returned is that of an index out of range."""
    if status >= 0 and request.index is not None:
        value = int(request.index.flatten()[status])
        raise InputError(f"class indices must lie in 0..{request.num_classes - 1}, got {value}")
    if status == -2 and isinstance(request.prior, Tensor):
        raise InputError(f"prior_row must lie in 0..{len(request.prior) - 1}, got one that does not")


def _run_backward(
    logits: Tensor,
    request: Request,
    inputs: tuple[int, ...],
    stats_fields: tuple[int, ...],
    slopes: tuple[int | float, ...],
    out: Tensor | None,
    shift_free: bool,
) -> Tensor:
    assert cpu_library.KERNELS is not None
    gradient = in_huge_pages(torch.empty_like(logits)) if out is None else out
    call = CALL.pack(*inputs, *stats_fields, *slopes, 0, 0, shift_free, *_rows_fields(gradient))
    status = cpu_library.KERNELS.labelsmooth_backward(call)
    if status != _OK:
        _raise_for(status, request)
    return gradient


def _slope(grad: Tensor | None) -> tuple[int, int, float]:
    """Return the fields of `Slope` of csrc/row_stats.h."""
    return _NO_SLOPE if grad is None else (*_strided(grad), 1.0)


def _input_fields(logits: Tensor, request: Request, isa: int) -> tuple[Tensor | None, tuple[int, ...]]:
    """Return the prior as the kernels take it, to outlive the call, and the input fields of `Call`."""
    for tensor in request.tensors():
        if not tensor.is_cpu:  # its address would mean nothing here
            raise InputError(f"targets must be where the logits are, on the CPU, got one on {tensor.device}")
    prior = None
    if isinstance(request.prior, Tensor):
        prior = request.prior.to(statistics_dtype(logits))
        if prior.stride(-1) != 1:
            prior = prior.contiguous()
    index = request.index
    fields = (
        isa,
        torch.get_num_threads(),
        DTYPES[logits.dtype],
        _num_rows(logits),
        logits.shape[-1],
        *_rows_fields(logits),
        *((0, 0, 0, 0) if index is None else (index.data_ptr(), index.shape[1], *index.stride())),
        request.num_classes,
        request.first_class,
        0 if request.prior is None else 1 if prior is None else 2,
        *_strided(prior),
        *_strided(request.prior_row),
        0 if prior is None else prior.shape[0],
        request.finite_support,
        *_strided(request.counted),
    )
    return prior, fields


def _rows_fields(logits: Tensor) -> tuple[int, int, int, int, int]:
    """Return the fields of `Rows` of csrc/row_stats.h."""
    inner = max(1, logits.shape[-2])  # the kernels divide by it
    outer_stride = logits.stride(0) if logits.dim() == 3 else 0
    return logits.data_ptr(), inner, outer_stride, logits.stride(-2), logits.stride(-1)


def _num_rows(logits: Tensor) -> int:
    return logits.shape[0] if logits.dim() == 2 else logits.shape[0] * logits.shape[1]


def _stats_fields(stats: Statistics) -> tuple[int, ...]:
    """Return the statistics fields of `Call`."""
    return (
        _address(stats.max),
        _address(stats.argmax),
        _address(stats.log_sum),
        _address(stats.at_index),
        _address(stats.seen),
        _address(stats.at_prior),
        *_strided(stats.prior_mass),
        _address(stats.log_sum_sq),
        _address(stats.mean_logit),
    )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _strided(tensor: Tensor | None) -> tuple[int, int]:
    """Return the address, and the stride of the first dimension."""
    if tensor is None:
        return 0, 0
    return tensor.data_ptr(), tensor.stride(0) if tensor.dim() else 0


def unavailable(device: torch.device) -> str | None:
    """Return in words why these kernels cannot serve a device, or None."""
    return cpu_library.MISSING if device.type == "cpu" else f"it serves the CPU, not {device.type}"


BACKEND = Backend(
    forward=forward,
    backward=backward,
    unavailable=unavailable,
    kernels=f"C++ kernels, {INSTRUCTION_SET}",
    combine=combine,
    combine_backward=combine_backward,
    empty=empty,
    three_dimensional=True,
    sigmoid_losses=cpu_sigmoid.losses,
    sigmoid_gradient=cpu_sigmoid.gradient,
)
