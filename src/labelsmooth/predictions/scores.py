"""The scores of a file as rows of classes, whatever their layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure.inputs import are_distributions
from labelsmooth.predictions.names import ScoreColumns
from labelsmooth.predictions.table import Array, Table, as_numpy, as_tensor

# Decimals that probabilities may have been rounded to; with more a sum of 1 shows nothing of it, and one
# decimal is no probability any more.
_DECIMALS = range(2, 6)
# of a sum in float64 or float32
_SLACK = 1e-6


class Scores:
    """Logits or probabilities of all classes.

    Args:
        table: an open file.
        found: where they are: (N, K), (N, ..., K) with every position a row, a column for each class; or
            one value a row, (N,) or (N, ..., 1), which is the logit or the probability of class 1 of two.
        are_probs: whether they are probabilities.
        class_axis: of the classes in an array of more than one axis; not the first one.

    Raises:
        ValueError: the shape or the kind is none of these.
    """

    def __init__(self, table: Table, found: ScoreColumns, are_probs: bool, class_axis: int) -> None:
        self._table = table
        self.name, self.columns, self.classes = found.name, found.columns, found.classes
        self.are_probs = are_probs
        self.shape = self._shape()
        if self.shape[0] == 0:
            raise InputError(f"{table.path} holds no rows in {self.name}")
        self.axis = class_axis + len(self.shape) * (class_axis < 0)
        if len(self.shape) == 1:
            self.shape, self.axis = (*self.shape, 1), 1
        if not 0 < self.axis < len(self.shape):
            raise InputError(
                f"class_axis must name an axis of {self.name} in {table.path} but the first, "
                f"got {class_axis} for the shape {self.shape}"
            )
        width = self.shape[self.axis]
        self.layout = (*self.shape[: self.axis], *self.shape[self.axis + 1 :])
        self.positions = math.prod(self.layout[1:])  # of each of the file's rows
        if width == 0 or self.positions == 0:
            raise InputError(
                f"{table.path} must hold (N, K) values in {self.name}, got the shape {self.shape}"
            )
        self.is_binary = width == 1
        self.num_classes = 2 if self.is_binary else width

    def block(self, arrays: Mapping[str, Array]) -> Tensor:
        """The scores (n, K) of a block of the file."""
        if len(self.columns) > 1:
            stacked = np.stack([as_numpy(arrays[name]) for name in self.columns], axis=-1)
            scores = torch.from_numpy(stacked if stacked.dtype.kind == "f" else stacked.astype(np.float64))
        else:
            scores = as_tensor(arrays[self.columns[0]]).reshape(-1, *self.shape[1:])
            scores = scores.movedim(self.axis, -1).reshape(-1, self.shape[self.axis])
        if self.is_binary:
            scores = scores.double()
            return torch.cat((1 - scores if self.are_probs else torch.zeros_like(scores), scores), -1)
        return scores

    def checked(self, scores: Tensor, rows: Tensor) -> tuple[Tensor, int]:
        """The scores (n, K) with sums of 1 where rounding took them, and how many rows that were.

        Args:
            scores: of `block`.
            rows: (n,) the numbers of these rows in the file.

        Raises:
            ValueError: a row holds no logits, or no probabilities.
        """
        if not self.are_probs:
            largest = scores.amax(-1)  # NaN where there is one
            wrong = ~largest.isfinite()
            if wrong.any():
                at = int(wrong.int().argmax())
                raise InputError(
                    f"{self._table.path} must hold logits in {self.name} without NaN or +inf and not all of "
                    f"them -inf, got a largest value of {float(largest[at])} in row {int(rows[at])}"
                )
            return scores, 0
        wrong = ~are_distributions(scores)
        if not wrong.any():
            return scores, 0
        rounded = scores[wrong].double()
        fits = self._fit_rounding(rounded)
        if not fits.all():
            at = int(wrong.nonzero()[int((~fits).int().argmax())])
            values = scores[at].double()
            raise InputError(
                f"{self._table.path} must hold probabilities in {self.name}, each row in 0..1 and summing to "
                f"1, got values in {float(values.min()):g}..{float(values.max()):g} with a sum of "
                f"{float(values.sum()):g} in row {int(rows[at])}"
            )
        whole = scores.double().clone()
        whole[wrong] = rounded / rounded.sum(-1, keepdim=True)
        return whole, len(rounded)

    def may_be_probs(self, scores: Tensor) -> bool:
        """Whether these logits (n, K) are all probabilities to look at."""
        if self.is_binary:
            return bool(((scores[:, 1] >= 0) & (scores[:, 1] <= 1)).all())
        return bool(are_distributions(scores).all())

    def notes(self, renormalised: int) -> list[str]:
        """What was read into the file, in sentences.

        Args:
            renormalised: number of rows that `checked` changed.
        """
        notes = []
        if self.is_binary:
            kind = "probability" if self.are_probs else "logit"
            notes.append(f"It holds one {kind} a row in {self.name}, taken for that of class 1 of two.")
        if self.positions > 1:
            notes.append(
                f"It holds {'×'.join(map(str, self.shape))} values in {self.name}: its {self.positions:,} "
                "positions are rows of their own, which intervals take for independent."
            )
        if renormalised:
            notes.append(
                f"{renormalised:,} of its rows sum to 1 but for the rounding of their probabilities to "
                f"{self._decimals} decimals, and were divided by their sum."
            )
        return notes

    def _fit_rounding(self, probs: Tensor) -> Tensor:  # (n, K) -> (n,)
        """Which rows sum to 1 but for the rounding of all values to the decimals of the file."""
        inside = (probs >= 0).all(-1) & (probs <= 1).all(-1)  # False for NaN
        if not inside.all() or self._decimals is None:
            return torch.zeros_like(inside)
        half = 0.5 * 10.0**-self._decimals
        sums = probs.sum(-1)
        most = 1 + (probs > 0).sum(-1) * half  # what is 0 was not rounded up
        return (sums > 0) & (sums >= 1 - self.num_classes * half - _SLACK) & (sums <= most + _SLACK)

    def _shape(self) -> tuple[int, ...]:
        kinds = {self._table.columns[name].kind for name in self.columns}
        several = len(self.columns) > 1  # whose numbers may all be whole in a file of text
        wrong = kinds - ({"float", "integer"} if several else {"float"})
        if wrong:
            raise InputError(f"{self._table.path} must hold floats in {self.name}, got {min(wrong)}")
        shape = self._table.columns[self.columns[0]].shape
        if not shape:
            raise InputError(f"{self._table.path} must hold (N, K) values in {self.name}, got the shape ()")
        return (*shape, len(self.columns)) if several else shape

    @cached_property
    def _decimals(self) -> int | None:
        """The fewest decimals that write all scores of the file; None where there are more than a few."""
        decimals = _DECIMALS[0]
        rows = max(1, 2**19 // math.prod(self.shape[1:]))
        for arrays in self._table.blocks(self.columns, rows):
            scores = self.block(arrays)
            if scores.dtype.itemsize < 4:  # coarser than decimals
                return None
            eps = torch.finfo(scores.dtype).eps
            values = scores.double().nan_to_num()  # rows that are ignored may hold anything
            while True:
                scaled = values * 10**decimals
                if bool(((scaled - scaled.round()).abs() <= 10**decimals * eps).all()):
                    break
                decimals += 1
                if decimals not in _DECIMALS:
                    return None
        return decimals
