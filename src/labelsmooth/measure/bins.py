"""Calibration errors from bins: what a reliability diagram shows, and the numbers that sum it up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from labelsmooth.measure.arrays import Counts, Floats
from labelsmooth.measure.table import WW, CellTable, ClassTable, W, joined


@dataclass(frozen=True, eq=False, kw_only=True)
class ReliabilityBins:
    """Rows grouped by confidence into B bins: what a reliability diagram shows."""

    edges: Floats  # (B + 1,), from 0 to 1
    count: Counts  # (B,), rows in each bin
    share: Floats  # (B,), share of all rows' weight; they sum to 1 but where a peer leaves rows out
    confidence: Floats  # (B,), mean confidence, nan in an empty bin
    accuracy: Floats  # (B,), share of correct rows, nan in an empty bin

    @property
    def ece(self) -> float:
        """Expected calibration error, Σ_b share_b·|accuracy_b − confidence_b|, in 0..1."""
        return float(np.nansum(self.share * self._gap()))

    @property
    def ece_l2(self) -> float:
        """Root-mean-square calibration error, √Σ_b share_b·(accuracy_b − confidence_b)², in 0..1."""
        return math.sqrt(np.nansum(self.share * np.square(self._gap())))

    @property
    def mce(self) -> float:
        """Maximum calibration error, the largest |accuracy_b − confidence_b| of a bin that has rows."""
        return float(np.nanmax(self._gap(), initial=0))

    def columns(self) -> dict[str, Floats | Counts]:
        """The bins as a table, one row for each."""
        return {
            "low": self.edges[:-1],
            "high": self.edges[1:],
            "count": self.count,
            "share": self.share,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
        }

    def _gap(self) -> Floats:
        return np.abs(self.accuracy - self.confidence)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClasswiseBins:
    """For each of K classes, all rows grouped by its probability into B bins."""

    edges: Floats  # (B + 1,), from 0 to 1
    count: Counts  # (K, B), rows in each bin
    share: Floats  # (K, B), share of all rows' weight
    confidence: Floats  # (K, B), mean probability of the class, nan in an empty bin
    frequency: Floats  # (K, B), share of rows that are of the class, nan in an empty bin

    @property
    def ece(self) -> Floats:
        """Σ_b share_b·|frequency_b − confidence_b| of each class, (K,), in 0..1."""
        result: Floats = np.nansum(self.share * np.abs(self.frequency - self.confidence), axis=-1)
        return result

    def columns(self, classes: Counts) -> dict[str, Floats | Counts]:
        """The bins of some classes as a table, one row for each class and bin."""
        num_bins = len(self.edges) - 1
        return {
            "class": np.repeat(classes, num_bins),
            "low": np.tile(self.edges[:-1], len(classes)),
            "high": np.tile(self.edges[1:], len(classes)),
            "count": self.count[classes].reshape(-1),
            "share": self.share[classes].reshape(-1),
            "confidence": self.confidence[classes].reshape(-1),
            "frequency": self.frequency[classes].reshape(-1),
        }


def reliability_bins(table: CellTable, bin_of_cell: Counts, edges: Floats) -> ReliabilityBins:
    """The bins of whole cells; a cell of bin −1 is in none."""
    num = len(edges) - 1
    weight = joined(table.sums[W], bin_of_cell, num)
    with np.errstate(invalid="ignore"):  # 0/0 is the nan of an empty bin
        return ReliabilityBins(
            edges=edges,
            count=joined(table.counts, bin_of_cell, num).sum(0),
            share=weight.sum(0) / table.sums[W].sum(),
            confidence=joined(table.confidence, bin_of_cell, num).sum(0) / weight.sum(0),
            accuracy=weight[1] / weight.sum(0),
        )


def equal_mass(table: CellTable, num_bins: int) -> tuple[Counts, Floats]:
    """The bin of each cell and the borders between the bins, for bins of about N/B rows each."""
    weight = table.sums[W].sum(0)
    up_to = np.cumsum(weight)
    bin_of_cell = ((up_to - weight / 2) / up_to[-1] * num_bins).astype(np.int64)
    bin_of_cell = np.clip(bin_of_cell, 0, num_bins - 1)
    first = np.searchsorted(bin_of_cell, np.arange(1, num_bins))
    upper = np.concatenate([[0], table.layout.cells.edges, [1]])
    return bin_of_cell, np.concatenate([[0], upper[first], [1]])


def debiased_l2(table: CellTable, bins: ReliabilityBins) -> float:
    """√max(0, Σ_b share_b·[(accuracy_b − confidence_b)² − accuracy_b·(1−accuracy_b)/(n_b−1)])."""
    weight_sq = joined(table.sums[WW], table.layout.bin_of_cell, len(bins.count)).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # n_b where nothing is weighted
        effective = np.square(bins.share * table.sums[W].sum()) / weight_sq
        noise = bins.accuracy * (1 - bins.accuracy) / (effective - 1)
        terms = bins.share * (np.square(bins.accuracy - bins.confidence) - noise)
    return math.sqrt(max(0.0, float(terms[effective >= 2].sum())))


def ece_by_chance(table: CellTable, bins: ReliabilityBins) -> float:
    """Σ_b E|Σ_i w_i·(o_i − c_i)|/Σ_i w_i over outcomes o_i that are right with the probability c_i.

    The right rows of a bin are taken as binomial with their mean and variance, which is exact where their
    confidences are equal, and within a percent where they are not. Rows of several weights are taken as fewer
    rows of one weight.
    """
    weight, weight_sq, right, variance = (
        joined(sums, table.layout.bin_of_cell, len(bins.count)).sum(0)
        for sums in (table.sums[W], table.sums[WW], table.confidence, _variance(table))
    )
    random = variance > 0
    unit = weight_sq[random] / weight[random]  # weight of one of the fewer rows
    right, variance = right[random] / unit, variance[random] / unit**2
    p = np.clip(1 - variance / right, 1e-9, None)
    n, m = right / p, np.floor(right) + 1
    ways = torch.lgamma(torch.from_numpy(np.stack([n + 1, m + 1, n - m + 1]))).numpy()
    # de Moivre: E|X − np| = 2·m·C(n, m)·p^m·(1 − p)^(n−m+1) with m = ⌊np⌋ + 1
    log = np.log(2 * m) + ways[0] - ways[1] - ways[2] + m * np.log(p) + (n - m + 1) * np.log1p(-p)
    return float(unit @ np.exp(log)) / table.weight


def _variance(table: CellTable) -> Floats:
    """Σ w²·c·(1 − c) of each cell, (2, cells)."""
    w = table.sums[W]
    confidence = np.divide(table.confidence, w, out=np.zeros_like(w), where=w > 0)
    variance: Floats = table.sums[WW] * np.clip(confidence * (1 - confidence), 0, None)
    return variance


def classwise_bins(classes: ClassTable, all_weight: float | Floats) -> ClasswiseBins:
    """The bins of each class's probability, where rows weigh so much, in all or of each class (K, 1)."""
    weight, confidence = classes.class_sums
    with np.errstate(invalid="ignore"):
        return ClasswiseBins(
            edges=classes.layout.edges.copy(),
            count=classes.class_counts.sum(1),
            share=weight.sum(1) / all_weight,
            confidence=confidence.sum(1) / weight.sum(1),
            frequency=weight[:, 1] / weight.sum(1),
        )
