"""One trial: train a network for one objective from one seed, then measure it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR

from labelsmooth.measure import distillation_loss
from labelsmooth.row_stats import row_stats
from labelsmooth.study.augment import augmented, seen_shape
from labelsmooth.study.data import Data, DataSummary, Rows
from labelsmooth.study.measuring import (
    Curves,
    Metrics,
    TrialArrays,
    forward,
    information_of,
    measure_network,
)
from labelsmooth.study.models import Network, build_network
from labelsmooth.study.noise import with_label_noise
from labelsmooth.study.objectives import Criterion, Objective
from labelsmooth.study.recipe import TrialConfig

_TIMED_STEPS = 20  # at most
_TIMED_ROWS = 1000
# Dropout draws from torch's global state; apart from the seeds of weights and batches, which are far smaller.
_DROPOUT_SEED = 2**31

Weights: TypeAlias = dict[str, NDArray[Any]]  # by the names of a network's `state_dict`


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """The network of a finished trial."""

    config: TrialConfig
    weights: Weights

    def load(self, data: DataSummary) -> Network:
        """The network itself, on the CPU and in evaluation mode.

        Args:
            data: that the trial was trained on.

        Raises:
            ValueError: the weights are not those of this model.
        """
        network = new_network(self.config, data)
        try:
            network.load_state_dict({name: torch.from_numpy(array) for name, array in self.weights.items()})
        except RuntimeError as error:
            raise ValueError(
                f"the weights of {self.config.id} are not those of the model {self.config.model}"
            ) from error
        return network.eval()


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialResult:
    """A finished trial, in memory."""

    config: TrialConfig
    metrics: Metrics
    arrays: TrialArrays
    weights: Weights
    seconds: float  # that it took


def train_trial(
    config: TrialConfig, data: Data, on_epoch: Callable[[], None], teacher: TrainedNetwork | None = None
) -> TrialResult:
    """Train one network and measure it; the same config gives the same numbers, bit for bit.

    Where the config has label noise, the wrong labels are those of the training rows everywhere, as nobody
    would know better: in the loss, in the training accuracy and in the spread of their classes.

    Initial weights, the order of the batches, augmentation and dropout depend on the seed alone, so trials
    that differ only in their objective or teacher are paired. Bits can differ between machines, torch
    versions and numbers of threads.

    Args:
        config: of the trial.
        data: that the config was made for.
        on_epoch: called after every epoch.
        teacher: of a student, that of the trial `config.teacher`.

    Returns:
        The metrics, arrays and weights; torch's global random state is left as it was.

    Raises:
        ValueError: the training diverged, or the model cannot take this data.
    """
    start = time.monotonic()
    data = with_label_noise(data, config.label_noise)
    with _deterministic_algorithms(), torch.random.fork_rng(devices=[]):
        training = Training(config, data, teacher)
        torch.default_generator.manual_seed(_DROPOUT_SEED + config.seed)
        curves = training.run(on_epoch)
        network = training.network.eval()
        with torch.no_grad():
            metrics, arrays = measure_network(network, config, data, curves, training.teacher)
    return TrialResult(
        config=config,
        metrics=metrics,
        arrays=arrays,
        weights={name: value.numpy() for name, value in network.state_dict().items()},
        seconds=time.monotonic() - start,
    )


def new_network(config: TrialConfig, data: DataSummary) -> Network:
    """The network of a trial as its training begins.

    Raises:
        ValueError: the model cannot take this data.
    """
    return build_network(config.model, seen_shape(config, data.shape), len(data.class_names), config.seed)


def time_training(config: TrialConfig, data: Data, teacher: TrialConfig | None = None) -> tuple[float, float]:
    """Seconds of one step of training, and of one row of evaluation, from a few of each.

    Args:
        config: of a trial.
        data: that the config was made for.
        teacher: of a student, the config of its teacher.

    Raises:
        ValueError: the model cannot take this data.
    """
    few = Rows(images=data.validation.images[:_TIMED_ROWS], labels=data.validation.labels[:_TIMED_ROWS])
    with _deterministic_algorithms(), torch.random.fork_rng(devices=[]):
        training = Training(config, data, None)
        if teacher is not None:
            training.teacher = new_network(teacher, data.summary).eval()
        rows = len(data.train.labels)
        batches = torch.randint(
            rows, (_TIMED_STEPS, min(config.batch_size, rows)), generator=torch.Generator()
        )
        steps = _median_seconds([partial(training.step, batch) for batch in batches])
        network = training.network.eval()
        with torch.no_grad():
            evaluation = _median_seconds([partial(forward, network, config, few)] * 3)
    return steps, evaluation / len(few.labels)


def threads_of_a_trial(trials: int) -> int:
    """How many threads train each of so many planned trials, of those that torch has now.

    By the plan, not by what of it is still missing or by how many trials run at a time: the bits of a trial
    depend on it.
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


