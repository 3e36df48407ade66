"""What is measured of any classifier with one last linear layer, and the arrays that it is computed from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.evaluation import (
    Evaluation,
    Fitted,
    Numbers,
    Split,
    evaluate,
    exactly,
    fit,
    layer_numbers,
    numbers_of,
    ordered,
)
from labelsmooth.measure import Geometry, Teacher, teacher_agreement
from labelsmooth.measure.arrays import State
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.protocol import Measure, Table
from labelsmooth.predictions import InMemory
from labelsmooth.study.tasks.base import Metrics
from labelsmooth.study.tasks.shown import Floats

# The three classes whose features are kept for the projection picture, and rows of each: more would only
# cover one another.
FEATURE_CLASSES = 3
FEATURE_ROWS = 300

# groups of the catalogue whose numbers the rows of a sound network may leave untold
_MAY_BE_UNTOLD = ("repair", "smoothing")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialArrays:
    """The arrays that the numbers and pictures of a trained network are computed from: D features, K classes.

    Training rows and most features are too many to store; of them there is what the measures have counted.
    """

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
    train_geometry: State  # of `measure.Geometry`
    validation_geometry: State
    train_teacher: State  # of `measure.Teacher`
    taught_by: State = field(default_factory=dict)  # of a student's teacher at T, on the training rows
    teacher_test_logits: NDArray[np.float32] | None = None  # (N, K), likewise

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
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
        if self.teacher_test_logits is not None:
            _check_numbers("teacher_test_logits", self.teacher_test_logits, self.test_logits.shape)
        shown = self.feature_classes
        if shown.dtype.kind != "i" or not np.array_equal(shown, np.arange(min(FEATURE_CLASSES, classes))):
            raise InputError(f"feature_classes must name the first classes, got {shown}")
        for name, measure in (
            ("train_geometry", Geometry(classes)),
            ("validation_geometry", Geometry(classes)),
            ("train_teacher", Teacher()),
        ):
            _check_state(name, getattr(self, name), measure)
        if self.taught_by:
            _check_state("taught_by", self.taught_by, Teacher())

    @property
    def classifier(self) -> tuple[Tensor, Tensor]:
        """The last layer's weight (K, D) and bias (K,)."""
        return torch.from_numpy(self.classifier_weight), torch.from_numpy(self.classifier_bias)


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


def _check_state(name: str, state: State, measure: Measure) -> None:
    """Refuse what is not the state of such a measure with at least one row."""
    expected = measure.state()
    kinds = {part: array.dtype.kind for part, array in state.items()}
    if kinds != {part: array.dtype.kind for part, array in expected.items()}:
        raise InputError(f"{name} must hold {', '.join(expected)}, got {', '.join(state) or 'none'}")
    if not all(np.isfinite(array).all() for array in state.values()):
        raise InputError(f"{name} must hold finite numbers")
    measure.load(state)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The predictions of a trained network for one set of rows, on the CPU."""

    features: Tensor  # (N, D)
    logits: Tensor  # (N, K)
    labels: Tensor  # (N,)


def arrays_of(
    train: Iterable[Predictions],
    validation: Predictions,
    test: Predictions,
    weight: Tensor,  # (K, D)
    bias: Tensor | None,  # (K,)
) -> TrialArrays:
    """Keep of a network's predictions what its numbers and pictures are computed from.

    Those for the training rows come in parts, as they are only counted.
    """
    bias = torch.zeros(len(weight)) if bias is None else bias
    classes = torch.arange(min(FEATURE_CLASSES, len(weight)))
    geometry, teacher, shown = Geometry(len(weight)), Teacher(), []
    for part in train:
        geometry.update(part.features, part.labels)
        teacher.update(part.logits, part.labels)
        shown.append(_shown(part.features, part.labels, classes))
    features, labels = (torch.cat(part) for part in zip(*shown, strict=True))
    train_features, train_labels = _shown(features, labels, classes)
    validation_features, validation_labels = _shown(validation.features, validation.labels, classes)
    validation_geometry = Geometry(len(weight))
    validation_geometry.update(validation.features, validation.labels)
    return TrialArrays(
        validation_logits=validation.logits.numpy(),
        validation_labels=validation.labels.numpy(),
        test_logits=test.logits.numpy(),
        test_labels=test.labels.numpy(),
        feature_classes=classes.numpy(),
        train_features=train_features.numpy(),
        train_feature_labels=train_labels.numpy(),
        validation_features=validation_features.numpy(),
        validation_feature_labels=validation_labels.numpy(),
        classifier_weight=weight.numpy(),
        classifier_bias=bias.numpy(),
        train_geometry=geometry.state(),
        validation_geometry=validation_geometry.state(),
        train_teacher=teacher.state(),
    )


def _shown(features: Tensor, labels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The rows whose features are kept, with their labels."""
    rows = first_of_classes(labels, classes, FEATURE_ROWS)
    return features[rows], labels[rows]


