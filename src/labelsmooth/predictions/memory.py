"""Predictions that lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import as_classes, require_classes
from labelsmooth.errors import InputError
from labelsmooth.measure.inputs import row_weights
from labelsmooth.predictions.source import Batch

_BLOCK_VALUES = 2**19  # 4 MB in float64


class InMemory:
    """Scores and labels of one model in arrays: a `Source`.

    Args:
        scores: (N, K) floats, logits or probabilities; the measures check them.
        labels: (N,) integers in 0..K−1; those of rows of weight 0 may be any.
        are_probs: whether the scores are probabilities.
        weights: (N,) finite numbers of at least 0; rows of weight 0 do not count.
        groups: (N,) integers or text.
        features: (N, D) floats, the input of the last layer.
        classifier: the weight (K, D) and the bias (K,) of that layer.
        name: what error messages call the predictions.

    Raises:
        TypeError: the labels are no integers.
        ValueError: no row counts, there are not as many in all of the arrays, or a label or a weight is out
            of range.
    """

    def __init__(
        self,
        scores: Tensor | npt.NDArray[Any],
        labels: Tensor | npt.NDArray[Any],
        *,
        are_probs: bool = False,
        weights: Tensor | npt.NDArray[Any] | None = None,
        groups: npt.NDArray[Any] | None = None,
        features: Tensor | npt.NDArray[Any] | None = None,
        classifier: tuple[Tensor, Tensor] | None = None,
        name: str = "the predictions",
    ) -> None:
        rows = torch.as_tensor(scores)
        if rows.dim() != 2 or len(rows) == 0:
            raise InputError(f"scores must have shape (N, K), N ≥ 1, got {tuple(rows.shape)}")
        classes = as_classes(torch.as_tensor(labels), "labels")
        features = None if features is None else torch.as_tensor(features)
        for what, values in (("labels", classes), ("groups", groups), ("features", features)):
            if values is not None and tuple(values.shape[:1]) != (len(rows),):
                raise InputError(
                    f"{what} must be as many as scores, got the shapes {tuple(values.shape)} and "
                    f"{tuple(rows.shape)}"
                )
        self._rows = Batch(
            scores=rows,
            labels=classes,
            weights=None
            if weights is None
            else row_weights(torch.as_tensor(weights), classes.shape, "labels"),
            groups=groups,
            features=features,
        ).counting()
        if len(self._rows.labels) == 0:
            raise InputError("at least one row must have a weight above 0, got none")
        require_classes(self._rows.labels, rows.shape[1], "labels")
        self._classifier = classifier
        self.are_probs, self.name = are_probs, name
        self.num_classes = self._rows.scores.shape[1]

    def batches(self) -> Iterator[Batch]:
        """Iterate over the rows of a weight above 0, in blocks."""
        size = max(1, _BLOCK_VALUES // self.num_classes)
        for start in range(0, len(self._rows.labels), size):
            yield self._rows.select(slice(start, start + size))

    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """The last layer's weight (K, D) and bias (K,), where it and the features are known."""
        return None if self._rows.features is None else self._classifier
