"""The predictions of one model in a file, checked row by row, and read as often as wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure.inputs import are_distributions
from labelsmooth.predictions.formats import open_table
from labelsmooth.predictions.names import FOR_FITTING, Names, find, takes_probs, usual, what_it_holds
from labelsmooth.predictions.source import Batch
from labelsmooth.predictions.table import Array, Table

# Values in one block of scores, 4 MB in float64, and rows where there are few classes.
_BLOCK_VALUES, _BLOCK_ROWS = 2**19, 2**15
MOST_GROUPS = 1000


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What one pass over a file found of the rows that count."""

    rows: int
    labels_sha256: str  # of the labels in their order
    weights_sha256: str | None  # likewise
    groups: tuple[str, ...]  # in alphabetical order
    label_weights: npt.NDArray[np.float64]  # (K,), the weight of the rows with each label


class Predictions:
    """Scores and labels of one model.

    Args:
        path: a file that `open_table` reads.
        names: of its arrays.
        prefix: put before the usual names, for rows that stand beside others in the same file.
        for_fitting: leaves out groups, features and the last layer.

    Raises:
        ValueError: the file has no array of a wanted name, or shapes and kinds that do not fit together.
    """

    def __init__(self, path: Path, names: Names, *, prefix: str = "", for_fitting: bool = False) -> None:
        self.path = path
        self._table: Table = open_table(path)
        found = {
            name.name: None
            if for_fitting and name.name not in FOR_FITTING
            else find(self._table, name.name, getattr(names, name.name), prefix)
            for name in fields(Names)
        }
        self.are_probs = takes_probs(self._table, found["logits"], found["probs"], names)
        scores = found["probs"] if self.are_probs else found["logits"]
        if found["labels"] is None:
            raise InputError(f"{path} holds no labels ({usual('labels')}), {what_it_holds(self._table)}")
        assert scores is not None
        self._scores, self._labels = scores, found["labels"]
        self._weights, self._groups, self._features = found["weights"], found["groups"], found["features"]
        self._classifier = (found["classifier_weight"], found["classifier_bias"])
        self.rows, self.num_classes = self._check_shapes()
        self.has_weights = self._weights is not None
        self.has_groups = self._groups is not None
        self.has_features = self._features is not None

    def own_validation(self) -> Predictions | None:
        """The validation rows that stand beside these in the same file, as in those of a study."""
        kind = "probs" if self.are_probs else "logits"
        scores = f"validation_{kind}"
        if scores not in self._table.columns or "validation_labels" not in self._table.columns:
            return None
        return Predictions(self.path, Names(**{kind: scores}), prefix="validation_", for_fitting=True)

    def batches(self) -> Iterator[Batch]:
        """The rows that count, all but those of weight 0, in blocks.

        Raises:
            ValueError: the file is damaged, or a row, whatever its weight, is no prediction.
        """
        for batch in self._all_batches():
            counting = batch.counting()
            if len(counting.labels):
                yield counting

    def _all_batches(self) -> Iterator[Batch]:
        """All rows, in blocks, each of them checked."""
        start = 0
        for arrays in self._table.blocks(self._wanted(), self._rows_a_block()):
            batch = self._batch(arrays, start)
            start += len(batch.labels)
            yield batch

    def scan(self, done: Callable[[int], None] = lambda _: None) -> Scan:
        """Check every row.

        Args:
            done: called with the number of rows after every block.

        Raises:
            ValueError: a row is no prediction, no row has a weight, or the logits are probabilities.
        """
        labels, weights = hashlib.sha256(), hashlib.sha256()
        groups: set[str] = set()
        rows, label_weights = 0, np.zeros(self.num_classes)
        distributions = not self.are_probs
        for block in self._all_batches():
            batch = block.counting()
            distributions = distributions and bool(are_distributions(batch.scores).all())
            rows += len(batch.labels)
            labels.update(batch.labels.numpy().tobytes())
            weight = np.ones(len(batch.labels)) if batch.weights is None else batch.weights.numpy()
            label_weights += np.bincount(batch.labels.numpy(), weight, self.num_classes)
            if batch.weights is not None:
                weights.update(weight.tobytes())
            if batch.groups is not None:
                groups.update(map(str, np.unique(batch.groups)))
                if len(groups) > MOST_GROUPS:
                    raise InputError(
                        f"{self.path} must have at most {MOST_GROUPS} groups, {self._groups} has more"
                    )
            done(len(block.labels))
        if rows == 0:
            raise InputError(f"{self.path} must hold a weight above 0 in {self._weights}, got none")
        if distributions:
            raise InputError(
                f"{self.path} holds probabilities in {self._scores}, where logits were expected: every row "
                f"is at least 0 and sums to 1; name them with --probs {self._scores}"
            )
        return Scan(
            rows=rows,
            labels_sha256=labels.hexdigest(),
            weights_sha256=weights.hexdigest() if self.has_weights else None,
            groups=tuple(sorted(groups)),
            label_weights=label_weights,
        )

    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """The last layer's weight (K, D) and bias (K,), where the file holds them and the features."""
        weight, bias = self._classifier
        if weight is None or self._features is None:
            return None
        loaded = _whole(self._table, weight)
        offset = torch.zeros(self.num_classes) if bias is None else _whole(self._table, bias)
        for name, values in ((weight, loaded), (bias, offset)):
            if not values.isfinite().all():
                raise InputError(f"{self.path} must hold finite numbers in {name}")
        return loaded, offset

    def _wanted(self) -> list[str]:
        names = (self._scores, self._labels, self._weights, self._groups, self._features)
        return [name for name in names if name is not None]

    def _rows_a_block(self) -> int:
        width = sum(int(np.prod(self._table.columns[name].shape[1:])) for name in self._wanted())
        return max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // width))

    def _check_shapes(self) -> tuple[int, int]:
        """The numbers of rows and of classes."""
        columns = self._table.columns
        shape = columns[self._scores].shape
        self._require_kind(self._scores, "float", "floats")
        if len(shape) != 2:
            raise InputError(f"{self.path} must hold (N, K) values in {self._scores}, got the shape {shape}")
        rows, num_classes = shape
        if rows == 0:
            raise InputError(f"{self.path} holds no rows in {self._scores}")
        if num_classes < 2:
            raise InputError(f"{self.path} must hold at least 2 classes in {self._scores}, got {num_classes}")
        self._require_kind(self._labels, "integer", "integers")
        vectors = [name for name in (self._labels, self._weights, self._groups) if name is not None]
        for name in vectors:
            if len(columns[name].shape) != 1:
                raise InputError(
                    f"{self.path} must hold one value for each row in {name}, "
                    f"got the shape {columns[name].shape}"
                )
        if self._weights is not None:
            self._require_kind(self._weights, ("float", "integer"), "numbers")
        if self._groups is not None:
            self._require_kind(self._groups, ("text", "integer"), "integers or text")
        if self._features is not None:
            self._require_kind(self._features, "float", "floats")
            if len(columns[self._features].shape) != 2 or columns[self._features].shape[1] < 1:
                raise InputError(
                    f"{self.path} must hold (N, D) values in {self._features}, "
                    f"got the shape {columns[self._features].shape}"
                )
            self._check_classifier(num_classes, columns[self._features].shape[1])
        for name in self._wanted():
            if columns[name].shape[0] != rows:
                raise InputError(
                    f"{self.path} must hold as many rows in {name} as in {self._scores}, "
                    f"got {columns[name].shape[0]} and {rows}"
                )
        return rows, num_classes

    def _check_classifier(self, num_classes: int, width: int) -> None:
        for name, shape in zip(self._classifier, ((num_classes, width), (num_classes,)), strict=True):
            if name is not None:
                self._require_kind(name, "float", "floats")
                if self._table.columns[name].shape != shape:
                    raise InputError(
                        f"{self.path} must hold the shape {shape} in {name}, "
                        f"got {self._table.columns[name].shape}"
                    )

    def _require_kind(self, name: str, kinds: str | tuple[str, ...], words: str) -> None:
        kind = self._table.columns[name].kind
        if kind not in (kinds if isinstance(kinds, tuple) else (kinds,)):
            raise InputError(f"{self.path} must hold {words} in {name}, got {kind}")

    def _batch(self, arrays: dict[str, Array], start: int) -> Batch:
        scores = _tensor(arrays[self._scores])
        labels = _numpy(arrays[self._labels])
        self._check_scores(scores, start)
        if len(labels) and (labels.min() < 0 or labels.max() >= self.num_classes):
            row = int(((labels < 0) | (labels >= self.num_classes)).argmax())
            raise InputError(
                f"{self.path} must hold labels in 0..{self.num_classes - 1} in {self._labels}, "
                f"got {labels[row]} in row {start + row}"
            )
        weights = None
        if self._weights is not None:
            weights = _tensor(arrays[self._weights]).double()
            wrong = ~(weights >= 0) | weights.isinf()
            if wrong.any():
                row = int(wrong.int().argmax())
                raise InputError(
                    f"{self.path} must hold finite weights of at least 0 in {self._weights}, "
                    f"got {float(weights[row])} in row {start + row}"
                )
        features = None
        if self._features is not None:
            features = _tensor(arrays[self._features])
            finite = features.isfinite().all(-1)
            if not finite.all():
                raise InputError(
                    f"{self.path} must hold finite numbers in {self._features}, "
                    f"got others in row {start + int((~finite).int().argmax())}"
                )
        return Batch(
            scores=scores,
            labels=torch.from_numpy(labels.astype(np.int64)),
            weights=weights,
            groups=None if self._groups is None else _numpy(arrays[self._groups]),
            features=features,
        )

    def _check_scores(self, scores: Tensor, start: int) -> None:
        if self.are_probs:
            wrong = ~are_distributions(scores)
            if wrong.any():
                row = int(wrong.int().argmax())
                values = scores[row].double()
                raise InputError(
                    f"{self.path} must hold probabilities in {self._scores}, each row in 0..1 and summing to "
                    f"1, got values in {float(values.min()):g}..{float(values.max()):g} with a sum of "
                    f"{float(values.sum()):g} in row {start + row}"
                )
            return
        largest = scores.amax(-1)  # NaN where there is one
        wrong = ~largest.isfinite()
        if wrong.any():
            row = int(wrong.int().argmax())
            raise InputError(
                f"{self.path} must hold logits in {self._scores} without NaN or +inf and not all of them "
                f"-inf, got a largest value of {float(largest[row])} in row {start + row}"
            )


def _whole(table: Table, name: str) -> Tensor:
    """An array that is small enough to hold."""
    whole: Tensor = torch.cat([_tensor(block[name]) for block in table.blocks([name], _BLOCK_ROWS)]).float()
    return whole


def _tensor(values: Array) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.require(values, requirements="W"))


def _numpy(values: Array) -> npt.NDArray[Any]:
    return values.numpy() if isinstance(values, Tensor) else values