def _median_seconds(calls: Sequence[Callable[[], object]]) -> float:
    """The first call is not counted: it also sets things up. No more are made after a second."""
    calls[0]()
    taken: list[float] = []
    for call in calls[1:]:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
        if sum(taken) > 1:
            break
    return statistics.median(taken)


class Training:
    """A network with all that its training needs, step by step."""

    def __init__(self, config: TrialConfig, data: Data, teacher: TrainedNetwork | None) -> None:
        self.network = new_network(config, data.summary)
        self.teacher = None if teacher is None else teacher.load(data.summary)
        self._config = config
        self._data = data
        self._rows = len(data.train.labels)
        self._steps = config.epochs * math.ceil(self._rows / config.batch_size)
        self._optimizer = _optimizer(self.network, config)
        self._schedule = _schedule(self._optimizer, config, self._steps)
        self._criterion = Criterion(
            Objective.parse(config.objective),
            data.train.labels,
            len(data.summary.class_names),
            steps=self._steps,
            seed=config.seed,
        )
        # of the order of the batches, and of augmentation
        self._chance = torch.Generator().manual_seed(config.seed)

    def run(self, on_epoch: Callable[[], None]) -> Curves:
        """Train to the end."""
        train_loss, train_accuracy, validation_nll, validation_accuracy = [], [], [], []
        moments, information = _moments(self._config), []
        for epoch in range(1, self._config.epochs + 1):
            loss, accuracy = self.epoch()
            self.network.eval()
            with torch.no_grad():
                _, logits = forward(self.network, self._config, self._data.validation)
                if not (math.isfinite(loss) and logits.isfinite().all() and (logits != logits[0]).any()):
                    raise ValueError(self._breakdown(epoch))
                if epoch in moments:
                    information.append(information_of(self.network, self._config, self._data))
            stats = row_stats(logits.double(), index=self._data.validation.labels.unsqueeze(-1))
            train_loss.append(loss)
            train_accuracy.append(accuracy)
            validation_nll.append(float(stats.nll.mean()))
            validation_accuracy.append(float(stats.correct.double().mean()))
            on_epoch()
        return Curves(
            train_loss=tuple(train_loss),
            train_accuracy=tuple(train_accuracy),
            validation_nll=tuple(validation_nll),
            validation_accuracy=tuple(validation_accuracy),
            information_epochs=moments,
            information=tuple(information),
        )

    def epoch(self) -> tuple[float, float]:
        """Mean loss and accuracy of the training rows, as the weights move."""
        self.network.train()
        loss_sum, correct = 0.0, 0
        order = torch.randperm(self._rows, generator=self._chance)
        for batch in torch.split(order, self._config.batch_size):
            loss, right = self.step(batch)
            self._schedule.step()
            loss_sum += loss * len(batch)
            correct += right
        self._criterion.epoch_done()
        return loss_sum / self._rows, correct / self._rows

    def step(
        self,
        batch: Tensor,  # (B,), numbers of training rows
    ) -> tuple[float, int]:
        """One step of training; the mean loss of the batch, and how many of its rows were right."""
        images = augmented(self._data.train.images[batch], self._config, self._data, self._chance)
        labels = self._data.train.labels[batch]
        if self.teacher is None:
            loss, logits = self._criterion(self.network, images, labels)
        else:
            with torch.no_grad():
                teacher_logits = self.teacher(images)
            logits = self.network(images)
            loss = distillation_loss(
                logits, teacher_logits, labels, self._config.beta, self._config.temperature
            )
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.clip:
            clip_grad_norm_(self.network.parameters(), self._config.clip)
        self._optimizer.step()
        return loss.item(), int((logits.argmax(-1) == labels).sum())

    def _breakdown(self, epoch: int) -> str:
        return (
            f"the training of {self._config.words} broke down in epoch {epoch}: "
            "the logits are infinite, or the same for every image; "
            f"the learning rate {self._config.learning_rate:g} is too large for this data"
        )


def _moments(config: TrialConfig) -> tuple[int, ...]:
    """The epochs after which the information is measured: from the first to the last, evenly spread."""
    last = config.information - 1
    if last < 1:
        return (config.epochs,) * config.information
    return tuple(sorted({1 + round((config.epochs - 1) * moment / last) for moment in range(last + 1)}))


def _optimizer(network: Network, config: TrialConfig) -> torch.optim.SGD:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if network.is_decayed(p)]},
        {"params": [p for p in network.parameters() if not network.is_decayed(p)], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.optimizer == "nesterov",
        fused=True,  # one pass over weights, gradients and momentum, where torch would take five
    )


def _schedule(optimizer: torch.optim.SGD, config: TrialConfig, steps: int) -> LRScheduler:
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if config.schedule == "linear":
        return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    return MultiStepLR(optimizer, milestones=[round(part * steps) for part in config.drops], gamma=0.1)


@contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    """An operation whose bits could differ from run to run raises within this block."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # NaN in every fresh tensor would show who reads what nobody wrote, and costs up to 5 % of a step
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill
