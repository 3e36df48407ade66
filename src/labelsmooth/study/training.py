"""One trial: train a network for one objective from one seed, then measure it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR

from labelsmooth.errors import InputError
from labelsmooth.objectives import Criterion, Loss, Objective, TrainingFacts
from labelsmooth.row_stats import row_stats
from labelsmooth.study.augment import augmented, seen_shape
from labelsmooth.study.data import Data, DataSummary
from labelsmooth.study.measuring import (
    Curves,
    Metrics,
    TrialArrays,
    forward,
    information_of,
    measure_network,
    undefined,
)
from labelsmooth.study.mixup import Mixing
from labelsmooth.study.models import Network, build_network
from labelsmooth.study.noise import with_label_noise
from labelsmooth.study.placement import Placement, make_placement
from labelsmooth.study.recipe import TrialConfig
from labelsmooth.study.versions import Versions, versions_here

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
            raise InputError(
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
    versions: Versions


def train_trial(
    config: TrialConfig, data: Data, on_epoch: Callable[[], None], teacher: TrainedNetwork | None = None
) -> TrialResult:
    """Train one network and measure it; the same config gives the same numbers, bit for bit.

    Where the config has label noise, the wrong labels are those of the training rows everywhere, as nobody
    would know better: in the loss, in the training accuracy and in the spread of their classes.

    Initial weights, the order of the batches, augmentation and dropout depend on the seed alone, so trials
    that differ only in their objective or teacher are paired. Bits can differ between machines, torch
    versions, devices and numbers of threads or processes.

    Where several processes train together (`accelerate launch`, `torchrun`), all of them call this, and all
    get the same result: each batch is shared out, its gradient is that of the one mean, and its own mean and
    variance normalise it; only dropout is other than in one process.

    Args:
        config: of the trial.
        data: that the config was made for.
        on_epoch: called after every epoch.
        teacher: of a student, that of the trial `config.teacher`.

    Returns:
        The metrics, arrays and weights; torch's global random state is left as it was.

    Raises:
        ValueError: the training diverged, the model cannot take this data, or accelerate is missing or cannot
            do the precision of the config here.
    """
    start = time.monotonic()
    data = with_label_noise(data, config.label_noise)
    placement = make_placement(config.precision)
    versions = versions_here(str(placement.device), placement.processes)
    with placement.deterministic(), placement.chance() as seed:
        training = Training(config, data, teacher, placement)
        seed(_DROPOUT_SEED + config.seed)
        curves = training.run(on_epoch)
        network = training.network.eval()
        with torch.no_grad():
            measure = partial(measure_network, network, config, data, curves, training.teacher)
            metrics, arrays = placement.from_first(measure)
    if names := undefined(asdict(metrics)):
        raise InputError(
            f"the network of {config.words} cannot be measured, as {', '.join(names)} cannot be told: it "
            f"broke down, perhaps because the learning rate {config.learning_rate:g} is too large"
        )
    return TrialResult(
        config=config,
        metrics=metrics,
        arrays=arrays,
        weights={name: value.cpu().numpy() for name, value in network.state_dict().items()},
        versions=replace(versions, seconds=time.monotonic() - start),
    )


def new_network(config: TrialConfig, data: DataSummary) -> Network:
    """The network of a trial as its training begins.

    Raises:
        ValueError: the model cannot take this data.
    """
    return build_network(config.model, seen_shape(config, data.shape), len(data.class_names), config.seed)


def batch_sizes(rows: int, config: TrialConfig, network: Network) -> list[int]:
    """Rows of the batches of an epoch: all of the config's size, and the rest in a last one.

    A last batch of one row joins the one before it where the network normalises over batches, since one row
    has no deviation.

    Raises:
        InputError: the config asks for batches of one row for such a network.
    """
    sizes = [config.batch_size] * (rows // config.batch_size)
    if rest := rows % config.batch_size:
        sizes.append(rest)
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        if config.batch_size == 1:
            raise InputError(
                f"batch_size must be at least 2 for the batch normalisation of {config.model}, got 1"
            )
        if sizes[-1] == 1:
            sizes[-2:] = [config.batch_size + 1]
    return sizes


class Training:
    """A network with all that its training needs, step by step.

    Args:
        config: of the trial.
        data: that the config was made for.
        teacher: of a student.
        placement: that trains.
    """

    def __init__(
        self, config: TrialConfig, data: Data, teacher: TrainedNetwork | None, placement: Placement
    ) -> None:
        self.network = new_network(config, data.summary)
        self.teacher = None if teacher is None else teacher.load(data.summary).to(placement.device)
        self._config = config
        self._data = data
        self._placement = placement
        self._rows = len(data.train.labels)
        self._batches = batch_sizes(self._rows, config, self.network)
        self._steps = config.epochs * len(self._batches)
        optimizer = _optimizer(self.network, config)
        self._schedule = _schedule(optimizer, config, self._steps)
        self._trained, self._optimizer = placement.prepare(self.network, optimizer)
        objective = Objective.parse(config.objective)
        if teacher is not None:
            objective = Objective("distillation", (config.temperature, config.beta))
        num_classes = len(data.summary.class_names)
        counts = torch.bincount(data.train.labels, minlength=num_classes)
        self._criterion = objective.criterion(
            TrainingFacts(class_counts=counts, steps=self._steps, total=placement.total)
        )
        self._mixing = Mixing(objective.mixup, num_classes, config.seed) if objective.mixup else None
        # of the order of the batches, and of augmentation
        self._chance = torch.Generator().manual_seed(config.seed)

    def run(self, on_epoch: Callable[[], None]) -> Curves:
        """Train to the end."""
        train_loss, train_accuracy, validation_nll, validation_accuracy = [], [], [], []
        moments, information = _moments(self._config), []
        for epoch in range(1, self._config.epochs + 1):
            loss, accuracy = self.epoch()
            self.network.eval()
            looked_at = self._placement.from_first(partial(self._look, informed=epoch in moments))
            if looked_at is None or not math.isfinite(loss):
                raise InputError(
                    f"the training of {self._config.words} broke down in epoch {epoch}: the logits are "
                    "infinite, or the same for every image; most likely the learning rate "
                    f"{self._config.learning_rate:g} is too large"
                )
            nll, right, nats = looked_at
            train_loss.append(loss)
            train_accuracy.append(accuracy)
            validation_nll.append(nll)
            validation_accuracy.append(right)
            if nats is not None:
                information.append(nats)
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
        order = torch.randperm(self._rows, generator=self._chance)
        losses, correct, lengths = [], [], []
        for batch in torch.split(order, self._batches):
            loss, right = self.step(batch)
            self._schedule.step()
            losses.append(loss)
            correct.append(right)
            lengths.append(len(batch))
        self._criterion.epoch_done()
        # read here and not after every step, which would make a GPU wait; MPS has no float64
        sums = (
            torch.stack(losses).cpu().double() @ torch.tensor(lengths).double(),
            torch.stack(correct).sum(),
        )
        loss_sum, right_sum = self._placement.total(torch.tensor([float(part) for part in sums]).double())
        return float(loss_sum) / self._placement.processes / self._rows, float(right_sum) / self._rows

    def step(
        self,
        batch: Tensor,  # (B,), numbers of training rows
    ) -> tuple[Tensor, Tensor]:
        """One step of training: the mean loss of the batch, and how many of its rows were right, both 0-d.

        Of several processes the loss is one whose mean over them is that of the batch, and the rows are those
        of this one. All of them augment the whole batch, so that chance gives an image what it would in one.
        """
        images, labels = self._data.train.images[batch], self._data.train.labels[batch]
        images = augmented(images, self._config, self._data, self._chance)
        loss, correct = batch_loss(
            self._trained, images, labels, self._criterion, self._placement, self._mixing, self.teacher
        )
        self._placement.step(loss, self._optimizer, self.network.parameters(), self._config.clip)
        return loss.detach(), correct

    @torch.no_grad()
    def _look(self, informed: bool) -> tuple[float, float, float | None] | None:
        """NLL and accuracy on the validation rows, and the information if asked; None after a breakdown."""
        _, logits = forward(self.network, self._config, self._data.validation)
        if not (logits.isfinite().all() and (logits != logits[0]).any()):
            return None
        stats = row_stats(logits.double(), index=self._data.validation.labels.unsqueeze(-1))
        nats = information_of(self.network, self._config, self._data) if informed else None
        return float(stats.nll.mean()), float(stats.correct.double().mean()), nats


def batch_loss(
    network: nn.Module,
    images: Tensor,  # (B, ...)
    labels: Tensor,  # (B,)
    criterion: Criterion,
    placement: Placement,
    mixing: Mixing | None = None,
    teacher: nn.Module | None = None,
) -> Loss:
    """Compute the loss of a batch of images.

    Of several processes the mean of their losses is that of the batch, and each counts the rows of its share
    that are right.
    """
    target = None
    if mixing is not None:
        images, target = mixing(images, labels, criterion.target_smoothing, placement.portion)
    images = placement.portion(images)
    teacher_logits = None
    if teacher is not None:
        with torch.no_grad():
            teacher_logits = teacher(images)
    return criterion(
        network(images),
        placement.portion(labels),
        denominator=len(labels) / placement.processes,
        target=target,
        teacher=teacher_logits,
    )


def _moments(config: TrialConfig) -> tuple[int, ...]:
    """The epochs after which the information is measured: from the first to the last, evenly spread."""
    moments = min(config.information, config.epochs)
    if moments < 2:
        return (config.epochs,) * moments
    return tuple(1 + round((config.epochs - 1) * moment / (moments - 1)) for moment in range(moments))


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
