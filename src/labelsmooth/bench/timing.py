"""The time of short calls, measured in turns so that all meet the same machine."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

TURN = 0.02  # seconds that a turn lasts at least, far above the cost of the clock and of an interrupt


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Call:
    """A piece of work to measure.

    Args:
        run: does the work once and returns the resulting tensors, such as gradients. The timer drops them
            before it stops the clock, so that each call pays for freeing its results.
        prepare: runs before every run, and its time is not counted.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] = _nothing


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The median over the repetitions, with the smallest and the largest."""

    median: float
    low: float
    high: float


def interleaved(
    calls: Mapping[str, Call], repetitions: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Measure seconds per run of each call, a value for each repetition.

    In a repetition every call has a turn of as many runs as the fastest call needs to last `TURN`; every
    second repetition takes the calls in reverse order. Two untimed rounds come first, and Python's garbage
    collector is off.

    Cost: repetitions + 2 turns of each call.
    """
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for call in calls.values():
            _seconds(call, 1, clock)
        fastest = min(_seconds(call, 1, clock) for call in calls.values())
        runs = max(1, math.ceil(TURN / fastest)) if fastest > 0 else 1
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for repetition in range(repetitions):
            for name in list(calls)[:: -1 if repetition % 2 else 1]:
                seconds[name].append(_seconds(calls[name], runs, clock))
        return seconds
    finally:
        if was_on:
            gc.enable()


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the spread of the quotients above/below of the same repetitions."""
    quotients = [a / b for a, b in zip(above, below, strict=True)]
    return Spread(median=statistics.median(quotients), low=min(quotients), high=max(quotients))


def _seconds(call: Call, runs: int, clock: Callable[[], float]) -> float:
    total = 0.0
    for _ in range(runs):
        call.prepare()
        start = clock()
        call.run()
        total += clock() - start
    return total / runs
