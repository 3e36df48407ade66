"""The library of the CPU's kernels: loaded with ctypes, its records laid out as its sources say."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable

import torch
from torch import Tensor

INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512", "AVX-512 with bfloat16")
BEST = -1  # the best instruction set that the processor has
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}

_SLOPES = "qqd" * 3 + "q" + "qqd" * 3
CALL = struct.Struct("=35q" + _SLOPES + "8q")  # `Call` of csrc/row_stats.h
SIGMOIDS = struct.Struct("=12q")  # `Sigmoids` of csrc/sigmoid.h
_LAYOUT = (  # the names of the fields of `Slope`, `Rows`, `Call` and `Sigmoids`
    "values stride scale "
    "data inner outer_stride stride step "
    "isa threads dtype rows columns logits index picks index_stride index_step num_classes first_class "
    "prior_kind prior prior_stride prior_row prior_row_stride prior_rows finite_support "
    "counted counted_stride "
    "max argmax log_sum at_index seen at_prior prior_mass prior_mass_stride log_sum_sq mean_logit "
    "of_max of_log_sum of_index of_index_step of_prior of_log_sum_sq of_mean_logit combined total "
    "shift_free out "
    "isa threads dtype count logits labels pos_weight losses total upstream upstream_stride gradient "
)
_HUGE = 1 << 22  # bytes from which on new memory is wanted in huge pages


def load(path: Traversable) -> tuple[ctypes.CDLL | None, str | None]:
    """Return the kernels, or in words why there are none."""
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
    library.labelsmooth_sigmoids.argtypes, library.labelsmooth_sigmoids.restype = (ctypes.c_char_p,), None
    library.labelsmooth_isa.restype = ctypes.c_int64
    library.labelsmooth_advise.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    library.labelsmooth_advise.restype = None
    return library, None


def _has_layout(library: ctypes.CDLL) -> bool:
    """Return True where the library reads the fields that are packed here, in their order."""
    if not hasattr(library, "labelsmooth_layout"):
        return False
    library.labelsmooth_layout.restype = ctypes.c_char_p
    library.labelsmooth_call_size.restype = ctypes.c_int64
    size, layout = library.labelsmooth_call_size(), library.labelsmooth_layout()
    return bool(size == CALL.size and layout.decode() == _LAYOUT)


KERNELS, MISSING = load(resources.files("labelsmooth").joinpath("lib", "labelsmooth_cpu.so"))
# The instruction set that the kernels use on this processor.
INSTRUCTION_SET = None if KERNELS is None else INSTRUCTION_SETS[KERNELS.labelsmooth_isa()]


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocate in huge pages where the system grants them, as small ones fault every 4 KiB."""
    return in_huge_pages(like.new_empty(shape, dtype=dtype))


def in_huge_pages(tensor: Tensor) -> Tensor:
    """Ask the system for huge pages under a large new tensor, and return it."""
    size = tensor.numel() * tensor.element_size()
    if size >= _HUGE and KERNELS is not None:
        KERNELS.labelsmooth_advise(tensor.data_ptr(), size)
    return tensor
