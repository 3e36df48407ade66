"""The CPU's kernels of sigmoids: a call is one `Sigmoids` of csrc/sigmoid.h."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.backends import cpu_library
from labelsmooth.backends.contract import statistics_dtype
from labelsmooth.backends.cpu_library import BEST, DTYPES, SIGMOIDS, in_huge_pages


def losses(
    logits: Tensor, labels: Tensor, pos_weight: Tensor | None, *, total: bool, isa: int = BEST
) -> Tensor:
    dtype = statistics_dtype(logits)
    inputs = _inputs(logits, labels, pos_weight)
    if total:
        result = torch.empty((), dtype=dtype)
        results = (0, result.data_ptr())
    else:
        result = in_huge_pages(torch.empty(logits.shape, dtype=dtype))
        results = (result.data_ptr(), 0)
    _run(isa, inputs, (*results, 0, 0, 0))
    return result


def gradient(
    logits: Tensor, labels: Tensor, pos_weight: Tensor | None, upstream: Tensor, *, isa: int = BEST
) -> Tensor:
    inputs = _inputs(logits, labels, pos_weight)
    upstream = upstream.to(statistics_dtype(logits)).contiguous()
    result = in_huge_pages(torch.empty(logits.shape, dtype=logits.dtype))
    _run(isa, inputs, (0, 0, upstream.data_ptr(), int(upstream.dim() > 0), result.data_ptr()))
    return result


def _inputs(
    logits: Tensor, labels: Tensor, pos_weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the tensors as the kernels take them, to outlive the call."""
    dtype = statistics_dtype(logits)
    factors = None if pos_weight is None else pos_weight.to(dtype).contiguous()
    return logits.contiguous(), labels.to(dtype).contiguous(), factors


def _run(isa: int, inputs: tuple[Tensor, Tensor, Tensor | None], results: tuple[int, ...]) -> None:
    assert cpu_library.KERNELS is not None
    logits = inputs[0]
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in inputs]
    call = (isa, torch.get_num_threads(), DTYPES[logits.dtype], logits.numel(), *addresses, *results)
    cpu_library.KERNELS.labelsmooth_sigmoids(SIGMOIDS.pack(*call))
