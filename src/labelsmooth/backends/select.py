"""Which backend serves a call, and why."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

import torch

from labelsmooth.backends import reference

Backend = Literal["auto", "reference"]


def select(backend: Backend, device: torch.device, dtype: torch.dtype) -> tuple[ModuleType, str]:
    """The module that serves logits of this dtype on this device, and the reason in words.

    Raises:
        ValueError: an unknown backend.
    """
    if backend == "auto":
        return reference, f"the reference serves {dtype} on {device.type}"
    if backend == "reference":
        return reference, "asked for"
    raise ValueError(f"backend must be 'auto' or 'reference', got {backend!r}")
