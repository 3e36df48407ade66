"""How far a classifier's confidence is from its accuracy, in one streaming pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.measure.inputs import Array, classified_rows
from labelsmooth.row_stats import RowStats, row_stats

Edges: TypeAlias = Literal["left_open", "right_open"]

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReliabilityBins:
    """Rows grouped by confidence into B equal-width bins: what a reliability diagram shows."""

    edges: Floats  # (B + 1,), from 0 to 1
    count: Counts  # (B,), rows in each bin
    confidence: Floats  # (B,), mean confidence, nan in an empty bin
    accuracy: Floats  # (B,), share of correct rows, nan in an empty bin

    @property
    def ece(self) -> float:
        """Expected calibration error, Σ_b (n_b/N)·|accuracy_b − confidence_b|, in 0..1."""
        return float(np.nansum(self.count * self._gap()) / self.count.sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error, the largest |accuracy_b − confidence_b| of a bin that has rows."""
        return float(np.nanmax(self._gap()))

    def _gap(self) -> Floats:
        return np.abs(self.accuracy - self.confidence)


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationResult:
    """What `Calibration.compute` found over `rows` rows; means over rows, shares in 0..1, NLL in nats."""

    rows: int
    accuracy: float
    nll: float  # inf as soon as one row gave its label the probability 0
    brier: float  # Σ_k (p_k − [k = y])², in 0..2
    mean_confidence: float
    over_confidence: float  # mean confidence − accuracy; negative for an under-confident classifier
    ece: float
    mce: float
    bins: ReliabilityBins


