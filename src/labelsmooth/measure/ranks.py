"""Measures of several processes of `torch.distributed` as one."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy.typing as npt
import torch
import torch.distributed as dist

from labelsmooth.errors import InputError

_T = TypeVar("_T")


class Streaming(Protocol):
    """A measure that counts rows in batches."""

    def reset(self) -> None:
        """Forget every row."""

    def merge(self, other: Any) -> None:
        """Count the rows that another measure of the same kind has counted."""


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


def merge_over_ranks(measure: Streaming, options: str, group: dist.ProcessGroup | None) -> None:
    """Count the rows of all processes in each one's measure; nothing where there is no process group.

    They are merged in the order of the processes, so that all have the same numbers to the last bit.

    Raises:
        ValueError: as `of_all_ranks`, or as the measure's `merge`; each process raises it then.

    Cost: every process gets a copy of every other's measure.
    """
    measures = of_all_ranks(measure, options, group)
    if measures:
        measure.reset()
    for its in measures:
        measure.merge(its)


def sum_over_ranks(arrays: dict[str, npt.NDArray[Any]], group: dist.ProcessGroup | None) -> None:
    """Put the sums over all processes into the arrays, which have the same names and shapes in each."""
    device = "cuda" if "nccl" in dist.get_backend(group) else "cpu"
    for array in arrays.values():
        total = torch.from_numpy(array).to(device)
        dist.all_reduce(total, group=group)
        array[...] = total.cpu().numpy()
