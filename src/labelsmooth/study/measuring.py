"""What is measured of a trained network, and of one while it is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.measure import (
    Calibration,
    Geometry,
    PNorm,
    Selective,
    Teacher,
    TemperatureScaling,
    equivalent_smoothing,
    logit_gap,
    mutual_information,
    plane_projection,
    teacher_agreement,
)
from labelsmooth.study.augment import augmented, centre
from labelsmooth.study.data import Data, Rows
from labelsmooth.study.models import Network
from labelsmooth.study.recipe import TrialConfig

# The three classes whose features are kept for the projection picture, and rows of each: more would only
# cover one another.
FEATURE_CLASSES = 3
FEATURE_ROWS = 300
# Inputs of each of two classes whose mutual information with their logits is measured, and draws of each.
INFORMATION_ROWS = 300
INFORMATION_DRAWS = 10
# Apart from the seed of the batches, so that looking does not change what is trained.
_INFORMATION_SEED = 2**30
# Rows in one forward pass of a measurement, so that large data sets need little memory, and convolutions find
# what they read in the cache: with 1,000 rows they take twice as long.
_CHUNK = 250
_OPTIONAL = ("triangle_error", "distilled")  # of the metrics: None where there is none


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
    smece: float
    aurc: float  # of the largest probability


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """How the penultimate features of one set of rows lie; the words of `measure.Geometry`."""

    spread: float
    spread_in_span: float  # that of the directions which the logits see
    class_separation: float
    nc1: float
    frame_error: float  # NC2 of the class means
    triangle_error: float | None  # the same of three class means in the plane of their templates: 0 for an
    # equilateral triangle; None of two classes


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One value per epoch, but for the information."""

    train_loss: tuple[float, ...]  # the objective, averaged over the epoch as the weights moved
    train_accuracy: tuple[float, ...]  # likewise; of mixed images by the label of the first of the two
    validation_nll: tuple[float, ...]  # after the epoch, as is the next
    validation_accuracy: tuple[float, ...]
    information_epochs: tuple[int, ...]  # after which the next was measured
    information: tuple[float, ...]  # nats; see `information_of`


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """How a student and its teacher stand to each other, at the temperature of the distillation."""

    equivalent_smoothing: float  # γ of the teacher on the training rows
    agreement: float  # share of test rows that both give the same class
    kl: float  # of the student from the teacher on the test rows, nats, both at T


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What was measured of one trained network."""

    temperature: float  # fitted on the validation rows; 1 where these could not tell one
    temperature_at_boundary: bool  # that they could not; see `measure.TemperatureScaling`
    pnorm: int  # p fitted on the validation rows; 0 where the largest probability was as good
    validation_nll: float
    validation_nll_with_temperature: float
    test: Scores
    test_with_temperature: Scores
    test_aurc_with_pnorm: float
    train_clusters: Clusters
    validation_clusters: Clusters
    train_gap: float  # mean over rows of the label's logit less the mean of the others; `measure.logit_gap`
    validation_gap: float
    test_gap: float
    wrong_information: float  # nats, of the validation rows; see `measure.Teacher`
    distilled: Distilled | None  # None of a network that had no teacher
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


def measure_network(
    network: Network, config: TrialConfig, data: Data, curves: Curves, teacher: Network | None
) -> tuple[Metrics, TrialArrays]:
    """All measures of a trained network in evaluation mode, and what pictures need of it.

    Args:
        network: that was trained.
        config: of its trial.
        data: that the config was made for.
        curves: of its training.
        teacher: the network that taught it, in evaluation mode.
    """
    train_features, train_logits = forward(network, config, data.train)
    validation_features, validation_logits = forward(network, config, data.validation)
    _, test_logits = forward(network, config, data.test)
    scaling = TemperatureScaling().fit(validation_logits, data.validation.labels)
    pnorm = PNorm().fit(validation_logits, data.validation.labels)
    selective = Selective()
    selective.update_scores(pnorm.confidence(test_logits), test_logits.argmax(-1) == data.test.labels)
    scaled_logits = test_logits if scaling.at_boundary else scaling.transform(test_logits)
    looked_at = Teacher()
    looked_at.update(validation_logits, data.validation.labels)
    weight = network.classifier.weight.cpu()
    bias = torch.zeros(len(weight)) if network.classifier.bias is None else network.classifier.bias.cpu()
    classes = torch.arange(min(FEATURE_CLASSES, len(weight)))
    metrics = Metrics(
        temperature=1.0 if scaling.at_boundary else scaling.temperature,
        temperature_at_boundary=scaling.at_boundary,
        pnorm=pnorm.p or 0,
        validation_nll=scaling.nll_before,
        validation_nll_with_temperature=scaling.nll_before if scaling.at_boundary else scaling.nll_after,
        test=_scores(test_logits, data.test),
        test_with_temperature=_scores(scaled_logits, data.test),
        test_aurc_with_pnorm=selective.compute().aurc,
        train_clusters=_clusters(train_features, data.train, weight, bias, classes),
        validation_clusters=_clusters(validation_features, data.validation, weight, bias, classes),
        train_gap=logit_gap(train_logits, data.train.labels).mean,
        validation_gap=logit_gap(validation_logits, data.validation.labels).mean,
        test_gap=logit_gap(test_logits, data.test.labels).mean,
        wrong_information=looked_at.compute().wrong_information,
        distilled=None if teacher is None else _distilled(test_logits, teacher, config, data),
        curves=curves,
    )
    train_shown = _first_of_classes(data.train.labels, classes, FEATURE_ROWS)
    validation_shown = _first_of_classes(data.validation.labels, classes, FEATURE_ROWS)
    arrays = TrialArrays(
        validation_logits=validation_logits.numpy(),
        validation_labels=data.validation.labels.numpy(),
        test_logits=test_logits.numpy(),
        test_labels=data.test.labels.numpy(),
        feature_classes=classes.numpy(),
        train_features=train_features[train_shown].numpy(),
        train_feature_labels=data.train.labels[train_shown].numpy(),
        validation_features=validation_features[validation_shown].numpy(),
        validation_feature_labels=data.validation.labels[validation_shown].numpy(),
        classifier_weight=weight.numpy(),
        classifier_bias=bias.numpy(),
    )
    return metrics, arrays


def undefined(metrics: dict[str, Any]) -> list[str]:
    """Names of what is no finite number in a dictionary of `Metrics`; None is right where it may be."""
    names: list[str] = []
    for name, value in metrics.items():
        if isinstance(value, dict):
            names += [f"{name}.{inner}" for inner in undefined(value)]
        elif value is not None or name not in _OPTIONAL:
            numbers = value if isinstance(value, list | tuple) else (value,)
            if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
                names.append(name)
    return names


def forward(network: Network, config: TrialConfig, rows: Rows) -> tuple[Tensor, Tensor]:
    """The features (N, D) and the logits (N, K) of all rows, with nothing left to chance."""
    return _classified(network, centre(rows.images, config.crop))


def information_of(network: Network, config: TrialConfig, data: Data) -> float:
    """Mutual information of training images and a logit difference under the trial's augmentation, in nats.

    Of the first INFORMATION_ROWS training images of each of the first two classes, with the difference of the
    logits of these two; see `measure.mutual_information`. Two clusters without structure give log 2.
    """
    rows = _first_of_classes(data.train.labels, torch.arange(2), INFORMATION_ROWS)
    images, chance = data.train.images[rows], torch.Generator().manual_seed(_INFORMATION_SEED + config.seed)
    differences: list[Tensor] = []
    for _ in range(INFORMATION_DRAWS + 1):
        _, logits = _classified(network, augmented(images, config, data, chance))
        differences.append(logits[:, 0] - logits[:, 1])
    *draws, fresh = differences
    return mutual_information(torch.stack(draws, -1), fresh)


def _classified(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits on the CPU, made in float32 where the network lies."""
    device = network.classifier.weight.device
    features, logits = [], []
    for chunk in torch.split(images, _CHUNK):
        seen = network.features(chunk.to(device))
        features.append(seen.cpu())
        logits.append(network.classifier(seen).cpu())
    return torch.cat(features), torch.cat(logits)


