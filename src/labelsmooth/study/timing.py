"""How long a trial takes, from a few steps of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.training import Training, new_network
from labelsmooth.study.trial import TrialConfig

_TIMED_STEPS = 20  # at most


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The time that a trial takes."""

    parameters: int  # of the network
    steps: int  # of the whole training
    seconds_a_step: float
    seconds_a_row: float  # of evaluation


def time_training(
    config: TrialConfig, data: Any, placement: Placement, teacher: TrialConfig | None = None
) -> Timing:
    """Time a few steps of a training, and the evaluation of a few rows.

    Args:
        config: of a trial.
        data: that the config was made for.
        placement: that trains.
        teacher: of a student, the config of its teacher.

    Raises:
        InputError: the model cannot take this data.
    """
    with placement.deterministic(), placement.chance():
        training = Training(config, data, None, placement)
        if teacher is not None:
            network = new_network(teacher, data.summary)
            training.teacher = network.to(placement.device).eval()
        batches = chain.from_iterable(training.session.batches() for _ in repeat(None))

        def step() -> None:
            loss, _, _ = training.step(next(batches))
            loss.item()  # once it is there, the step is done on any device

        seconds_a_step = _median_seconds([step] * _TIMED_STEPS, placement)
        training.network.eval()
        rows = training.session.evaluate_some()
        seconds = _median_seconds([training.session.evaluate_some] * 3, placement)
    return Timing(
        parameters=sum(parameter.numel() for parameter in training.network.parameters()),
        steps=training.steps,
        seconds_a_step=seconds_a_step,
        seconds_a_row=seconds / rows,
    )


def _median_seconds(calls: Sequence[Callable[[], object]], placement: Placement) -> float:
    """Time calls until a second is over; the first is not counted, as it also sets things up."""
    calls[0]()
    taken: list[float] = []
    for call in calls[1:]:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
        if placement.from_first(lambda: sum(taken) > 1):  # all processes make the same calls
            break
    return statistics.median(taken)
