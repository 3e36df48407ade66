"""One trial: train a network at one ε from one seed, then measure it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from labelsmooth.losses import cross_entropy
from labelsmooth.measure import Calibration, TemperatureScaling, logit_gap, within_class_spread
from labelsmooth.study.augment import augmented, centre, seen_shape
from labelsmooth.study.data import Data, Rows
from labelsmooth.study.models import Network, build_network
from labelsmooth.study.noise import with_label_noise
from labelsmooth.study.recipe import TrialConfig

# The three classes whose features are kept for the projection picture, and rows of each: more would only
# cover one another.
FEATURE_CLASSES = 3
FEATURE_ROWS = 300
# Rows in one forward pass of a measurement, so that large data sets need little memory.
_CHUNK = 1000
_TIMED_STEPS = 20  # at most
# Dropout draws from torch's global state; apart from the seeds of weights and batches, which are far smaller.
_DROPOUT_SEED = 2**31


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How good and how honest the predictions on one set of rows are; the words of `measure.Calibration`."""

    rows: int
    accuracy: float
    nll: float
    brier: float
    mean_confidence: float
    over_confidence: float
    ece: float
    mce: float


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One value per epoch."""

    train_loss: tuple[float, ...]  # the smoothed objective, averaged over the epoch as the weights moved
    train_accuracy: tuple[float, ...]  # likewise
    validation_nll: tuple[float, ...]  # after the epoch, as is the next
    validation_accuracy: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What was measured of one trained network."""

    temperature: float  # fitted on the validation rows; 1 where these could not tell one
    temperature_at_boundary: bool  # that they could not; see `measure.TemperatureScaling`
    validation_nll: float
    validation_nll_with_temperature: float
    test: Scores
    test_with_temperature: Scores
    train_spread: float  # of the penultimate features of all classes; see `measure.within_class_spread`
    validation_spread: float
    train_gap: float  # mean over rows of the label's logit less the mean of the others; `measure.logit_gap`
    validation_gap: float
    test_gap: float
    curves: Curves


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialArrays:
    """What pictures and later measurements need of one trained network: D features, K classes."""

    validation_logits: NDArray[np.float32]  # (N, K)
    validation_labels: NDArray[np.int64]  # (N,)
    test_logits: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    feature_classes: NDArray[np.int64]  # (3,), or (2,) of two: the classes whose features follow
    train_features: NDArray[np.float32]  # (M, D), at most FEATURE_ROWS of each class
    train_feature_labels: NDArray[np.int64]  # (M,)
    validation_features: NDArray[np.float32]
    validation_feature_labels: NDArray[np.int64]
    classifier_weight: NDArray[np.float32]  # (K, D), the class templates
    classifier_bias: NDArray[np.float32]  # (K,)


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A finished trial, in memory."""

    config: TrialConfig
    metrics: Metrics
    arrays: TrialArrays
    seconds: float  # that it took


def train_trial(config: TrialConfig, data: Data, on_epoch: Callable[[], None]) -> TrialResult:
    """Train one network and measure it; the same config gives the same numbers, bit for bit.

    Where the config has label noise, the wrong labels are those of the training rows everywhere, as nobody
    would know better: in the loss, in the training accuracy and in the spread of their classes.

    Initial weights, the order of the batches, augmentation and dropout depend on the seed alone, so trials
    that differ only in ε are paired. Bits can differ between machines, torch versions and numbers of threads.

    Args:
        config: of the trial.
        data: that the config was made for.
        on_epoch: called after every epoch.

    Returns:
        The metrics and arrays; torch's global random state is left as it was.

    Raises:
        ValueError: the training diverged, or the model cannot take this data.
    """
    start = time.monotonic()
    data = with_label_noise(data, config.label_noise)
    shape = seen_shape(config, data.summary.shape)
    network = build_network(config.model, shape, len(data.summary.class_names), config.seed)
    with _deterministic_algorithms(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_DROPOUT_SEED + config.seed)
        curves = _train(network, config, data, on_epoch)
        network.eval()
        with torch.no_grad():
            metrics, arrays = _measure(network, config, data, curves)
    return TrialResult(config=config, metrics=metrics, arrays=arrays, seconds=time.monotonic() - start)


def time_training(config: TrialConfig, data: Data) -> tuple[float, float]:
    """Seconds of one step of training, and of one row of evaluation, from a few of each.

    Args:
        config: of a trial.
        data: that the config was made for.

    Raises:
        ValueError: the model cannot take this data.
    """
    shape = seen_shape(config, data.summary.shape)
    network = build_network(config.model, shape, len(data.summary.class_names), config.seed)
    optimizer = _optimizer(network, config)
    chance = torch.Generator()
    few = Rows(images=data.validation.images[:_CHUNK], labels=data.validation.labels[:_CHUNK])
    with _deterministic_algorithms(), torch.random.fork_rng(devices=[]):
        rows = len(data.train.labels)
        batches = torch.randint(rows, (_TIMED_STEPS, min(config.batch_size, rows)), generator=chance)
        steps = _median_seconds(
            [partial(_step, network, optimizer, config, data, batch, chance) for batch in batches]
        )
        network.eval()
        with torch.no_grad():
            evaluation = _median_seconds([partial(_forward, network, config, few)] * 3)
    return steps, evaluation / len(few.labels)


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


def _train(network: Network, config: TrialConfig, data: Data, on_epoch: Callable[[], None]) -> Curves:
    rows = len(data.train.labels)
    optimizer = _optimizer(network, config)
    steps = config.epochs * math.ceil(rows / config.batch_size)
    schedule = _schedule(optimizer, config, steps)
    chance = torch.Generator().manual_seed(config.seed)  # of the order of the batches, and of augmentation
    train_loss, train_accuracy, validation_nll, validation_accuracy = [], [], [], []
    for epoch in range(config.epochs):
        network.train()
        loss_sum, correct = 0.0, 0
        for batch in torch.split(torch.randperm(rows, generator=chance), config.batch_size):
            loss, right = _step(network, optimizer, config, data, batch, chance)
            schedule.step()
            loss_sum += loss * len(batch)
            correct += right
        network.eval()
        with torch.no_grad():
            _, logits = _forward(network, config, data.validation)
        if not (math.isfinite(loss_sum) and logits.isfinite().all() and (logits != logits[0]).any()):
            raise ValueError(
                f"the training broke down at eps {config.eps:g}, seed {config.seed}, in epoch {epoch + 1}: "
                f"the logits are infinite, or the same for every image; "
                f"the learning rate {config.learning_rate:g} is too large for this data"
            )
        validation = _scores(logits, data.validation)
        train_loss.append(loss_sum / rows)
        train_accuracy.append(correct / rows)
        validation_nll.append(validation.nll)
        validation_accuracy.append(validation.accuracy)
        on_epoch()
    return Curves(
        train_loss=tuple(train_loss),
        train_accuracy=tuple(train_accuracy),
        validation_nll=tuple(validation_nll),
        validation_accuracy=tuple(validation_accuracy),
    )


def _step(
    network: Network,
    optimizer: torch.optim.SGD,
    config: TrialConfig,
    data: Data,
    batch: Tensor,  # (B,), numbers of training rows
    chance: torch.Generator,
) -> tuple[float, int]:
    """One step of training; the mean loss of the batch, and how many of its rows were right."""
    loss, stats = cross_entropy(
        network(augmented(data.train.images[batch], config, data, chance)),
        data.train.labels[batch],
        label_smoothing=config.eps,
        return_stats=True,
    )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item(), int(stats.correct.sum())


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
    )


def _schedule(optimizer: torch.optim.SGD, config: TrialConfig, steps: int) -> LRScheduler:
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    return MultiStepLR(optimizer, milestones=[round(part * steps) for part in config.drops], gamma=0.1)


def _measure(
    network: Network, config: TrialConfig, data: Data, curves: Curves
) -> tuple[Metrics, TrialArrays]:
    train_features, train_logits = _forward(network, config, data.train)
    validation_features, validation_logits = _forward(network, config, data.validation)
    _, test_logits = _forward(network, config, data.test)
    scaling = TemperatureScaling().fit(validation_logits, data.validation.labels)
    scaled_logits = test_logits if scaling.at_boundary else scaling.transform(test_logits)
    metrics = Metrics(
        temperature=1.0 if scaling.at_boundary else scaling.temperature,
        temperature_at_boundary=scaling.at_boundary,
        validation_nll=scaling.nll_before,
        validation_nll_with_temperature=scaling.nll_before if scaling.at_boundary else scaling.nll_after,
        test=_scores(test_logits, data.test),
        test_with_temperature=_scores(scaled_logits, data.test),
        train_spread=within_class_spread(train_features, data.train.labels),
        validation_spread=within_class_spread(validation_features, data.validation.labels),
        train_gap=logit_gap(train_logits, data.train.labels).mean,
        validation_gap=logit_gap(validation_logits, data.validation.labels).mean,
        test_gap=logit_gap(test_logits, data.test.labels).mean,
        curves=curves,
    )
    feature_classes = torch.arange(min(FEATURE_CLASSES, len(data.summary.class_names)))
    train_shown = _first_of_classes(data.train.labels, feature_classes)
    validation_shown = _first_of_classes(data.validation.labels, feature_classes)
    weight, bias = network.classifier.weight, network.classifier.bias
    arrays = TrialArrays(
        validation_logits=validation_logits.numpy(),
        validation_labels=data.validation.labels.numpy(),
        test_logits=test_logits.numpy(),
        test_labels=data.test.labels.numpy(),
        feature_classes=feature_classes.numpy(),
        train_features=train_features[train_shown].numpy(),
        train_feature_labels=data.train.labels[train_shown].numpy(),
        validation_features=validation_features[validation_shown].numpy(),
        validation_feature_labels=data.validation.labels[validation_shown].numpy(),
        classifier_weight=weight.numpy(),
        classifier_bias=(torch.zeros(len(weight)) if bias is None else bias).numpy(),
    )
    return metrics, arrays


def _forward(network: Network, config: TrialConfig, rows: Rows) -> tuple[Tensor, Tensor]:
    """The features (N, D) and the logits (N, K) of all rows, with nothing left to chance."""
    seen = centre(rows.images, config.crop)
    features = torch.cat([network.features(images) for images in torch.split(seen, _CHUNK)])
    return features, network.classifier(features)


def _scores(logits: Tensor, rows: Rows) -> Scores:
    calibration = Calibration()
    calibration.update(logits, rows.labels)
    result = calibration.compute()
    return Scores(
        rows=result.rows,
        accuracy=result.accuracy,
        nll=result.nll,
        brier=result.brier,
        mean_confidence=result.mean_confidence,
        over_confidence=result.over_confidence,
        ece=result.ece,
        mce=result.mce,
    )


def _first_of_classes(labels: Tensor, classes: Tensor) -> Tensor:
    """Row numbers of the first FEATURE_ROWS rows of each class."""
    return torch.cat([(labels == label).nonzero().squeeze(1)[:FEATURE_ROWS] for label in classes])


@contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    """An operation whose bits could differ from run to run raises within this block."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
