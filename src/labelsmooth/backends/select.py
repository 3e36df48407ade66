"""The choice of the backend that serves a call, with its reason."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from labelsmooth.backends.registry import BACKENDS, BackendName
from labelsmooth.errors import InputError

_log = logging.getLogger(__name__)


def select(backend: BackendName, device: torch.device, hindrance: str | None = None) -> tuple[str, str]:
    """Return the name of the backend that serves logits on this device, and the reason in words.

    Args:
        backend: "auto", or the name of a backend that must serve.
        device: of the logits. Every backend serves every dtype.
        hindrance: the reason of `hindrance` why only the reference can serve the call; None without any.

    The reason is logged at level DEBUG where "auto" takes the reference, unless a graph is being compiled.

    Raises:
        ValueError: an unknown backend, or one that cannot serve.
    """
    require_backend(backend)
    if backend == "reference":
        return "reference", "asked for"
    wanted = backend if backend != "auto" else "cpu" if device.type == "cpu" else "gpu"
    why_not = BACKENDS[wanted].unavailable(device) or hindrance
    if why_not is None:
        return wanted, BACKENDS[wanted].kernels
    if backend == "auto":
        reason = f"{wanted} cannot serve: {why_not}"
        if not torch.compiler.is_compiling():
            _log.debug("the reference serves this call: %s", reason)
        return "reference", reason
    raise InputError(f"backend {wanted!r} cannot serve this call: {why_not}")


def require_backend(backend: str) -> None:
    """Raise `ValueError` unless it is "auto" or the name of a backend."""
    if backend != "auto" and backend not in BACKENDS:
        raise InputError(f"backend must be 'auto', {', '.join(map(repr, BACKENDS))}, got {backend!r}")


def hindrance(logits: Tensor, prior: Tensor | str | None) -> str | None:
    """Return in words why only the reference, made of torch's operations, can serve a call, or None."""
    if isinstance(prior, Tensor) and prior.requires_grad and torch.is_grad_enabled():
        return "the prior needs a gradient"
    if torch.compiler.is_compiling():
        return None
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "it is inside a torch.func transform"
    if torch.autograd.forward_ad._current_level >= 0:
        return "it is inside forward-mode differentiation"
    if type(logits) not in (Tensor, torch.nn.Parameter, FakeTensor):
        return f"the logits are a {type(logits).__name__}"
    return None
