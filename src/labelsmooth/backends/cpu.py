"""The CPU backend: the C++ kernels of csrc/, called through ctypes.

It has every optional member of the contract.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable

import torch
from torch import Tensor

from labelsmooth.backends.contract import Backend, Combination, Parts, Request
from labelsmooth.errors import InputError

INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512", "AVX-512 with bfloat16")
BEST = -1  # the best instruction set that the processor has

_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
_SLOPES = "qqd" * 3 + "q" + "qqd" * 3
_CALL = struct.Struct("=35q" + _SLOPES + "8q")  # `Call` of csrc/row_stats.h
_LAYOUT = (  # the names of the fields of `Slope`, `Rows` and `Call`
    "values stride scale "
    "data inner outer_stride stride step "
    "isa threads dtype rows columns logits index picks index_stride index_step num_classes first_class "
    "prior_kind prior prior_stride prior_row prior_row_stride prior_rows finite_support "
    "counted counted_stride "
    "max argmax log_sum at_index seen at_prior prior_mass prior_mass_stride log_sum_sq mean_logit "
    "of_max of_log_sum of_index of_index_step of_prior of_log_sum_sq of_mean_logit combined total "
    "shift_free out "
)
_NO_SLOPE = (0, 0, 0.0)
_NO_SLOPES = (*_NO_SLOPE * 3, 0, *_NO_SLOPE * 3)
_NO_STATS = (0,) * 10
_NOWHERE = (0,) * 6
_HUGE = 1 << 22  # bytes from which on fresh memory is asked for in huge pages


def forward(logits: Tensor, request: Request, isa: int = BEST) -> Parts:  # (N, C)
    rows, columns = _num_rows(logits), logits.shape[-1]
    wide = _wide(logits)
    room = functools.partial(torch.empty, dtype=wide, device="cpu")
    prior, question = _ask(logits, request, isa)

    at_index = seen = at_prior = prior_mass = own_mass = None
    if request.index is not None:
        at_index = room(request.index.shape)
        if columns < request.num_classes:
            seen = torch.empty(request.index.shape, dtype=torch.bool, device="cpu")
    if request.prior is not None:
        at_prior = room(rows)
        if request.finite_support or request.prior_row is not None:
            prior_mass = own_mass = room(rows)
        elif prior is not None:
            prior_mass = prior.sum()
        else:
            prior_mass = torch.full((), columns / request.num_classes, dtype=wide, device="cpu")
    parts = Parts(
        max=room(rows),
        argmax=torch.empty(rows, dtype=torch.int64, device="cpu"),
        log_sum=room(rows),
        at_index=at_index,
        seen=seen,
        at_prior=at_prior,
        prior_mass=prior_mass,
        log_sum_sq=room(rows) if request.log_sum_sq else None,
        mean_logit=room(rows) if request.mean_logit else None,
    )
    answers = _answers(parts._replace(prior_mass=own_mass))
    _run_forward(request, _CALL.pack(*question, *answers, *_NO_SLOPES, 0, 0, *_NOWHERE))
    return parts


def backward(
    logits: Tensor,  # (N, C)
    request: Request,
    stats: Parts,
    grads: Parts,
    out: Tensor | None = None,
    *,
    shift_free: bool = False,
    isa: int = BEST,
) -> Tensor:
    _kept, question = _ask(logits, request, isa)
    wide = _wide(logits)
    grads = Parts._make([g if g is None or g.dtype == wide else g.to(wide) for g in grads])
    slopes = (
        *_slope(grads.max),
        *_slope(grads.log_sum),
        *_slope(grads.at_index),
        0 if grads.at_index is None else grads.at_index.stride(1),
        *_slope(grads.at_prior),
        *_slope(grads.log_sum_sq),
        *_slope(grads.mean_logit),
    )
    return _run_backward(logits, request, question, _answers(stats), slopes, out, shift_free)


def _combination_slopes(combination: Combination, upstream: Tensor | None) -> tuple[int | float, ...]:
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
    """The combination in each row (N,), or its sum over the rows that count (), and max and log_sum (2, N).

    What `forward` and arithmetic on its answer give, in one call: in small batches calls are what costs.
    """
    _kept, question = _ask(logits, request, BEST)
    rows, wide = _num_rows(logits), _wide(logits)
    room = functools.partial(torch.empty, dtype=wide, device="cpu")
    origins, combined = room(2, rows), room(rows)
    result = room(()) if total else combined
    places = (combined.data_ptr(), result.data_ptr() if total else 0)
    slopes = _combination_slopes(combination, None)
    _run_forward(request, _CALL.pack(*question, *_origins(origins), *slopes, *places, *_NOWHERE))
    return result, origins


def combine_backward(
    logits: Tensor,  # (N, C)
    request: Request,
    combination: Combination,
    origins: Tensor,  # (2, N)
    upstream: Tensor,  # (N,), or () for the sum
    out: Tensor | None,
) -> Tensor:
    """The gradient of the logits, as `backward` gives it."""
    _kept, question = _ask(logits, request, BEST)
    if upstream.dtype != origins.dtype:
        upstream = upstream.to(origins.dtype)
    slopes = _combination_slopes(combination, upstream)
    return _run_backward(logits, request, question, _origins(origins), slopes, out, True)


def _origins(origins: Tensor) -> tuple[int, ...]:
    """`_answers` with nothing but max and log_sum."""
    first = origins.data_ptr()
    return (first, 0, first + origins.shape[1] * origins.element_size(), *_NO_STATS[3:])


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocate in huge pages where the system grants them: small ones fault every 4 KiB."""
    return _in_huge_pages(like.new_empty(shape, dtype=dtype))


