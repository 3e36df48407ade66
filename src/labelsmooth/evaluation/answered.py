"""Answering only the rows of enough confidence: what a threshold that was chosen on other rows gives."""

from __future__ import annotations

import math

import numpy as np

from labelsmooth.evaluation.numbers import Numbers, exactly
from labelsmooth.evaluation.scores import row_numbers
from labelsmooth.evaluation.split import Split
from labelsmooth.measure import Interval, Selective
from labelsmooth.measure.interval import share_interval
from labelsmooth.predictions import Batch

_LEVEL = 0.95


def choose_threshold(split: Split, precision: float) -> float | None:
    """The lowest confidence from which on this share of the answers is right, on the rows to fit on.

    Returns:
        None where there is none.
    """
    selective = Selective()
    for batch in split.fitted():
        rows = row_numbers(batch, are_probs=split.source.are_probs)
        selective.update_scores(rows.confidence, rows.correct, batch.weights)
    return selective.compute().threshold_at(round(1 - precision, 12))  # 0.1 for 0.9


class Answered:
    """The rows of a confidence of at least a threshold, and how many of them are right.

    Args:
        threshold: of confidence.
        are_probs: whether the scores of the rows are probabilities.
    """

    def __init__(self, threshold: float, *, are_probs: bool) -> None:
        self._threshold, self._are_probs = threshold, are_probs
        self._all, self._answered, self._right = (np.zeros(3) for _ in range(3))  # Σ 1, w, w²

    def update(self, batch: Batch) -> None:
        """Count rows."""
        rows = row_numbers(batch, are_probs=self._are_probs)
        weights = np.ones(len(rows)) if batch.weights is None else batch.weights.numpy()
        answered = rows.confidence >= self._threshold
        for sums, kept in (
            (self._all, slice(None)),
            (self._answered, answered),
            (self._right, answered & rows.correct),
        ):
            w = weights[kept]
            sums += [len(w), w.sum(), w @ w]

    def numbers(self, *, intervals: bool) -> Numbers:
        """The rows answered, the accuracy of the answers (nan without any), and the coverage."""
        shares = {
            "accuracy": (self._right, self._answered),
            "coverage": (self._answered, self._all),
        }
        return {"rows": exactly(int(self._answered[0]))} | {
            name: _share(part[1], whole, intervals) for name, (part, whole) in shares.items()
        }


def _share(part: float, whole: np.ndarray, intervals: bool) -> Interval:
    _, weight, squares = whole
    if not weight:
        return exactly(math.nan)
    value = float(part / weight)
    return share_interval(value, weight**2 / squares, _LEVEL) if intervals else exactly(value)
