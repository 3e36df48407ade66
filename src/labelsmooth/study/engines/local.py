"""Trials on this machine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from labelsmooth.study.engines.base import Context, Engine
from labelsmooth.study.engines.here import Here
from labelsmooth.study.engines.processes import Processes
from labelsmooth.study.trial import Outcome, TrialConfig


class Local(Engine):
    """The engine of this machine: each trial in a process of its own, or in this one where it is alone."""

    def run(
        self, trials: Sequence[TrialConfig], context: Context, on_epoch: Callable[[], None]
    ) -> Generator[Outcome, None, None]:
        engine = Here() if min(context.at_a_time, len(trials)) <= 1 else Processes()
        yield from engine.run(trials, context, on_epoch)
