"""Trials in this process, one after another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial

from labelsmooth.study.engines.base import Context, Engine
from labelsmooth.study.engines.threads import torch_threads
from labelsmooth.study.trial import Outcome, TrialConfig


class Here(Engine):
    """The engine of this process, or of all that were launched to train each trial together."""

    def run(
        self, trials: Sequence[TrialConfig], context: Context, on_epoch: Callable[[], None]
    ) -> Generator[Outcome, None, None]:
        with torch_threads(context.threads):
            for config in trials:
                # other machines need not see the study's folder
                teacher = context.placement.from_first(partial(context.teacher_of, config))
                yield context.run_trial(config, context.data, on_epoch, teacher, context.placement)
