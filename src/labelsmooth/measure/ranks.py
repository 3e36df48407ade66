"""Measures of several processes of `torch.distributed` as one."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy.typing as npt
import torch
import torch.distributed as dist

from labelsmooth.errors import InputError

_T = TypeVar("_T")


def require_same_options(mine: str, its: str) -> None:
    """Raise `ValueError` unless two measures have the same options and so can be merged."""
    if mine != its:
        raise InputError(f"only measures with the same options can be merged, got {mine} and {its}")


def of_all_ranks(value: _T, options: str, group: dist.ProcessGroup | None) -> list[_T]:
    """What each process has; nothing where there is no process group.

    Raises:
        ValueError: the processes' measures do not have the same options; each process raises it then.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return []
    pairs: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(pairs, (options, value), group)
    for its, _ in pairs:
        require_same_options(options, its)
    return [value for _, value in pairs]


def sum_over_ranks(arrays: dict[str, npt.NDArray[Any]], group: dist.ProcessGroup | None) -> None:
    """Put the sums over all processes into the arrays, which have the same names and shapes in each."""
    device = "cuda" if "nccl" in dist.get_backend(group) else "cpu"
    for array in arrays.values():
        total = torch.from_numpy(array).to(device)
        dist.all_reduce(total, group=group)
        array[...] = total.cpu().numpy()
