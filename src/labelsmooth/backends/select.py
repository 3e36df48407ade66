"""Which backend serves a call, and why."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from labelsmooth.backends import cpu, gpu

Backend = Literal["auto", "reference", "cpu", "gpu"]


def select(
    backend: Backend, device: torch.device, dtype: torch.dtype, hindrance: str | None = None
) -> tuple[Literal["reference", "cpu", "gpu"], str]:
    """The backend that serves logits of this dtype on this device, and the reason in words.

    Args:
        backend: "auto", or the one to insist on.
        device, dtype: of the logits.
        hindrance: why the call itself is one for the reference alone, from `hindrance`; None where it is not.

    Raises:
        ValueError: an unknown backend, or one that cannot serve.
    """
    if backend == "reference":
        return "reference", "asked for"
    if backend not in ("auto", "cpu", "gpu"):
        raise ValueError(f"backend must be 'auto', 'reference', 'cpu' or 'gpu', got {backend!r}")
    wanted: Literal["cpu", "gpu"] = backend if backend != "auto" else "cpu" if device.type == "cpu" else "gpu"
    why_not = (cpu if wanted == "cpu" else gpu).unavailable(device) or hindrance
    if why_not is None:
        return wanted, f"C++ kernels, {cpu.INSTRUCTION_SET}" if wanted == "cpu" else "Triton kernels"
    if backend == "auto":
        return "reference", f"{wanted} cannot serve: {why_not}"
    raise ValueError(f"backend {wanted!r} cannot serve this call: {why_not}")


def hindrance(logits: Tensor, *others: Tensor | str | None) -> str | None:
    """Why only the reference, made of torch's own operations, can serve these tensors; None where others can.

    Args:
        logits: any tensor.
        others: what else the statistics may be differentiated by.
    """
    if torch.compiler.is_compiling():
        inside = None
    elif torch._C._functorch.peek_interpreter_stack() is not None:
        inside = "inside a torch.func transform"
    elif torch.autograd.forward_ad._current_level >= 0:
        inside = "inside forward-mode differentiation"
    elif not isinstance(logits, FakeTensor) and type(logits) not in (Tensor, torch.nn.Parameter):
        inside = f"the logits are a {type(logits).__name__}"
    else:
        inside = None
    if inside is None and torch.is_grad_enabled():
        for other in others:
            if isinstance(other, Tensor) and other.requires_grad:
                return "the prior needs a gradient"
    return inside