def _in_huge_pages(tensor: Tensor) -> Tensor:
    size = tensor.numel() * tensor.element_size()
    if size >= _HUGE and _kernels is not None:
        _kernels.labelsmooth_advise(tensor.data_ptr(), size)
    return tensor


def _run_forward(request: Request, call: bytes) -> None:
    assert _kernels is not None
    _refuse(_kernels.labelsmooth_forward(call), request)


def _refuse(place: int, request: Request) -> None:
    """Raise `ValueError` for what a kernel would not take."""
    if place >= 0 and request.index is not None:
        value = int(request.index.flatten()[place])
        raise InputError(f"class indices must lie in 0..{request.num_classes - 1}, got {value}")
    if place == -2 and isinstance(request.prior, Tensor):
        raise InputError(f"prior_row must lie in 0..{len(request.prior) - 1}, got one that does not")


def _run_backward(
    logits: Tensor,
    request: Request,
    question: tuple[int, ...],
    answers: tuple[int, ...],
    slopes: tuple[int | float, ...],
    out: Tensor | None,
    shift_free: bool,
) -> Tensor:
    assert _kernels is not None
    gradient = _in_huge_pages(torch.empty_like(logits)) if out is None else out
    place = _place(gradient)
    _refuse(
        _kernels.labelsmooth_backward(_CALL.pack(*question, *answers, *slopes, 0, 0, shift_free, *place)),
        request,
    )
    return gradient


def _slope(grad: Tensor | None) -> tuple[int, int, float]:
    return _NO_SLOPE if grad is None else (*_strided(grad), 1.0)


def _ask(logits: Tensor, request: Request, isa: int) -> tuple[Tensor | None, tuple[int, ...]]:
    """The prior as the kernels take it, to be kept alive, and the first fields of `Call`."""
    for tensor in request.tensors():
        if not tensor.is_cpu:  # its address would mean nothing here
            raise InputError(f"targets must be where the logits are, on the CPU, got one on {tensor.device}")
    prior = None
    if isinstance(request.prior, Tensor):
        prior = request.prior.to(_wide(logits))
        if prior.stride(-1) != 1:
            prior = prior.contiguous()
    index = request.index
    fields = (
        isa,
        torch.get_num_threads(),
        _DTYPES[logits.dtype],
        _num_rows(logits),
        logits.shape[-1],
        *_place(logits),
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


def _place(logits: Tensor) -> tuple[int, int, int, int, int]:
    """`Rows` of csrc/row_stats.h."""
    inner = max(1, logits.shape[-2])  # the kernels divide by it
    outer_stride = logits.stride(0) if logits.dim() == 3 else 0
    return logits.data_ptr(), inner, outer_stride, logits.stride(-2), logits.stride(-1)


def _num_rows(logits: Tensor) -> int:
    return logits.shape[0] if logits.dim() == 2 else logits.shape[0] * logits.shape[1]


def _answers(stats: Parts) -> tuple[int, ...]:
    """The middle fields of `Call`."""
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
    """The address, and the stride of the first dimension."""
    if tensor is None:
        return 0, 0
    return tensor.data_ptr(), tensor.stride(0) if tensor.dim() else 0


def _wide(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _load(path: Traversable) -> tuple[ctypes.CDLL | None, str | None]:
    """The kernels, or why there are none."""
    if not path.is_file():
        return None, "the package was installed where there was no C++ compiler"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"its library does not load: {error}"
    if not _has_layout(library):
        return None, "its library was built from other sources; install the package again"
    for name in ("labelsmooth_forward", "labelsmooth_backward"):
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.c_char_p,), ctypes.c_int64
    library.labelsmooth_isa.restype = ctypes.c_int64
    library.labelsmooth_advise.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    library.labelsmooth_advise.restype = None
    return library, None


def _has_layout(library: ctypes.CDLL) -> bool:
    """Whether the fields that the library reads are those packed here, in their order."""
    if not hasattr(library, "labelsmooth_layout"):
        return False
    library.labelsmooth_layout.restype = ctypes.c_char_p
    library.labelsmooth_call_size.restype = ctypes.c_int64
    size, layout = library.labelsmooth_call_size(), library.labelsmooth_layout()
    return bool(size == _CALL.size and layout.decode() == _LAYOUT)


_kernels, _missing = _load(resources.files("labelsmooth").joinpath("lib", "labelsmooth_cpu.so"))
# The instruction set that the kernels use on this processor.
INSTRUCTION_SET = None if _kernels is None else INSTRUCTION_SETS[_kernels.labelsmooth_isa()]


def unavailable(device: torch.device) -> str | None:
    """Why these kernels cannot serve this device, in words; None where they can."""
    return _missing if device.type == "cpu" else f"it serves the CPU, not {device.type}"


BACKEND = Backend(
    forward=forward,
    backward=backward,
    unavailable=unavailable,
    kernels=f"C++ kernels, {INSTRUCTION_SET}",
    combine=combine,
    combine_backward=combine_backward,
    empty=empty,
    three_dimensional=True,
)
