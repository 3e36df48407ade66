"""How long a trial takes, from a few steps of it; how many run at a time, and on how many threads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from labelsmooth.errors import InputError
from labelsmooth.study.data import Data, Rows
from labelsmooth.study.measuring import forward
from labelsmooth.study.placement import Placement, make_placement
from labelsmooth.study.recipe import TrialConfig
from labelsmooth.study.training import Training, new_network

_TIMED_STEPS = 20  # at most
_TIMED_ROWS = 1000


def time_training(config: TrialConfig, data: Data, teacher: TrialConfig | None = None) -> tuple[float, float]:
    """Seconds of one step of training, and of one row of evaluation, from a few of each.

    Args:
        config: of a trial.
        data: that the config was made for.
        teacher: of a student, the config of its teacher.

    Raises:
        ValueError: the model cannot take this data, or accelerate cannot do this here.
    """
    few = Rows(images=data.validation.images[:_TIMED_ROWS], labels=data.validation.labels[:_TIMED_ROWS])
    placement = make_placement(config.precision)
    with placement.deterministic(), placement.chance():
        training = Training(config, data, None, placement)
        if teacher is not None:
            training.teacher = new_network(teacher, data.summary).to(placement.device).eval()
        rows = len(data.train.labels)
        batches = torch.randint(
            rows, (_TIMED_STEPS, min(config.batch_size, rows)), generator=torch.Generator()
        )

        def step(batch: torch.Tensor) -> None:
            loss, _ = training.step(batch)
            loss.item()  # once it is there, the step is done on any device

        steps = _median_seconds([partial(step, batch) for batch in batches], placement)
        network = training.network.eval()
        with torch.no_grad():
            evaluation = _median_seconds([partial(forward, network, config, few)] * 3, placement)
    return steps, evaluation / len(few.labels)


def trials_at_a_time(jobs: int | None, placement: Placement) -> int:
    """How many trials train beside each other: as asked, or as many as do each other no harm.

    Args:
        jobs: ≥ 1; None takes one for each of torch's threads on a CPU, and 1 elsewhere.
        placement: of their training.

    Raises:
        ValueError: `jobs` is below 1, or above it where several processes train each trial together.
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
    """How many threads train each of so many planned trials, of those that torch has now.

    By the plan, not by what of it is still missing or by how many trials run at a time: the bits of a trial
    depend on it. A study that has grown to more trials trains these on fewer threads, if it began with fewer
    trials than cores; their versions and the report's methods say so.
    """
    return max(1, torch.get_num_threads() // trials)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Torch computes with so many threads within this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _median_seconds(calls: Sequence[Callable[[], object]], placement: Placement) -> float:
    """The first call is not counted: it also sets things up. No more are made after a second."""
    calls[0]()
    taken: list[float] = []
    for call in calls[1:]:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
        if placement.from_first(lambda: sum(taken) > 1):  # all processes make the same calls
            break
    return statistics.median(taken)
