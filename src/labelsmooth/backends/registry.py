"""The backends by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from labelsmooth.backends import cpu, gpu, reference
from labelsmooth.backends.contract import Backend

BackendName = Literal["auto", "reference", "cpu", "gpu"]

BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {"reference": reference.BACKEND, "cpu": cpu.BACKEND, "gpu": gpu.BACKEND}
)
