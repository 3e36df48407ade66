"""Backends, which compute row statistics and their gradients; `contract` says what they share.

Other packages import from here only.
"""

from labelsmooth.backends import gpu, op
from labelsmooth.backends.contract import (
    Backend,
    Combination,
    Empty,
    Request,
    Statistics,
    origin_of,
    statistics_dtype,
)
from labelsmooth.backends.registry import BACKENDS, BackendName
from labelsmooth.backends.select import hindrance, require_backend, select

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendName",
    "Combination",
    "Empty",
    "Request",
    "Statistics",
    "gpu",
    "hindrance",
    "op",
    "origin_of",
    "require_backend",
    "select",
    "statistics_dtype",
]
