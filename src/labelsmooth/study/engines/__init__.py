"""Engines, which train the trials of a study: in this process, in others, or on a cluster.

They know trials, not tasks: what a worker must load comes with the context, by name.
"""

from __future__ import annotations

from collections.abc import Callable

from labelsmooth.errors import InputError
from labelsmooth.study.engines.base import Context, Engine
from labelsmooth.study.engines.local import Local
from labelsmooth.study.engines.ray import RayCluster

ENGINES: dict[str, Callable[[str | None], Engine]] = {
    "local": lambda _: Local(),
    "ray": RayCluster,
}

__all__ = ["ENGINES", "Context", "Engine", "make_engine"]


def make_engine(name: str, address: str | None) -> Engine:
    """Make an engine by its name.

    Args:
        name: one of `ENGINES`.
        address: of a cluster, for "ray".

    Raises:
        InputError: there is no such engine, or it takes no address.
    """
    if name not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    if address is not None and name != "ray":
        raise InputError(f"an address is for the engine ray, got {address!r} with the engine {name}")
    return ENGINES[name](address)
