"""Calibration errors and scores, each worked out when it is first asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

from labelsmooth.measure.bins import (
    ClasswiseBins,
    ReliabilityBins,
    classwise_bins,
    debiased_l2,
    ece_by_chance,
    equal_mass,
    reliability_bins,
)
from labelsmooth.measure.result import Result
from labelsmooth.measure.table import BRIER, ENTROPY, NLL, CellTable, ClassTable, W


class CalibrationResult(Result):
    """The numbers of `Calibration.compute` over `rows` rows; means over rows, shares in 0..1, NLL in nats.

    Each number is worked out when it is first asked for, from what had been counted by then; only the smooth
    calibration error takes longer than a millisecond.
    """

    def __init__(
        self, table: CellTable, classes: ClassTable | None, in_top: Mapping[int, float], num_bins: int
    ) -> None:
        self._table = table
        self._classes = classes
        self._in_top = in_top  # the weight of the rows whose label is among the k largest
        self._num_bins = num_bins

    @cached_property
    def rows(self) -> int:
        """The number of rows that count."""
        return self._table.rows

    @cached_property
    def accuracy(self) -> float:
        """Share of rows whose label has the largest prediction."""
        return float(self._table.sums[W, 1].sum() / self._table.weight)

    @cached_property
    def nll(self) -> float:
        """Mean −log p_y; inf as soon as one row gave its label the probability 0."""
        return math.inf if self.infinite_nll_rows else self._table.mean(NLL)

    @cached_property
    def infinite_nll_rows(self) -> int:
        """The number of rows that gave their label the probability 0."""
        return int(self._table.infinite_nll_rows[0])

    @cached_property
    def brier(self) -> float:
        """Mean Σ_k (p_k − [k = y])², in 0..2."""
        return self._table.mean(BRIER)

    @cached_property
    def mean_confidence(self) -> float:
        """Mean of the largest probability."""
        return float(self._table.confidence.sum() / self._table.weight)

    @cached_property
    def over_confidence(self) -> float:
        """Mean confidence − accuracy; negative for an under-confident classifier."""
        return self.mean_confidence - self.accuracy

    @cached_property
    def entropy(self) -> float:
        """Mean entropy of the predictions, in nats."""
        return self._table.mean(ENTROPY)

    @cached_property
    def ece(self) -> float:
        """Expected calibration error of `bins`."""
        return self.bins.ece

    @cached_property
    def ece_by_chance(self) -> float:
        """The mean ECE of calibrated classifiers with as many rows of these confidences."""
        return ece_by_chance(self._table, self.bins)

    @cached_property
    def ece_ratio(self) -> float | None:
        """The ECE over that by chance; None where every confidence is 1, which leaves nothing to chance."""
        return self.ece / self.ece_by_chance if self.ece_by_chance > 0 else None

    @cached_property
    def ece_l2(self) -> float:
        """Root-mean-square calibration error of `bins`."""
        return self.bins.ece_l2

    @cached_property
    def mce(self) -> float:
        """Maximum calibration error of `bins`."""
        return self.bins.mce

    @cached_property
    def debiased_l2(self) -> float:
        """√max(0, Σ_b share_b·[(accuracy_b − confidence_b)² − accuracy_b·(1−accuracy_b)/(n_b−1)])."""
        return debiased_l2(self._table, self.bins)

    @cached_property
    def ece_equal_mass(self) -> float:
        """Expected calibration error of `equal_mass_bins`."""
        return self.equal_mass_bins.ece

    @cached_property
    def smece(self) -> float:
        """Smooth calibration error (`measure.smooth`)."""
        return self._table.layout.binning.smooth_ece(self._table.moments(), self.rows)

    @cached_property
    def bins(self) -> ReliabilityBins:
        """Bins of equal width."""
        layout = self._table.layout
        return reliability_bins(self._table, layout.bin_of_cell, layout.edges.copy())

    @cached_property
    def equal_mass_bins(self) -> ReliabilityBins:
        """Bins of about N/B rows each."""
        return reliability_bins(self._table, *equal_mass(self._table, self._num_bins))

    @cached_property
    def top_k(self) -> dict[int, float]:
        """Share of rows whose label is among the k largest, for each k asked for."""
        return {k: weight / self._table.weight for k, weight in self._in_top.items()}

    @cached_property
    def classwise(self) -> ClasswiseBins | None:
        """Bins of each class's probability; None unless asked for."""
        return None if self._classes is None else classwise_bins(self._classes, self._table.weight)

    @cached_property
    def classwise_ece(self) -> float | None:
        """Mean over classes of their calibration errors; None unless asked for."""
        return None if self.classwise is None else float(self.classwise.ece.mean())

    def to_dict(self) -> dict[str, float]:
        """The plain numbers by name, with top_K_accuracy and classwise_ece where they were asked for."""
        numbers = super().to_dict() | {f"top_{k}_accuracy": share for k, share in self.top_k.items()}
        told = {"ece_ratio": self.ece_ratio, "classwise_ece": self.classwise_ece}
        return numbers | {name: value for name, value in told.items() if value is not None}
