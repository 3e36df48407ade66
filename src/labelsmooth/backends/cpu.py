"""The CPU backend: the C++ kernels of csrc/, called through ctypes."""

from __future__ import annotations

import ctypes
import functools
import struct
from importlib import resources

import torch
from torch import Tensor

from labelsmooth.backends.contract import Parts, Request

INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512", "AVX-512 with bfloat16")
BEST = -1  # the best instruction set that the processor has

_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
_CALL = struct.Struct("=47q")  # `Call` of csrc/row_stats.h
_HUGE = 1 << 22  # bytes from which on fresh memory is asked for in huge pages


def forward(logits: Tensor, request: Request, isa: int = BEST) -> Parts:  # (N, C)
    rows, columns = logits.shape
    wide = _wide(logits)
    room = functools.partial(torch.empty, dtype=wide)
    logits, prior, question = _ask(logits, request, isa)

    at_index = seen = at_prior = prior_mass = own_mass = None
    if request.index is not None:
        at_index = room(request.index.shape)
        if columns < request.num_classes:
            seen = torch.empty(request.index.shape, dtype=torch.bool)
    if request.prior is not None:
        at_prior = room(rows)
        if request.finite_support or request.prior_row is not None:
            prior_mass = own_mass = room(rows)
        elif prior is not None:
            prior_mass = prior.sum()
        else:
            prior_mass = torch.full((), columns / request.num_classes, dtype=wide)
    parts = Parts(
        max=room(rows),
        argmax=torch.empty(rows, dtype=torch.int64),
        log_sum=room(rows),
        at_index=at_index,
        seen=seen,
        at_prior=at_prior,
        prior_mass=prior_mass,
        log_sum_sq=room(rows) if request.log_sum_sq else None,
        mean_logit=room(rows) if request.mean_logit else None,
    )
    assert _kernels is not None
    bad = _kernels.labelsmooth_forward(
        _CALL.pack(*question, *_answers(parts._replace(prior_mass=own_mass)), *(0,) * 16)
    )
    if bad >= 0:
        assert request.index is not None
        raise ValueError(
            f"index must lie in 0..{request.num_classes - 1}, got {int(request.index.flatten()[bad])}"
        )
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
    assert _kernels is not None
    logits, _, question = _ask(logits, request, isa)
    wide = _wide(logits)
    grads = Parts._make(None if g is None else g.to(wide) for g in grads)
    gradient = torch.empty(logits.shape, dtype=logits.dtype) if out is None else out
    if gradient.stride(1) != 1:
        gradient = torch.empty_like(logits)
    size = gradient.numel() * gradient.element_size()
    if out is None and size >= _HUGE:
        _kernels.labelsmooth_advise(gradient.data_ptr(), size)
    _kernels.labelsmooth_backward(
        _CALL.pack(
            *question,
            *_answers(stats),
            *_strided(grads.max),
            *_strided(grads.log_sum),
            *((0, 0, 0) if grads.at_index is None else (grads.at_index.data_ptr(), *grads.at_index.stride())),
            *_strided(grads.at_prior),
            *_strided(grads.log_sum_sq),
            *_strided(grads.mean_logit),
            shift_free,
            gradient.data_ptr(),
            gradient.stride(0),
        )
    )
    return gradient if out is None or gradient is out else out.copy_(gradient)


def _ask(logits: Tensor, request: Request, isa: int) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """The first fields of `Call`, and the tensors behind them, to be kept alive."""
    rows, columns = logits.shape
    if logits.stride(1) != 1:
        logits = logits.contiguous()
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
        rows,
        columns,
        *_strided(logits),
        *((0, 0, 0, 0) if index is None else (index.data_ptr(), index.shape[1], *index.stride())),
        request.num_classes,
        request.first_class,
        0 if request.prior is None else 1 if prior is None else 2,
        *_strided(prior),
        *_strided(request.prior_row),
        request.finite_support,
        *_strided(request.counted),
    )
    return logits, prior, fields


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


def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """The kernels, or why there are none."""
    path = resources.files("labelsmooth").joinpath("lib", "labelsmooth_cpu.so")
    if not path.is_file():
        return None, "the package was installed where there was no C++ compiler"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"its library does not load: {error}"
    for name in ("labelsmooth_forward", "labelsmooth_backward"):
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.c_char_p,), ctypes.c_int64
    library.labelsmooth_isa.restype = ctypes.c_int64
    library.labelsmooth_advise.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    library.labelsmooth_advise.restype = None
    return library, None


_kernels, _missing = _load()
# The instruction set that the kernels use on this processor.
INSTRUCTION_SET = None if _kernels is None else INSTRUCTION_SETS[_kernels.labelsmooth_isa()]


def unavailable(device: torch.device) -> str | None:
    """Why these kernels cannot serve this device, in words; None where they can."""
    return _missing if device.type == "cpu" else f"it serves the CPU, not {device.type}"
