"""Sources of predictions: scores and labels of one model, in blocks of rows, as often as wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """A block of rows.

    Rows with fewer classes than others, as the options of a multiple-choice question, are padded with the
    score −inf, or the probability 0.
    """

    scores: Tensor  # (n, K) floats: logits or probabilities
    labels: Tensor  # (n,) int64 in 0..K−1
    weights: Tensor | None = None  # (n,) float64, at least 0
    groups: npt.NDArray[Any] | None = None  # (n,) integers or text
    features: Tensor | None = None  # (n, D) floats

    def counting(self) -> Batch:
        """The rows of a weight above 0."""
        return self if self.weights is None else self.select(self.weights.numpy() > 0)

    def select(self, rows: slice | npt.NDArray[np.bool_]) -> Batch:
        """Some of the rows."""
        at = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return Batch(
            scores=self.scores[at],
            labels=self.labels[at],
            weights=None if self.weights is None else self.weights[at],
            groups=None if self.groups is None else self.groups[rows],
            features=None if self.features is None else self.features[at],
        )


class Source(Protocol):
    """Predictions of one model that can be gone through again, with the same rows in the same order."""

    name: str  # in messages
    num_classes: int
    are_probs: bool  # whether the scores are probabilities, and no logits

    def batches(self) -> Iterator[Batch]:
        """Iterate over the rows that count, in blocks that fit in memory, whose scores are checked."""
        ...

    def classifier(self) -> tuple[Tensor, Tensor] | None:
        """The last layer's weight (K, D) and bias (K,), where it and the features are known."""
        ...