class Calibration:
    """Accuracy, NLL, Brier score and binned calibration error of a classifier, from a stream of batches.

    With confidence c = max_k p_k and bins of width 1/B over [0, 1]:
    NLL = −mean log p_y, Brier = mean (1 − 2·p_y + Σ_k p_k²), ECE = Σ_b (n_b/N)·|accuracy_b − mean c_b|.

    A bin's borders are the float64 values `numpy.linspace(0, 1, B + 1)`, and a confidence is compared with
    them exactly as it is, so a value on a border always falls on the side that `edges` names.

    Args:
        num_bins: B ≥ 1.
        edges: "left_open" puts a confidence on a border into the bin below it, (lo, hi], and 0 into the first
            bin (scikit-learn); "right_open" into the bin above it, [lo, hi), and 1 into the last (numpy).

    Raises:
        TypeError: `num_bins` is not an int.
        ValueError: `num_bins` < 1 or `edges` is neither of the two words.

    Cost: the state is 3·B + 3 numbers whatever the number of rows. Counts are int64 and sums float64, so
    counts are the same under every order and split of the rows, and sums are too up to float64 rounding.

    Example:
        >>> calibration = Calibration()
        >>> calibration.update(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> calibration.update_probs(np.array([[0.25, 0.75]]), np.array([1]))
        >>> result = calibration.compute()
        >>> result.rows, round(result.accuracy, 4), round(result.nll, 4), round(result.ece, 4)
        (3, 0.6667, 0.576, 0.3668)

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §2 (ECE and MCE, equal-width bins,
    (lo, hi], 15 bins in its tables); Brier 1950 in its multi-class form.
    """

    def __init__(self, num_bins: int = 15, edges: Edges = "left_open") -> None:
        if isinstance(num_bins, bool) or not isinstance(num_bins, int):
            raise TypeError(f"num_bins must be an int, got {type(num_bins).__name__}")
        if num_bins < 1:
            raise ValueError(f"num_bins must be at least 1, got {num_bins}")
        if edges not in get_args(Edges):
            raise ValueError(f"edges must be 'left_open' or 'right_open', got {edges!r}")
        self.num_bins = num_bins
        self.edges: Edges = edges
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._count: Counts = np.zeros(self.num_bins, np.int64)
        self._correct: Counts = np.zeros(self.num_bins, np.int64)
        self._confidence: Floats = np.zeros(self.num_bins)
        self._nll = 0.0
        self._brier = 0.0

    def update(self, logits: Array, target: Array) -> None:
        """Count rows of logits.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0.
            target: (…) integers in 0..K−1.

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target is out of range, a logit is NaN or +inf, or all logits
                of a row are −inf.

        Cost: that of `row_stats` over the logits.
        """
        rows, labels = classified_rows(logits, target, "logits")
        self.update_stats(row_stats(rows, labels.unsqueeze(-1), log_sum_sq=True))

    def update_stats(self, stats: RowStats) -> None:
        """Count rows whose statistics are already known, as a training step has them from its loss.

        Args:
            stats: with the label as the first index of each row; rows that do not count are left out. Without
                `log_sum_sq` the Brier score of the whole measurement is nan, the rest is unaffected.

        Raises:
            ValueError: the statistics hold no label, or come from logits that were NaN or +inf, or all −inf.

        Cost: a few passes over vectors of one number a row, which move to the CPU.
        """
        if stats.index is None:
            raise ValueError(
                "stats must hold each row's label as its first index, got stats without an index"
            )
        counted = torch.ones_like(stats.correct) if stats.counted is None else stats.counted
        keep = _numpy(counted)
        log_sum = _float64(stats.log_sum)[keep]
        if not np.isfinite(log_sum).all():
            # the statistics of a row with a NaN, with +inf or without any finite logit have no log_sum
            raise ValueError(
                f"each row of logits must hold a finite value and neither NaN nor +inf, got "
                f"{int((~np.isfinite(log_sum)).sum())} of {log_sum.size} rows that do not"
            )
        brier = np.full(keep.shape, np.nan) if stats.log_sum_sq is None else _float64(stats.brier)
        self._add(
            confidence=_float64(stats.confidence)[keep],
            correct=_numpy(stats.correct)[keep],
            nll=_float64(stats.nll)[keep],
            brier=brier[keep],
        )

    def update_probs(self, probs: Array, target: Array) -> None:
        """Count rows of probabilities, taken as they are: nothing is clipped or renormalised.

        Args:
            probs: (…, K) floats in 0..1 (and at most four units of rounding above), K ≥ 2, each row summing
                to 1 within 1e-3, or within the square root of its dtype's epsilon in half precision.
            target: (…) integers in 0..K−1.

        Raises:
            TypeError: `probs` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target is out of range, or a row is no distribution.

        Cost: one float64 copy of the probabilities.
        """
        given, labels = classified_rows(probs, target, "probs")
        rows, eps = given.double(), torch.finfo(given.dtype).eps
        outside = ~((rows >= 0) & (rows <= 1 + 4 * eps))  # written so that NaN is outside
        if outside.any():
            raise ValueError(f"probs must lie in 0..1, got {float(rows[outside][0])}")
        total = rows.sum(-1)
        off = (total - 1).abs() > max(1e-3, eps**0.5)
        if off.any():
            raise ValueError(f"each row of probs must sum to 1, got a sum of {float(total[off][0])}")
        at_label = rows.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        confidence, argmax = rows.max(-1)
        self._add(
            confidence=_float64(confidence),
            correct=_numpy(argmax == labels),
            nll=_float64(-at_label.log()),
            brier=_float64(1 - 2 * at_label + rows.square().sum(-1)),
        )

    def merge(self, other: Calibration) -> None:
        """Add the rows that `other` counted to this measure; `other` stays as it is.

        Raises:
            ValueError: the two do not have the same bins.
        """
        if (other.num_bins, other.edges) != (self.num_bins, self.edges):
            raise ValueError(
                f"only measures with the same bins can be merged, got {self.num_bins} {self.edges} "
                f"and {other.num_bins} {other.edges}"
            )
        self._count += other._count
        self._correct += other._correct
        self._confidence += other._confidence
        self._nll += other._nll
        self._brier += other._brier

    def compute(self) -> CalibrationResult:
        """The measures of all rows counted so far.

        Raises:
            ValueError: no row was counted.
        """
        rows = int(self._count.sum())
        if rows == 0:
            raise ValueError("calibration needs at least one row that counts, got none")
        with np.errstate(invalid="ignore"):  # 0/0 is the nan of an empty bin
            bins = ReliabilityBins(
                edges=self._borders(),
                count=self._count.copy(),
                confidence=self._confidence / self._count,
                accuracy=self._correct / self._count,
            )
        accuracy = int(self._correct.sum()) / rows
        mean_confidence = float(self._confidence.sum()) / rows
        return CalibrationResult(
            rows=rows,
            accuracy=accuracy,
            nll=self._nll / rows,
            brier=self._brier / rows,
            mean_confidence=mean_confidence,
            over_confidence=mean_confidence - accuracy,
            ece=bins.ece,
            mce=bins.mce,
            bins=bins,
        )

    def _borders(self) -> Floats:
        return np.linspace(0, 1, self.num_bins + 1)

    def _add(
        self,
        *,
        confidence: Floats,  # (N,), as are all
        correct: npt.NDArray[np.bool_],
        nll: Floats,
        brier: Floats,
    ) -> None:
        # searching only the inner borders keeps 0 in the first bin, and 1 and what rounding has put a hair
        # above it in the last
        side: Literal["left", "right"] = "left" if self.edges == "left_open" else "right"
        bin_of_row = np.searchsorted(self._borders()[1:-1], confidence, side)
        self._count += np.bincount(bin_of_row, minlength=self.num_bins)
        self._correct += np.bincount(bin_of_row[correct], minlength=self.num_bins)
        self._confidence += np.bincount(bin_of_row, confidence, minlength=self.num_bins)
        self._nll += float(nll.sum())
        self._brier += float(brier.sum())


def _numpy(values: Tensor) -> npt.NDArray[Any]:
    """One number a row, on the CPU."""
    return values.detach().cpu().numpy().reshape(-1)


def _float64(values: Tensor) -> Floats:
    # widened after the move, because not every device has float64
    return values.detach().cpu().double().numpy().reshape(-1)
