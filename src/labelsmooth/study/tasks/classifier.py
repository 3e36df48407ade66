"""What is measured of any classifier with one last linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure import (
    Calibration,
    Geometry,
    PNorm,
    Selective,
    Teacher,
    TemperatureScaling,
    equivalent_smoothing,
    logit_gap,
    plane_projection,
    teacher_agreement,
)
from labelsmooth.measure.pnorm import POWERS
from labelsmooth.study.tasks.base import Curves

# The three classes whose features are kept for the projection picture, and rows of each: more would only
# cover one another.
FEATURE_CLASSES = 3
FEATURE_ROWS = 300


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
    nc2: float  # NC2 of the class means
    nc2_triangle: float | None  # the same of three class means in the plane of their templates: 0 for an
    # equilateral triangle; None of two classes


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

    def check(self) -> None:
        """Refuse what no fit gives, as a file that was altered may hold it."""
        if self.temperature <= 0:
            raise InputError(f"temperature must be above 0, got {self.temperature:g}")
        if self.pnorm not in (0, *POWERS):
            raise InputError(f"pnorm must lie in 0..{POWERS[-1]}, got {self.pnorm}")


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

    def check(self, metrics: Metrics) -> None:
        """Refuse arrays that do not fit together, or are not of the rows that were measured."""
        if len(self.test_labels) != metrics.test.rows:
            raise InputError(f"test_labels must be of {metrics.test.rows} rows, got {len(self.test_labels)}")
        classes, width = self.classifier_weight.shape if self.classifier_weight.ndim == 2 else (0, 0)
        for name, labels, columns in (
            ("validation_logits", self.validation_labels, classes),
            ("test_logits", self.test_labels, classes),
            ("train_features", self.train_feature_labels, width),
            ("validation_features", self.validation_feature_labels, width),
        ):
            _check_rows(name, getattr(self, name), labels, columns, classes)
        _check_numbers("classifier_weight", self.classifier_weight, (classes, width))
        _check_numbers("classifier_bias", self.classifier_bias, (classes,))
        shown = self.feature_classes
        if shown.dtype.kind != "i" or not np.array_equal(shown, np.arange(min(FEATURE_CLASSES, classes))):
            raise InputError(f"feature_classes must name the first classes, got {shown}")


def _check_rows(name: str, rows: NDArray[Any], labels: NDArray[Any], columns: int, num_classes: int) -> None:
    """Refuse rows that are not finite numbers of this width, each with a label in 0..num_classes−1."""
    _check_numbers(name, rows, (len(labels) if labels.ndim == 1 else -1, columns))
    if labels.dtype.kind != "i" or (len(labels) and not 0 <= labels.min() <= labels.max() < num_classes):
        raise InputError(f"the labels of {name} must be integers in 0..{num_classes - 1}")


def _check_numbers(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse values that are not finite floats of this shape."""
    if values.dtype.kind != "f" or values.shape != shape or not np.isfinite(values).all():
        raise InputError(
            f"{name} must hold finite floats of the shape {shape}, got {values.dtype} of {values.shape}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a trained network makes of one set of rows, on the CPU."""

    features: Tensor  # (N, D)
    logits: Tensor  # (N, K)
    labels: Tensor  # (N,)


def measure_classifier(
    train: Predictions,
    validation: Predictions,
    test: Predictions,
    weight: Tensor,  # (K, D)
    bias: Tensor | None,  # (K,)
    curves: Curves,
    distilled: Distilled | None,
) -> tuple[Metrics, TrialArrays]:
    """Measure a classifier with one last linear layer, and keep what pictures need of it."""
    scaling = TemperatureScaling().fit(validation.logits, validation.labels)
    pnorm = PNorm().fit(validation.logits, validation.labels)
    selective = Selective()
    selective.update_scores(pnorm.confidence(test.logits), test.logits.argmax(-1) == test.labels)
    scaled_logits = test.logits if scaling.at_boundary else scaling.transform(test.logits)
    looked_at = Teacher()
    looked_at.update(validation.logits, validation.labels)
    bias = torch.zeros(len(weight)) if bias is None else bias
    classes = torch.arange(min(FEATURE_CLASSES, len(weight)))
    metrics = Metrics(
        temperature=1.0 if scaling.at_boundary else scaling.temperature,
        temperature_at_boundary=scaling.at_boundary,
        pnorm=pnorm.p or 0,
        validation_nll=scaling.nll_before,
        validation_nll_with_temperature=scaling.nll_before if scaling.at_boundary else scaling.nll_after,
        test=_scores(test.logits, test.labels),
        test_with_temperature=_scores(scaled_logits, test.labels),
        test_aurc_with_pnorm=selective.compute().aurc,
        train_clusters=_clusters(train.features, train.labels, weight, bias, classes),
        validation_clusters=_clusters(validation.features, validation.labels, weight, bias, classes),
        train_gap=logit_gap(train.logits, train.labels).mean,
        validation_gap=logit_gap(validation.logits, validation.labels).mean,
        test_gap=logit_gap(test.logits, test.labels).mean,
        wrong_information=looked_at.compute().wrong_information,
        distilled=distilled,
        curves=curves,
    )
    train_shown = first_of_classes(train.labels, classes, FEATURE_ROWS)
    validation_shown = first_of_classes(validation.labels, classes, FEATURE_ROWS)
    arrays = TrialArrays(
        validation_logits=validation.logits.numpy(),
        validation_labels=validation.labels.numpy(),
        test_logits=test.logits.numpy(),
        test_labels=test.labels.numpy(),
        feature_classes=classes.numpy(),
        train_features=train.features[train_shown].numpy(),
        train_feature_labels=train.labels[train_shown].numpy(),
        validation_features=validation.features[validation_shown].numpy(),
        validation_feature_labels=validation.labels[validation_shown].numpy(),
        classifier_weight=weight.numpy(),
        classifier_bias=bias.numpy(),
    )
    return metrics, arrays


def _scores(logits: Tensor, labels: Tensor) -> Scores:
    calibration, selective = Calibration(), Selective()
    calibration.update(logits, labels)
    selective.update(logits, labels)
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


def _clusters(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, classes: Tensor) -> Clusters:
    geometry = Geometry(len(weight))
    geometry.update(features, labels)
    result = geometry.compute(weight)
    assert result.classifier is not None
    nc2_triangle = None
    if len(classes) == FEATURE_CLASSES:
        projection = plane_projection(features, labels, weight, bias, classes.tolist())
        plane = Geometry(FEATURE_CLASSES)
        plane.update(projection.points, projection.labels)
        nc2_triangle = plane.compute().frame.nc2
    return Clusters(
        spread=result.spread,
        spread_in_span=result.classifier.spread_in_span,
        class_separation=result.class_separation,
        nc1=result.nc1,
        nc2=result.frame.nc2,
        nc2_triangle=nc2_triangle,
    )


def measure_student(
    student: Predictions, teacher_train: Predictions, teacher_test: Tensor, temperature: float
) -> Distilled:
    """Measure a student against its teacher, at the temperature of the distillation.

    Args:
        student: on the test rows.
        teacher_train: of the teacher on the training rows.
        teacher_test: its logits (N, K) of the test rows.
        temperature: T > 0.
    """
    agreement = teacher_agreement(student.logits, teacher_test, temperature)
    return Distilled(
        equivalent_smoothing=equivalent_smoothing(teacher_train.logits, teacher_train.labels, temperature),
        agreement=agreement.agreement,
        kl=agreement.kl,
    )


def first_of_classes(labels: Tensor, classes: Tensor, rows: int) -> Tensor:
    """Number the first rows of each class."""
    return torch.cat([(labels == label).nonzero().squeeze(1)[:rows] for label in classes])
