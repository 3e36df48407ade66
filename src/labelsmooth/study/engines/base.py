"""The protocol of an engine, which trains trials, here or elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.trial import Outcome, TrainedNetwork, TrialConfig


class RunTrial(Protocol):
    """A function of a module, which a process can load by its name: train a trial, and measure it."""

    def __call__(
        self,
        config: TrialConfig,
        data: Any,
        on_epoch: Callable[[], None],
        teacher: TrainedNetwork | None,
        placement: Placement,
        /,
    ) -> Outcome:
        """Give the trial's outcome; `on_epoch` is called after every epoch."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """The facts of a study that engines have to know; a worker gets what it must load by its name."""

    run_trial: RunTrial
    load: Callable[[], Any]  # the data of the study; it can be pickled
    data: Any  # the same, loaded here
    data_name: str
    teacher_of: Callable[[TrialConfig], TrainedNetwork | None]  # the network that teaches a trial
    placement: Placement  # of this process
    jobs: int | None  # trials to train at a time, as it was asked for
    at_a_time: int  # the same, or as many as do each other no harm on this machine
    threads: int  # of each trial; the bits of a result depend on it
    trials: int  # of the whole study
    modules: frozenset[str]  # top-level modules of networks of the user's own


class Engine(ABC):
    """A way to train trials, one after another or side by side; the numbers do not depend on it."""

    def open(self, context: Context) -> AbstractContextManager[None]:  # noqa: ARG002
        """Hold what the engine needs for all trials of a study."""
        return nullcontext()

    @abstractmethod
    def run(
        self, trials: Sequence[TrialConfig], context: Context, on_epoch: Callable[[], None]
    ) -> Generator[Outcome, None, None]:
        """Train trials, and give the outcome of each once it is there.

        Args:
            trials: whose teachers are stored.
            context: of the study.
            on_epoch: called after every epoch of any trial.

        Raises:
            InputError: a model cannot take the data, or a process that trained a trial died.
        """
