"""One trial: train a network for one objective from one seed, then measure it."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from labelsmooth.errors import InputError
from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.engines.select import make_placement
from labelsmooth.study.engines.threads import torch_threads
from labelsmooth.study.optimizer import make_optimizer, make_schedule
from labelsmooth.study.tasks import find_task
from labelsmooth.study.tasks.base import Curves, Metrics
from labelsmooth.study.trial import (
    Diverged,
    DivergedTrial,
    Outcome,
    TrainedNetwork,
    TrialConfig,
    TrialResult,
)
from labelsmooth.study.versions import versions_here

# Dropout draws from torch's global state; apart from the seeds of weights and batches, which are far smaller.
_DROPOUT_SEED = 2**31


def run_trial(
    config: TrialConfig,
    data: Any,
    on_epoch: Callable[[], None],
    teacher: TrainedNetwork | None = None,
    placement: Placement | None = None,
) -> Outcome:
    """Train and measure as `train_trial`, but give a trial that broke down too, with the reason."""
    placement = placement or make_placement(config.settings.precision)
    start = time.monotonic()
    try:
        return train_trial(config, data, on_epoch, teacher, placement)
    except Diverged as error:
        versions = versions_here(str(placement.device), placement.processes)
        seconds = time.monotonic() - start
        return DivergedTrial(config=config, reason=str(error), versions=replace(versions, seconds=seconds))


def train_trial(
    config: TrialConfig,
    data: Any,
    on_epoch: Callable[[], None],
    teacher: TrainedNetwork | None = None,
    placement: Placement | None = None,
) -> TrialResult:
    """Train one network and measure it; the same config gives the same numbers, bit for bit.

    Initial weights, the order of the batches, augmentation and dropout depend on the seed alone, so trials
    that differ only in their objective or teacher are paired. Bits can differ between machines, torch
    versions, devices and numbers of threads or processes.

    Where several processes train together (`accelerate launch`, `torchrun`), all of them call this: each
    batch is shared out, its gradient is that of the one mean, and its own mean and variance normalise it;
    only dropout is other than in one process.

    Args:
        config: of the trial.
        data: that the config was made for.
        on_epoch: called after every epoch.
        teacher: of a student, that of the trial `config.teacher`.
        placement: that trains; None: `make_placement` of the config's precision.

    Returns:
        The curves, metrics, arrays and weights, in processes other than the first without the arrays; torch's
        global random state is left as it was.

    Raises:
        Diverged: the network broke down.
        InputError: the model cannot take this data, or accelerate cannot do the precision of the config here.
        ModuleNotFoundError: accelerate is needed and missing.
    """
    start = time.monotonic()
    placement = placement or make_placement(config.settings.precision)
    versions = versions_here(str(placement.device), placement.processes)
    arrays: list[Any] = []  # those of the first process, which are much to send to the others
    with placement.deterministic(), placement.chance() as seed:
        training = Training(config, data, teacher, placement)
        seed(_DROPOUT_SEED + config.seed)
        curves = training.run(on_epoch)
        network = training.network.eval()
        with torch.no_grad():
            measured = placement.from_first(partial(_measured, training, config, curves, arrays))
    if isinstance(measured, Diverged):
        raise measured
    curves, metrics = measured
    if names := undefined({**asdict(curves), **metrics}):
        raise Diverged(
            f"the network of {config.words} cannot be measured, as {', '.join(names)} cannot be told: it "
            f"broke down, perhaps because the learning rate {config.settings.learning_rate:g} is too large"
        )
    return TrialResult(
        config=config,
        curves=curves,
        metrics=metrics,
        arrays=arrays[0] if arrays else None,
        weights={name: value.cpu().numpy() for name, value in network.state_dict().items()},
        versions=replace(versions, seconds=time.monotonic() - start),
    )


def _measured(
    training: Training, config: TrialConfig, curves: Curves, arrays: list[Any]
) -> tuple[Curves, Metrics] | Diverged:
    """Measure a network, and append its arrays; give a breakdown back, for every process to raise."""
    try:
        arrays.append(training.session.arrays(training.teacher))
    except Diverged as error:
        return error
    return training.session.curves(curves), measure(config, arrays[0])


def measure(config: TrialConfig, arrays: Any) -> Metrics:
    """Measure a trained network by what was kept of it, with the same bits here and in any other process."""
    with torch_threads(1):
        return find_task(config.task).measure(config, arrays)


def undefined(numbers: Mapping[str, Any]) -> list[str]:
    """Name what is no finite number in curves or metrics."""
    names: list[str] = []
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            names += [f"{name}.{inner}" for inner in undefined(value)]
        elif not all(math.isfinite(one) for one in (value if isinstance(value, tuple) else (value,))):
            names.append(name)
    return names


def new_network(config: TrialConfig, summary: Any) -> nn.Module:
    """Make the network of a trial as its training begins, of the files that the trial was planned with.

    Args:
        config: of the trial.
        summary: of its data.

    Raises:
        InputError: the model cannot take this data, or its files are others here, or missing.
    """
    task = find_task(config.task)
    if task.recipe.model_sha256(config.model) != config.model_sha256:
        raise InputError(f"the files of the model {config.model} are others on {platform.node()}")
    return task.new_network(config, summary)


def load_network(trained: TrainedNetwork, summary: Any) -> nn.Module:
    """Make the network of a finished trial, on the CPU and in evaluation mode.

    Args:
        trained: with its weights.
        summary: of the data that the trial was trained on.

    Raises:
        InputError: the weights are not those of this model, or its files are others here, or missing.
    """
    config = trained.config
    network = new_network(config, summary)
    try:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in trained.weights.items()})
    except RuntimeError as error:
        raise InputError(f"the weights of {config.id} are not those of the model {config.model}") from error
    return network.eval()


class Training:
    """A network with all that its training needs, step by step.

    Args:
        config: of the trial.
        data: that the config was made for.
        teacher: of a student.
        placement: that trains.

    Attributes:
        network: that is trained, and measured.
        session: of the task.
        teacher: the network that teaches, in evaluation mode.
        steps: of the whole training.
    """

    def __init__(
        self, config: TrialConfig, data: Any, teacher: TrainedNetwork | None, placement: Placement
    ) -> None:
        self._config = config
        self._placement = placement
        self.network = new_network(config, data.summary)
        self.teacher = None if teacher is None else load_network(teacher, data.summary).to(placement.device)
        self.session = find_task(config.task).begin(config, data, self.network, placement)
        self.steps = config.settings.epochs * self.session.steps
        optimizer = make_optimizer(self.network, config.settings)
        self._schedule = make_schedule(optimizer, config.settings, self.steps)
        self._trained, self._optimizer = placement.prepare(self.network, optimizer)
        self._criterion = Objective.parse(config.objective).criterion(
            TrainingFacts(class_counts=self.session.class_counts, steps=self.steps, total=placement.total)
        )

    def run(self, on_epoch: Callable[[], None]) -> Curves:
        """Train to the end.

        Raises:
            Diverged: the network broke down.
        """
        curves: list[tuple[float, float, float, float]] = []
        for epoch in range(1, self._config.settings.epochs + 1):
            loss, accuracy = self.epoch()
            self.network.eval()
            validated = self._placement.from_first(partial(self.session.validate, epoch))
            if validated is None or not math.isfinite(loss):
                raise Diverged(
                    f"the training of {self._config.words} broke down in epoch {epoch}: the logits are "
                    "infinite, or the same for every row; most likely the learning rate "
                    f"{self._config.settings.learning_rate:g} is too large"
                )
            curves.append((loss, accuracy, *validated))
            on_epoch()
        train_loss, train_accuracy, validation_nll, validation_accuracy = zip(*curves, strict=True)
        return Curves(
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_nll=validation_nll,
            validation_accuracy=validation_accuracy,
        )

    def epoch(self) -> tuple[float, float]:
        """Train for an epoch, and give the mean loss and accuracy of its rows as the weights moved."""
        self.network.train()
        losses, correct, lengths = [], [], []
        for batch in self.session.batches():
            loss, right, rows = self.step(batch)
            self._schedule.step()
            losses.append(loss)
            correct.append(right)
            lengths.append(rows)
        self._criterion.epoch_done()
        # read here and not after every step, which would make a GPU wait; MPS has no float64
        sums = (
            torch.stack(losses).cpu().double() @ torch.tensor(lengths).double(),
            torch.stack(correct).sum(),
        )
        loss_sum, right_sum = self._placement.total(torch.tensor([float(part) for part in sums]).double())
        rows = sum(lengths)
        return float(loss_sum) / self._placement.processes / rows, float(right_sum) / rows

    def step(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Take one step of training: the mean loss of the batch, the rows that were right, and all its rows.

        Of several processes the loss is one whose mean over them is that of the batch, and the rows that were
        right are those of this one.
        """
        (loss, correct), rows = self.session.loss(self._trained, batch, self._criterion, self.teacher)
        clip = self._config.settings.clip
        self._placement.step(loss, self._optimizer, self.network.parameters(), clip)
        return loss.detach(), correct, rows