def _scores(logits: Tensor, rows: Rows) -> Scores:
    calibration, selective = Calibration(), Selective()
    calibration.update(logits, rows.labels)
    selective.update(logits, rows.labels)
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
        smece=result.smece,
        aurc=selective.compute().aurc,
    )


def _clusters(features: Tensor, rows: Rows, weight: Tensor, bias: Tensor, classes: Tensor) -> Clusters:
    geometry = Geometry(len(weight))
    geometry.update(features, rows.labels)
    result = geometry.compute(weight)
    assert result.classifier is not None
    triangle_error = None
    if len(classes) == FEATURE_CLASSES:
        projection = plane_projection(features, rows.labels, weight, bias, classes.tolist())
        plane = Geometry(FEATURE_CLASSES)
        plane.update(projection.points, projection.labels)
        triangle_error = plane.compute().frame.nc2
    return Clusters(
        spread=result.spread,
        spread_in_span=result.classifier.spread_in_span,
        class_separation=result.class_separation,
        nc1=result.nc1,
        frame_error=result.frame.nc2,
        triangle_error=triangle_error,
    )


def _distilled(test_logits: Tensor, teacher: Network, config: TrialConfig, data: Data) -> Distilled:
    _, train_logits = forward(teacher, config, data.train)
    _, teacher_logits = forward(teacher, config, data.test)
    agreement = teacher_agreement(test_logits, teacher_logits, config.temperature)
    return Distilled(
        equivalent_smoothing=equivalent_smoothing(train_logits, data.train.labels, config.temperature),
        agreement=agreement.agreement,
        kl=agreement.kl,
    )


def _first_of_classes(labels: Tensor, classes: Tensor, rows: int) -> Tensor:
    """Row numbers of the first rows of each class."""
    return torch.cat([(labels == label).nonzero().squeeze(1)[:rows] for label in classes])
