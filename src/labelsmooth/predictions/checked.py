"""The predictions of one model in a file, checked row by row, and read as often as wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure.inputs import fault_of_weights
from labelsmooth.predictions.formats import FORMATS, open_table
from labelsmooth.predictions.labels import Labels
from labelsmooth.predictions.names import FOR_FITTING, USUAL, Names, find, find_scores, usual, what_it_holds
from labelsmooth.predictions.scores import Scores
from labelsmooth.predictions.source import Batch
from labelsmooth.predictions.table import Array, JoinedTable, OneRow, Table, as_numpy, as_tensor

# Values in one block of scores, 4 MB in float64, and rows where there are few classes.
_BLOCK_VALUES, _BLOCK_ROWS = 2**19, 2**15
MOST_GROUPS = 1000
# What may lie in a file of its own.
_BESIDE = ("labels", "weights", "groups", "features")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The findings of one pass over a file on the rows that count."""

    rows: int
    labels_sha256: str  # of the classes of the rows in their order
    weights_sha256: str | None  # likewise
    groups: tuple[str, ...]  # in alphabetical order
    notes: tuple[str, ...]  # sentences on what was read into the file


class Predictions:
    """Scores and labels of one model in a file: a `Source`.

    Args:
        source: a file that `open_table` reads, or an open table.
        names: of its arrays.
        class_axis: of the classes, in scores of more than two axes; every other position is a row. With 0 the
            file is a single map, as (C, H, W) beside labels (H, W).
        ignore_label: the label of rows that are left out.
        prefix: put before the usual names, for rows that stand beside others in the same file.
        for_fitting: leaves out groups, features, the last layer, and files beside this one.

    Raises:
        ValueError: the file has no array of a wanted name, or shapes and kinds that do not fit together.
    """

    def __init__(
        self,
        source: Path | Table,
        names: Names,
        *,
        class_axis: int = -1,
        ignore_label: int = -100,
        prefix: str = "",
        for_fitting: bool = False,
    ) -> None:
        table = open_table(source) if isinstance(source, Path) else source
        path = self.path = table.path
        self.name = str(path)
        self._layout = {"class_axis": class_axis, "ignore_label": ignore_label}
        if for_fitting:
            beside = {name: None for name in _BESIDE if _is_file(getattr(names, name))}
            names = replace(names, **beside)
        found, self.are_probs = find_scores(table, names, prefix)
        self._table = _with_files_beside(table, names)
        others = {
            field.name: None
            if for_fitting and field.name not in FOR_FITTING
            else find(self._table, field.name, getattr(names, field.name), prefix)
            for field in fields(Names)
            if field.name not in ("logits", "probs")
        }
        if others["labels"] is None:
            raise InputError(
                f"{path} holds no labels ({usual('labels')}), {what_it_holds(self._table)}: "
                "name them with --labels NAME, or a file of them with --labels FILE"
            )
        if class_axis == 0 and len(self._table.columns[found.columns[0]].shape) > 1:
            arrays = [others[name] for name in _BESIDE]
            self._table = OneRow(self._table, [*found.columns, *filter(None, arrays)])
            class_axis = 1
        self._scores = Scores(self._table, found, self.are_probs, class_axis)
        self._labels = Labels(self._table, others["labels"], self._scores, ignore_label)
        self._label_name = others["labels"]
        self._weights, self._groups, self._features = others["weights"], others["groups"], others["features"]
        self._classifier = (others["classifier_weight"], others["classifier_bias"])
        self.rows = self._scores.layout[0] * self._scores.positions
        self.num_classes = self._scores.num_classes
        self._check_shapes()
        self.has_weights = self._weights is not None
        self.has_groups = self._groups is not None
        self.has_features = self._features is not None

    def own_validation(self) -> Predictions | None:
        """The validation rows that stand beside these in the same file, as in those of a study."""
        kind = "probs" if self.are_probs else "logits"
        scores = f"validation_{kind}"
        if scores not in self._table.columns or "validation_labels" not in self._table.columns:
            return None
        names = Names(**{kind: scores})
        return Predictions(self.path, names, **self._layout, prefix="validation_", for_fitting=True)

    def batches(self) -> Iterator[Batch]:
        """Iterate over the rows that count, in blocks: those that are not ignored and of a weight above 0.

        Raises:
            ValueError: the file is damaged, or a row, whatever its weight, is no prediction.
        """
        for block in self._blocks():
            counting = block.batch.counting()
            most = max(1, _BLOCK_VALUES // self.num_classes)  # of the many positions of a row, too
            for start in range(0, len(counting.labels), most):
                yield counting.select(slice(start, start + most))

    def scan(self, done: Callable[[int], None] = lambda _: None) -> Scan:
        """Check every row.

        Args:
            done: called with the number of rows after every block.

        Raises:
            ValueError: a row is no prediction, no row counts, or the logits are probabilities.
        """
        labels, weights = hashlib.sha256(), hashlib.sha256()
        groups: set[str] = set()
        rows = left_out = renormalised = 0
        may_be_probs = not self.are_probs
        for block in self._blocks():
            batch = block.batch.counting()
            left_out += block.rows - len(block.batch.labels)
            renormalised += block.renormalised
            may_be_probs = may_be_probs and self._scores.may_be_probs(batch.scores)
            rows += len(batch.labels)
            labels.update(batch.labels.numpy().tobytes())
            if batch.weights is not None:
                weights.update(batch.weights.numpy().tobytes())
            if batch.groups is not None:
                groups.update(map(str, np.unique(batch.groups)))
                if len(groups) > MOST_GROUPS:
                    raise InputError(
                        f"{self.path} must have at most {MOST_GROUPS} groups, {self._groups} has more"
                    )
            done(block.rows)
        if left_out == self.rows:
            raise InputError(
                f"{self.path} must hold labels in {self._label_name} other than "
                f"{self._layout['ignore_label']}, got none"
            )
        if rows == 0:
            raise InputError(f"{self.path} must hold a weight above 0 in {self._weights}, got none")
        if may_be_probs:
            look = "lies in 0..1" if self._scores.is_binary else "is at least 0 and sums to 1"
            raise InputError(
                f"{self.path} holds probabilities in {self._scores.name}, where logits were expected: "
                f"every row {look}; name them with --probs {self._scores.name}"
            )
        return Scan(
            rows=rows,
            labels_sha256=labels.hexdigest(),
            weights_sha256=weights.hexdigest() if self.has_weights else None,
            groups=tuple(sorted(groups)),
            notes=(*self._scores.notes(renormalised), *self._labels.notes(left_out)),
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
        others = (self._label_name, self._weights, self._groups, self._features)
        return [*self._scores.columns, *(name for name in others if name is not None)]

    def _rows_a_block(self) -> int:
        """Rows of the file that are read at a time."""
        width = sum(int(np.prod(self._table.columns[name].shape[1:])) for name in self._wanted())
        return max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // width))

    def _check_shapes(self) -> None:
        columns = self._table.columns
        for name, kinds, words in (
            (self._weights, ("float", "integer"), "numbers"),
            (self._groups, ("text", "integer"), "integers or text"),
        ):
            if name is None:
                continue
            self._require_kind(name, kinds, words)
            self._require_rows(name)
            if columns[name].shape not in (self._scores.layout, self._scores.layout[:1]):
                raise InputError(
                    f"{self.path} must hold one value for each row in {name}, "
                    f"got the shape {columns[name].shape}"
                )
        if self._features is not None:
            shape = columns[self._features].shape
            self._require_kind(self._features, ("float",), "floats")
            self._require_rows(self._features)
            if shape[:-1] != self._scores.layout or shape[-1] < 1:
                raise InputError(
                    f"{self.path} must hold (N, D) values in {self._features}, got the shape {shape}"
                )
            self._check_classifier(shape[-1])

    def _check_classifier(self, width: int) -> None:
        shapes = ((self.num_classes, width), (self.num_classes,))
        for name, shape in zip(self._classifier, shapes, strict=True):
            if name is not None:
                self._require_kind(name, ("float",), "floats")
                if self._table.columns[name].shape != shape:
                    raise InputError(
                        f"{self.path} must hold the shape {shape} in {name}, "
                        f"got {self._table.columns[name].shape}"
                    )

    def _require_kind(self, name: str, kinds: tuple[str, ...], words: str) -> None:
        kind = self._table.columns[name].kind
        if kind not in kinds:
            raise InputError(f"{self.path} must hold {words} in {name}, got {kind}")

    def _require_rows(self, name: str) -> None:
        shape, rows = self._table.columns[name].shape, self._scores.layout[0]
        if shape[:1] != (rows,):
            raise InputError(
                f"{self.path} must hold as many rows in {name} as in {self._scores.name}, "
                f"got {shape[0] if shape else 0} and {rows}"
            )

    def _blocks(self) -> Iterator[_Block]:
        """Iterate over all rows, in blocks, each of them checked."""
        start = 0
        for arrays in self._table.blocks(self._wanted(), self._rows_a_block()):
            block = self._block(arrays, start)
            start += block.rows
            yield block

    def _block(self, arrays: Mapping[str, Array], start: int) -> _Block:
        labels, kept = self._labels.block(arrays[self._label_name], start)
        positions = self._scores.positions
        weights = groups = features = None
        if self._weights is not None:
            weights = as_tensor(arrays[self._weights]).double().reshape(-1)
            if len(weights) < len(labels):
                weights = weights.repeat_interleave(positions)
            if fault := fault_of_weights(weights):
                words, row = fault
                raise InputError(
                    f"{self.path} must hold weights in {self._weights} that are {words}, "
                    f"got {float(weights[row])} in row {start + row}"
                )
        if self._groups is not None:
            groups = as_numpy(arrays[self._groups]).reshape(-1)
            if len(groups) < len(labels):
                groups = groups.repeat(positions)
        if self._features is not None:
            features = as_tensor(arrays[self._features])
            features = features.reshape(-1, features.shape[-1])
            finite = features.isfinite().all(-1)
            if not finite.all():
                raise InputError(
                    f"{self.path} must hold finite numbers in {self._features}, "
                    f"got others in row {start + int((~finite).int().argmax())}"
                )
        batch = Batch(
            scores=self._scores.block(arrays),
            labels=torch.from_numpy(labels),
            weights=weights,
            groups=groups,
            features=features,
        )
        batch = batch if kept.all() else batch.select(kept)
        rows = start + torch.from_numpy(np.flatnonzero(kept))
        scores, renormalised = self._scores.checked(batch.scores, rows)
        return _Block(batch=replace(batch, scores=scores), rows=len(labels), renormalised=renormalised)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """A block of a file whose rows were checked."""

    batch: Batch  # without the ignored rows
    rows: int  # with them
    renormalised: int  # of the probabilities


def _is_file(name: str | None) -> bool:
    """Whether the name of an array is the path of a file."""
    return name is not None and Path(name).suffix.lower() in FORMATS


def _with_files_beside(table: Table, names: Names) -> Table:
    """A file with the arrays that lie in files of their own, by the paths of these."""
    others: dict[str, tuple[Table, str]] = {}
    for what in _BESIDE:
        name = getattr(names, what)
        if name not in table.columns and _is_file(name):
            other = open_table(Path(name))
            column = next(iter(other.columns)) if len(other.columns) == 1 else find(other, what, None)
            if column is None:
                raise InputError(f"{name} holds none of {', '.join(USUAL[what])}, {what_it_holds(other)}")
            others[name] = other, column
    return JoinedTable(table, others) if others else table


def _whole(table: Table, name: str) -> Tensor:
    """An array that is small enough to hold."""
    whole: Tensor = torch.cat([as_tensor(block[name]) for block in table.blocks([name], _BLOCK_ROWS)]).float()
    return whole
