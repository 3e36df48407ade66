"""How many trials train at a time, and on how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from labelsmooth.errors import InputError
from labelsmooth.study.engines.placement import Placement


def trials_at_a_time(jobs: int | None, placement: Placement) -> int:
    """Count the trials that train side by side: as asked, or as many as do each other no harm.

    Args:
        jobs: ≥ 1; None takes one for each of torch's threads on a CPU, and 1 elsewhere.
        placement: of their training.

    Raises:
        InputError: `jobs` is below 1, or above it where several processes train each trial together.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    if placement.processes > 1:
        if jobs not in (None, 1):
            raise InputError(
                f"jobs must be 1 where {placement.processes} processes train each trial together, got {jobs}"
            )
        return 1
    return jobs or (torch.get_num_threads() if placement.device.type == "cpu" else 1)


def threads_of_a_trial(trials: int) -> int:
    """Count the threads that train each of so many planned trials, of those that torch has now.

    By the plan, not by what of it is still missing or by how many trials run at a time: the bits of a trial
    depend on it. A study that has grown to more trials trains these on fewer threads, if it began with fewer
    trials than cores; their versions and the report's methods say so.
    """
    return max(1, torch.get_num_threads() // trials)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute with so many threads within this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
