"""Predictions that lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.predictions.source import Batch

_BLOCK_VALUES = 2**19  # 4 MB in float64


class InMemory:
    """Scores and labels of one model in arrays: a `Source`.

    Args:
        scores: (N, K) floats, logits or probabilities; the measures check them.
        labels: (N,) integers in 0..K−1.
        are_probs: whether the scores are probabilities.
        weights: (N,) numbers, at least 0.
        groups: (N,) integers or text.
        features: (N, D) floats, the input of the last layer.
        classifier: the weight (K, D) and the bias (K,) of that layer.
        name: what error messages call the predictions.

    Raises:
        ValueError: there are no rows, or not as many in all of the arrays.
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
        self._rows = Batch(
            scores=torch.as_tensor(scores),
            labels=torch.as_tensor(labels).long(),
            weights=None if weights is None else torch.as_tensor(weights).double(),
            groups=groups,
            features=None if features is None else torch.as_tensor(features),
        ).counting()
        self._classifier = classifier
        self.are_probs, self.name = are_probs, name
        if self._rows.scores.dim() != 2 or len(self._rows.scores) == 0:
            raise InputError(f"scores must have shape (N, K), N ≥ 1, got {tuple(self._rows.scores.shape)}")
        if len(self._rows.labels) != len(self._rows.scores):
            raise InputError(
                f"labels must be as many as scores, got {len(self._rows.labels)} and {len(self._rows.scores)}"
            )
        self.num_classes = self._rows.scores.shape[1]

    def batches(self) -> Iterator[Batch]:
        """Iterate over the rows of a weight above 0, in blocks."""
        size = max(1, _BLOCK_VALUES // self.num_classes)
        for start in range(0, len(self._rows.labels), size):
            yield self._rows.select(slice(start, start + size))

    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """The last layer's weight (K, D) and bias (K,), where it and the features are known."""
        return None if self._rows.features is None else self._classifier