def teacher_state(parts: Iterable[Predictions], temperature: float) -> State:
    """Count what a network would teach at a temperature on rows that come in parts."""
    teacher = Teacher(temperature)
    for part in parts:
        teacher.update(part.logits, part.labels)
    return teacher.state()


def first_of_classes(labels: Tensor, classes: Tensor, rows: int) -> Tensor:
    """Number the first rows of each class."""
    return torch.cat([(labels == label).nonzero().squeeze(1)[:rows] for label in classes])


def evaluate_test(arrays: TrialArrays, fitted: Fitted | None = None) -> Evaluation:
    """Evaluate the test rows, with what is fitted on the validation rows; None fits it anew."""
    return evaluate(_split(arrays), fitted, intervals=False)


def classifier_tables(arrays: TrialArrays) -> Mapping[str, Mapping[str, Table]]:
    """Give the tables for pictures of the test rows, by part of the metrics."""
    figures = evaluate_test(arrays).figures
    named = {"all": "test", "with_temperature": "test_with_temperature", "with_pnorm": "test_with_pnorm"}
    return {name: figures[part] for part, name in named.items() if part in figures}


def constant_guess(labels: NDArray[np.int64]) -> dict[str, Floats]:
    """Give accuracy and nll of each row (N,) where all are given the shares of the classes among them."""
    shares = np.bincount(labels) / len(labels)
    return {"accuracy": (labels == shares.argmax()).astype(np.float64), "nll": -np.log(shares[labels])}


def _split(arrays: TrialArrays) -> Split:
    return Split(
        InMemory(arrays.test_logits, arrays.test_labels, name="the test rows"),
        validation=_validation(arrays),
    )


def _validation(arrays: TrialArrays) -> InMemory:
    return InMemory(arrays.validation_logits, arrays.validation_labels, name="the validation rows")


def measure_classifier(arrays: TrialArrays, temperature: float | None) -> Metrics:
    """Measure a classifier with one last linear layer.

    Args:
        arrays: that were kept of it.
        temperature: of its distillation; None for a network that had no teacher.

    Returns:
        The numbers by the names of the catalogue, without those that the rows cannot tell, of

        - test, validation: these rows as given; with the last layer of validation rows
        - test_with_temperature, test_with_pnorm, and likewise of validation: the same rows with what was
          fitted on the validation rows; the first are missing where no temperature could be told
        - fitted: the temperature, the p and the number of validation rows
        - train: the last layer and what the logits would teach
        - distilled: of a student, what its teacher taught on the training rows at the temperature of the
          distillation, and how near the two are on the test rows

    Cost: a few passes over the logits in float64; 0.2 s for 10,000 rows each, of 10 classes.
    """
    fitted = fit(_split(arrays))
    validation = _validation(arrays)
    tested = evaluate_test(arrays, fitted)
    validated = evaluate(Split(validation, validation=validation), fitted, intervals=False)
    numbers = {**_numbers("test", tested), **_numbers("validation", validated)}
    numbers["fitted"] = tested.numbers["fitted"]
    numbers["validation"] = {**numbers["validation"], **_layer(arrays, arrays.validation_geometry)}
    numbers["train"] = {**_taught(arrays.train_teacher, 1.0), **_layer(arrays, arrays.train_geometry)}
    if temperature is not None:
        if arrays.teacher_test_logits is None or not arrays.taught_by:
            raise InputError("the arrays of a student must hold what its teacher made of the rows, got none")
        agreement = teacher_agreement(arrays.test_logits, arrays.teacher_test_logits, temperature)
        near = {name: exactly(value) for name, value in agreement.values().items()}
        numbers["distilled"] = {**_taught(arrays.taught_by, temperature), **near}
    return {name: plain_values(part) for name, part in numbers.items()}


def _numbers(rows: str, evaluation: Evaluation) -> dict[str, Numbers]:
    """The parts of an evaluation, by the rows that they are of and what was done to their predictions."""
    parts = evaluation.numbers
    found: dict[str, Numbers] = {rows: {**parts["all"], **parts["teacher"], **parts["smoothing"]}}
    for repair in ("with_temperature", "with_pnorm"):
        if repair in parts:
            found[f"{rows}_{repair}"] = parts[repair]
    return found


def _layer(arrays: TrialArrays, state: State) -> Numbers:
    geometry = Geometry(len(arrays.classifier_weight))
    geometry.load(state)
    return layer_numbers(geometry, arrays.classifier)


def _taught(state: State, temperature: float) -> Numbers:
    teacher = Teacher(temperature)
    teacher.load(state)
    return numbers_of([teacher], intervals=False)


def plain_values(numbers: Numbers) -> dict[str, float]:
    """Give plain numbers in the order of the catalogue, counts as whole ones; nan where a sound network has
    one.
    """
    values: dict[str, float] = {}
    for name, number in ordered(numbers).items():
        quantity = QUANTITIES[name]
        if math.isfinite(number.value):
            values[name] = int(number.value) if quantity.unit == "count" else float(number.value)
        elif quantity.group not in _MAY_BE_UNTOLD:
            values[name] = math.nan  # which no sound network has
    return values
