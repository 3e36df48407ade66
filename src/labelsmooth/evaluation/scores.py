"""Calibration and selective prediction of one set of rows and one kind of prediction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from labelsmooth.evaluation.numbers import Numbers, find, numbers_of, standard_measures
from labelsmooth.measure import Calibration, Selective
from labelsmooth.measure.catalogue import OF_PROBABILITIES
from labelsmooth.measure.influence import Influences
from labelsmooth.measure.protocol import ProbabilityMeasure, Table
from labelsmooth.measure.rows import RowNumbers, numbers_from_logits, numbers_from_probs
from labelsmooth.predictions import Batch
from labelsmooth.row_stats import RowStats, row_stats


class Scores:
    """The measures of the probabilities of one set of rows.

    Args:
        num_classes: of the rows.
        num_bins: of confidence, of equal width.
    """

    def __init__(self, num_classes: int, num_bins: int) -> None:
        self._options = {"num_classes": num_classes, "num_bins": num_bins}
        self._measures: tuple[ProbabilityMeasure, ...] = standard_measures(OF_PROBABILITIES, **self._options)
        self.calibration = find(self._measures, Calibration)
        self.selective = find(self._measures, Selective)
        self.rows = 0

    def update(self, batch: Batch, *, are_probs: bool) -> None:
        """Count rows as they were given."""
        if not are_probs:
            self.update_stats(statistics(batch.scores.double(), batch.labels), batch.weights)
            return
        self.rows += len(batch.labels)
        for measure in self._measures:
            measure.update_probs(batch.scores, batch.labels, batch.weights)

    def update_stats(self, stats: RowStats, weights: Tensor | None) -> None:
        """Count rows of logits by their `statistics`."""
        self.rows += len(stats.log_sum)
        for measure in self._measures:
            measure.update_stats(stats, weights)

    def together_with(self, other: Scores) -> Scores:
        """The measures of these rows and those of `other` together."""
        both = Scores(**self._options)
        for part in (self, other):
            both.rows += part.rows
            for measure, counted in zip(both._measures, part._measures, strict=True):
                measure.merge(counted)
        return both

    def numbers(self, *, intervals: bool) -> Numbers:
        """Every number of these rows.

        Cost: with intervals about two seconds, whatever the number of rows.
        """
        return numbers_of(self._measures, intervals=intervals)

    def figures(self) -> Mapping[str, Table]:
        """Tables for pictures, by name."""
        return {name: table for measure in self._measures for name, table in measure.figures().items()}

    def influences(self) -> Influences:
        """A reckoner of the influence of each of these rows on their numbers."""
        bins = self.calibration.compute().bins
        over = np.sign(np.nan_to_num(bins.confidence - bins.accuracy))
        return Influences(bins.edges, over, self.selective.compute())


def as_logits(scores: Tensor, *, are_probs: bool) -> Tensor:  # (n, K)
    """Logits in float64: of probabilities their logarithms, with the same softmax."""
    scores = scores.double()
    return scores.clamp_min(0).log() if are_probs else scores  # what rounding has put below 0 is 0


def statistics(logits: Tensor, labels: Tensor) -> RowStats:  # (n, K), (n,)
    """The statistics that every measure of probabilities can be told of logits by."""
    return row_stats(logits, labels.unsqueeze(-1), log_sum_sq=True, mean_logit=True)


def row_numbers(batch: Batch, *, are_probs: bool, temperature: float = 1.0) -> RowNumbers:
    """Confidence, correctness and losses of each row, as given or at a temperature."""
    if are_probs and temperature == 1.0:
        return numbers_from_probs(batch.scores, batch.labels)
    return numbers_from_logits(as_logits(batch.scores, are_probs=are_probs) / temperature, batch.labels)
