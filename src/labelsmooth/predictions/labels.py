"""The labels of a file as indices of classes, whatever they are written as."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.predictions.names import CLASSES
from labelsmooth.predictions.scores import Scores
from labelsmooth.predictions.table import Array, OneRow, Table, as_numpy

Indices = npt.NDArray[np.int64]
# of the classes, in a note
_MOST_CLASSES = 6


class Labels:
    """Labels of rows.

    Args:
        table: an open file.
        name: of the array: class indices as integers, whole floats or bools; names of the classes as text;
            or one-hot, in the layout of the scores.
        scores: of the same rows.
        ignored: the label of rows that are left out.

    Raises:
        ValueError: the shape or the kind is none of these, or text names other classes.
    """

    def __init__(self, table: Table, name: str, scores: Scores, ignored: int) -> None:
        self._table, self._name, self._scores, self._ignored = table, name, scores, ignored
        shape, self._kind = table.columns[name].shape, table.columns[name].kind
        if self._kind not in ("integer", "float", "bool", "text"):
            raise InputError(f"{table.path} must hold integers or text in {name}, got {self._kind}")
        if shape[:1] != scores.layout[:1]:
            raise InputError(
                f"{table.path} must hold as many rows in {name} as in {scores.name}, "
                f"got {shape[0] if shape else 0} and {scores.layout[0]}{self._axis_that_fits(shape)}"
            )
        one_hot = (scores.layout[0], 2) if scores.is_binary else scores.shape
        self._is_one_hot = shape == one_hot and shape != scores.layout and self._kind != "text"
        self._is_column = shape == (*scores.layout, 1) and not self._is_one_hot
        if shape != scores.layout and not (self._is_one_hot or self._is_column):
            hint = self._axis_that_fits(shape)
            raise InputError(
                f"{table.path} must hold one value for each row in {name}, got the shape {shape} "
                f"beside {scores.shape} in {scores.name}{hint}"
            )
        self._first = 0  # number of the first class
        self._classes: dict[str, int] | None = None  # by their names, where labels are text
        self._class_note: str | None = None
        if not self._is_one_hot:
            self._name_classes()

    def block(self, values: Array, start: int) -> tuple[Indices, npt.NDArray[np.bool_]]:
        """The classes (n,) of a block, and which of its rows are not left out.

        Args:
            values: of the file.
            start: number of its first row.

        Raises:
            ValueError: a label is none.
        """
        labels = as_numpy(values)
        if self._is_one_hot:
            labels = self._from_one_hot(labels, start)
        labels = labels.reshape(-1)
        if self._kind == "float" and not self._is_one_hot:
            whole = labels == np.floor(labels)  # False for NaN
            if not whole.all():
                at = int((~whole).argmax())
                raise self._refused("whole numbers", f"{labels[at]:g}", start + at)
        if self._kind == "text":
            indices = self._from_text(labels, start)
            return indices, np.ones(len(indices), bool)
        kept = labels != self._ignored
        first, last = self._first, self._first + self._scores.num_classes - 1
        wrong = kept & ((labels < first) | (labels > last))
        if wrong.any():
            at = int(wrong.argmax())
            raise self._refused(
                f"labels in {first}..{last}",
                f"{labels[at]:g}" if self._kind == "float" else str(labels[at]),
                start + at,
                _how_to_ignore(labels[at]),
            )
        return np.where(kept, labels, first).astype(np.int64) - first, kept

    def notes(self, left_out: int) -> list[str]:
        """What was read into the labels, in sentences.

        Args:
            left_out: number of ignored rows.
        """
        notes = []
        if self._is_one_hot:
            notes.append(f"Its labels in {self._name} are one-hot.")
        elif self._kind == "float":
            notes.append(f"Its labels in {self._name} are floats, which are all whole.")
        elif self._kind == "bool":
            notes.append(f"Its labels in {self._name} are true for class 1 and false for class 0.")
        if self._is_column:
            notes.append(f"Its labels in {self._name} are an array of one column.")
        if self._class_note is not None:
            notes.append(self._class_note)
        if left_out:
            rows = math.prod(self._scores.layout)
            notes.append(
                f"{left_out:,} of its {rows:,} rows have the label {self._ignored} and are left out."
            )
        return notes

    def _axis_that_fits(self, shape: tuple[int, ...]) -> str:
        scores, added = self._scores.shape, int(isinstance(self._table, OneRow))
        for axis in range(added, len(scores)):
            if (*scores[:axis], *scores[axis + 1 :]) == shape:
                return f": --class-axis {axis - added} takes that axis for the classes"
        return ""

    def _name_classes(self) -> None:
        """Decide what the labels count or name."""
        count = self._scores.num_classes
        columns = self._scores.classes
        numbered = columns is not None and all(name.isdecimal() for name in columns)
        if self._kind != "text":
            if columns is None:
                return
            if numbered:
                self._first = int(columns[0])
                if self._first:
                    self._class_note = f"Its labels count from {self._first}, as its columns do."
            else:
                self._class_note = f"Its labels count its columns in their order: {_listed(columns)}."
            return
        stored = None if columns is not None and not numbered else self._stored_classes()
        if columns is not None and not numbered:
            names = columns
        elif stored is not None:
            names = stored
        else:
            names = columns or tuple(map(str, range(count)))
            found = self._distinct()
            if not found <= set(names):
                if len(found) != count:
                    raise InputError(
                        f"{self._table.path} must hold the names of the {count} classes in their order, in "
                        f"an array {CLASSES[0]} or as columns {self._scores.name}_NAME, where its labels in "
                        f"{self._name} are text with {'more' if len(found) > count else len(found)} values"
                    )
                names = tuple(sorted(found))
                self._class_note = f"Its classes are its labels in alphabetical order: {_listed(names)}."
        self._classes = {name: index for index, name in enumerate(names)}
        if self._class_note is None:
            self._class_note = f"Its labels name the classes: {_listed(names)}."

    def _stored_classes(self) -> tuple[str, ...] | None:
        """The names of the classes that an array of the file holds."""
        for name in CLASSES:
            column = self._table.columns.get(name)
            if column is not None and column.shape == (self._scores.num_classes,):
                blocks = self._table.blocks([name], column.shape[0])
                return tuple(str(value) for block in blocks for value in as_numpy(block[name]).tolist())
        return None

    def _distinct(self) -> set[str]:
        """The texts that occur, one more than there are classes at most."""
        found: set[str] = set()
        for block in self._table.blocks([self._name], 2**15):
            found.update(np.unique(as_numpy(block[self._name])).tolist())
            if len(found) > self._scores.num_classes:
                break
        return found

    def _from_one_hot(self, values: npt.NDArray[Any], start: int) -> Indices:
        axis = 1 if self._scores.is_binary else self._scores.axis
        rows = np.moveaxis(values, axis, -1).reshape(-1, self._scores.num_classes)
        right = ((rows == 0) | (rows == 1)).all(-1) & ((rows == 1).sum(-1) == 1)
        if not right.all():
            raise self._refused("labels or a single 1 in each row", "none", start + int((~right).argmax()))
        indices: Indices = rows.argmax(-1)
        return indices

    def _from_text(self, values: npt.NDArray[Any], start: int) -> Indices:
        assert self._classes is not None
        distinct, places = np.unique(values, return_inverse=True)
        indices = np.array([self._classes.get(text, -1) for text in distinct.tolist()], np.int64)[places]
        if (indices < 0).any():
            at = int((indices < 0).argmax())
            raise self._refused(
                f"names of the classes ({_listed(tuple(self._classes))})", repr(str(values[at])), start + at
            )
        return indices

    def _refused(self, expected: str, got: str, row: int, hint: str = "") -> InputError:
        return InputError(
            f"{self._table.path} must hold {expected} in {self._name}, got {got} in row {row}{hint}"
        )


def _how_to_ignore(label: Any) -> str:
    """The option that leaves out rows of a label that is often no class: a negative one, or 255."""
    usual = label == 255 or (label < 0 and np.isfinite(label))
    return f" (--ignore-label {int(label)} leaves such rows out)" if usual else ""


def _listed(names: tuple[str, ...]) -> str:
    more = f", … ({len(names):,} in all)" if len(names) > _MOST_CLASSES else ""
    return ", ".join(names[:_MOST_CLASSES]) + more
