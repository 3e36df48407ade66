"""The distance of a classifier's confidence from its accuracy, in one streaming pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import require_int
from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Bools, Counts, Floats, State
from labelsmooth.measure.calibration_intervals import intervals
from labelsmooth.measure.calibration_result import CalibrationResult
from labelsmooth.measure.inputs import (
    Array,
    distributions,
    logit_rows,
    on_cpu,
    row_weights,
    weight_of_each,
    weighted_rows,
)
from labelsmooth.measure.interval import Interval, require_replicates
from labelsmooth.measure.peers import Edges, Peer, binning, layout
from labelsmooth.measure.protocol import (
    Summable,
    Table,
    load_arrays,
    require_same_options,
    unchanged_on_error,
)
from labelsmooth.measure.rows import (
    RowNumbers,
    blocks,
    numbers_from_logits,
    numbers_from_probs,
    numbers_from_stats,
)
from labelsmooth.measure.table import CellTable, ClassTable, label_ranks
from labelsmooth.row_stats import RowStats


class Calibration(Summable):
    """Accuracy, NLL, Brier score, entropy and calibration errors of a classifier, from a stream of batches.

    With confidence c = max_k p_k and bins of width 1/B over [0, 1]:
    NLL = −mean log p_y, Brier = mean (1 − 2·p_y + Σ_k p_k²), ECE = Σ_b (n_b/N)·|accuracy_b − mean c_b|.

    A bin's borders are the float64 values `numpy.linspace(0, 1, B + 1)`, and a confidence is compared with
    them exactly as it is, so a value on a border always falls on the side that `edges` names.

    Equal-mass bins hold about N/B rows each. Rows with the same confidence stay together, whatever their
    order: cells (see Cost) are whole, each in the bin where the middle of its rows lies.

    A peer's preset puts each confidence into the bin that this peer does:

    - "torchmetrics" 1.9.0, `multiclass_calibration_error`: confidences and borders rounded to float32,
      [lo, hi), and 1 in a bin of its own, the last of B + 1.
    - "sklearn" 1.9, `calibration_curve`: what `edges="left_open"` does.
    - "netcal" 1.4.0, `ECE` and `MCE`, for more than two classes: [lo, hi), and confidences clipped to
      eps..1−eps of the dtype given. Of two classes netcal measures the probability of the second; and of
      float32 confidences it takes counts by float64 borders and means by float32 ones, which this does not.
    - "gpleiss", `ECELoss` of temperature_scaling: borders rounded to float32, (lo, hi], and confidences of 0
      or above 1 in no bin.
    - "relplot" 1.0.3, `smECE`: changes `smece` alone, see `measure.smooth`.

    These peers add float32 numbers, ours are float64, so values agree to their rounding. Of logits the
    confidence is ours, exp(−ℓ), which can differ by a unit of rounding from a peer's softmax.

    To measure groups of rows, keep a dict of these objects, one for each group: what a group needs is one
    state whatever the way, and the sum of all is `merge`.

    Args:
        num_bins: B ≥ 1.
        edges: "left_open" (the default) puts a confidence on a border into the bin below it, (lo, hi], and 0
            into the first bin (scikit-learn); "right_open" into the bin above it, [lo, hi), and 1 into the
            last (numpy).
        peer: whose bins to reproduce, in place of `edges`.
        classwise: whether to bin all K probabilities of each row too, class by class.
        top_k: for which k to count the rows whose label is among the k largest; of equal ones the first class
            comes first.

    Raises:
        TypeError: `num_bins` or a k is not an int.
        ValueError: `num_bins` or a k < 1, `edges` or `peer` is none of its words, or both are given.

    Cost: the state is 0.8 MB for up to 100 bins, whatever the number of rows: about 4,350 cells, each a
    piece of a bin, 1/4096 wide or narrower, with an int64 count and ten float64 sums for the rows that were
    right and for those that were wrong; `classwise` adds 5·K·B numbers. Counts are the same under every
    order and split of the rows, and sums are too up to float64 rounding.

    Example:
        >>> calibration = Calibration()
        >>> calibration.update(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> calibration.update_probs(np.array([[0.25, 0.75]]), np.array([1]))
        >>> result = calibration.compute()
        >>> result.rows, round(result.accuracy, 4), round(result.nll, 4), round(result.ece, 4)
        (3, 0.6667, 0.576, 0.3668)

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §2 (ECE and MCE, equal-width bins,
    (lo, hi], 15 bins in its tables); Brier 1950 in its multi-class form; Kumar et al. 2019, "Verified
    Uncertainty Calibration", §4 (debiased L2); Kull et al. 2019, "Beyond temperature scaling", §2
    (classwise); Błasiok & Nakkiran 2024, "Smooth ECE" (smECE).
    """

    def __init__(
        self,
        num_bins: int = 15,
        edges: Edges | None = None,
        *,
        peer: Peer | None = None,
        classwise: bool = False,
        top_k: Sequence[int] = (),
    ) -> None:
        for name, value in (("num_bins", num_bins), *(("each k of top_k", k) for k in top_k)):
            require_int(value, name)
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        self._layout = layout(num_bins, binning(edges, peer))
        self.num_bins = num_bins
        self.peer = peer
        self.edges: Edges = self._layout.binning.edges
        self.classwise = classwise
        self.top_k = tuple(top_k)
        self.reset()

    @classmethod
    def standard(cls, *, num_classes: int, num_bins: int) -> Self:  # noqa: ARG003
        """Make the measure that audits and studies take: bins of equal width."""
        return cls(num_bins)

    def reset(self) -> None:
        """Forget every row."""
        self._shared = False  # whether a result reads the tables
        self._table = CellTable(self._layout)
        self._classes = ClassTable(self._layout) if self.classwise else None
        self._in_top: Floats = np.zeros(len(self.top_k))  # weight of rows

    def update(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count rows of logits.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0.
            target: (…) integers in 0..K−1, or `ignore_index`.
            weight: (…) finite numbers ≥ 0, in the shape of `target`; a row of weight 0 does not count.
            ignore_index: the target whose rows are left out; None for none.
            class_axis: where the K logits of a row lie, 1 for maps (N, K, H, W) with targets (N, H, W).

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, a logit is NaN or +inf,
                or all logits of a row are −inf.

        Warns:
            UserWarning: every row looks like probabilities, which `update_probs` takes.

        Cost: that of `row_stats` over the logits; one more pass for `top_k`, and a few for `classwise`.
        """
        rows, labels, weights = _weighted(
            *logit_rows(logits, target, weight, ignore_index=ignore_index, class_axis=class_axis)
        )
        numbers = numbers_from_logits(rows, labels)
        if self.classwise:
            for block, part in blocks(rows):
                self._class_table().add(
                    *_by_class(block.softmax(-1, torch.float64), labels[part], weights[part])
                )
        eps = torch.finfo(torch.promote_types(rows.dtype, torch.float32)).eps  # of the statistics
        self._add(numbers, weights, label_ranks(rows, labels) if self.top_k else None, eps)

    def update_stats(self, stats: RowStats, weight: Array | None = None) -> None:
        """Count rows whose statistics are already known, as a training step has them from its loss.

        Args:
            stats: with the label as the first index of each row; rows that do not count are left out. Without
                `log_sum_sq` the Brier score of the whole measurement is nan, without `mean_logit` the
                entropy; the rest is unaffected.
            weight: (…) as for `update`.

        Raises:
            ValueError: the statistics hold no label, or come from logits that were NaN or +inf, or all −inf;
                or the measure is of single classes or of the k largest, which row statistics do not tell.

        Cost: a few passes over vectors of one number a row, which move to the CPU.
        """
        if self.classwise or self.top_k:
            raise InputError(
                "row statistics tell nothing of single classes, got classwise or top_k to measure"
            )
        numbers = numbers_from_stats(stats)
        weights = np.ones(len(numbers))
        if weight is not None:
            given = row_weights(weight, stats.label.shape, "label")
            weights = given[stats.counted.reshape(-1).cpu()].numpy()
            numbers, weights = numbers.select(weights > 0), weights[weights > 0]
        self._add(numbers, weights, None, torch.finfo(stats.log_sum.dtype).eps)

    def update_probs(
        self,
        probs: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count rows of probabilities, taken as they are but for what rounding put below 0, which is 0.

        Args:
            probs: (…, K) floats in 0..1 within four units of rounding, K ≥ 2, each row summing to 1 within
                1e-3, or within the square root of its dtype's epsilon in half precision.
            target: (…) as for `update`.
            weight: (…) as for `update`.
            ignore_index: as for `update`.
            class_axis: as for `update`.

        Raises:
            TypeError: `probs` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, or a row is no
                distribution.

        Cost: one read of the probabilities, 2^18 of them at a time in cache. Sums over classes are in their
            dtype (float32 for half precision), with a relative error of about 1e-7 for float32.
        """
        rows, labels, weights = _weighted(
            *weighted_rows(probs, target, weight, "probs", ignore_index=ignore_index, class_axis=class_axis)
        )
        numbers = numbers_from_probs(rows, labels)
        if self.classwise:
            for block, part in blocks(rows):
                p = distributions(block, "probs").double()
                self._class_table().add(*_by_class(p, labels[part], weights[part]))
        self._add(
            numbers, weights, label_ranks(rows, labels) if self.top_k else None, torch.finfo(rows.dtype).eps
        )

    def merge(self, other: Calibration) -> None:
        """Add the rows that `other` counted to this measure; `other` stays as it is.

        Raises:
            ValueError: the two do not have the same options, or not the same classes where `classwise`.
        """
        require_same_options(self.options(), other.options())
        self._own()
        if self._classes is not None and "class_counts" in other.sums():
            self._classes.grow(len(other.sums()["class_counts"]))
        arrays = self.sums()
        for name, array in other.sums().items():
            arrays[name] += array

    def compute(self) -> CalibrationResult:
        """The measures of all rows counted so far.

        Raises:
            ValueError: no row was counted.

        Cost: that of the numbers that are asked of the result, whatever the number of rows: 20 ms for the
            smooth calibration error, less than a millisecond for each of the others.
        """
        if not self._table.counts.any():
            raise InputError("calibration needs at least one row that counts, got none")
        self._shared = True
        in_top = dict(zip(self.top_k, self._in_top.tolist(), strict=True))
        return CalibrationResult(self._table, self._classes, in_top, self.num_bins)

    def intervals(self, replicates: int = 1000, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Confidence intervals of the measures, as if the rows were drawn anew.

        Means have percentile intervals of a multinomial bootstrap over cells (confidence by right or wrong),
        shares of rows Wilson's intervals, and calibration errors those of `interval.shrinking_interval`,
        since noise makes an error larger and never smaller: a plain bootstrap of the ECE lies wholly above
        the true value near perfect calibration. An interval always holds the measured value.

        Coverage at the level 0.95, in 1000 simulated sets each (`python benchmarks/coverage.py --sets 1000`
        counts it), in percent:

        | classifier | rows | accuracy | NLL | ECE | smECE |
        |---|---|---|---|---|---|
        | calibrated | 2,000 | 94.6 | 94.6 | 98.8 | 98.4 |
        | calibrated | 10,000 | 93.6 | 92.8 | 97.7 | 98.4 |
        | slightly over-confident | 2,000 | 95.8 | 95.8 | 98.7 | 98.4 |
        | over-confident | 2,000 | 95.7 | 95.0 | 97.1 | 95.4 |
        | over-confident | 10,000 | 95.1 | 95.4 | 96.9 | 96.8 |

        So the intervals of calibration errors are cautious where the error is zero or little beside its
        noise, since 0 is then their lower end, and that of the MCE always is (97.7 to 99.9).

        Args:
            replicates: of the bootstrap, at least 100.
            level: the share of intervals to hold the true value, in 0..1.
            seed: of the draws; the same seed gives the same intervals.

        Returns:
            A dict with an `Interval` for accuracy, nll, brier, mean_confidence, over_confidence, entropy,
            ece, ece_ratio, ece_l2, mce, debiased_l2, ece_equal_mass, smece, and top_K_accuracy for each K of
            `top_k`. That of debiased_l2 is that of ece_l2, as both estimate the same number. An infinite NLL
            has low = high = inf.

        Raises:
            TypeError: `replicates` is not an int.
            ValueError: there are fewer than 100, `level` is not in 0..1, or no row was counted.

        Cost: about a second, whatever the number of rows.
        """
        require_replicates(replicates, level)
        return intervals(self._table, self.compute(), self.num_bins, replicates, level, seed)

    def values(self) -> dict[str, float]:
        """The numbers of `compute` that the catalogue knows; the smooth calibration error takes 20 ms."""
        return self.compute().values()

    def figures(self) -> dict[str, Table]:
        """The bins of equal width, and those of every class where `classwise`, as tables."""
        result = self.compute()
        figures: dict[str, Table] = {"reliability": result.bins.columns()}
        if result.classwise is not None:
            classes = np.arange(len(result.classwise.count))
            figures["classwise_reliability"] = result.classwise.columns(classes)
        return figures

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        words = f"{self.num_bins} {self.edges}"
        if self.peer:
            words += f" peer={self.peer}"
        if self.classwise:
            words += " classwise"
        if self.top_k:
            words += f" top_k={self.top_k}"
        return words

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, as arrays that sum: added to those of another, they are those of both.

        The classes of a `classwise` measure are in it from its first row on.
        """
        return {name: array.copy() for name, array in self.sums().items()}

    def load(self, state: State) -> None:
        """Take the rows of a `state`, of a measure with the same options, in place of those counted here.

        Raises:
            ValueError: it is the state of a measure with other options.
        """
        with unchanged_on_error(self):
            self.reset()
            if self._classes is not None and "class_counts" in state:
                self._classes.grow(len(state["class_counts"]))
            load_arrays(self.sums(), state, self.options())

    def load_sums(self, sums: State) -> None:
        """Take the rows of such sums, as `load` does."""
        self.load(sums)

    def sums(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of `state`, not copied."""
        arrays = self._table.arrays()
        if self.top_k:
            arrays["in_top"] = self._in_top
        return arrays if self._classes is None else arrays | self._classes.arrays()

    def _own(self) -> None:
        """Leave the tables to the result that reads them, and go on in copies."""
        if self._shared:
            self._table = self._table.copy()
            self._classes = None if self._classes is None else self._classes.copy()
            self._shared = False

    def _class_table(self) -> ClassTable:
        self._own()
        assert self._classes is not None
        return self._classes

    def _add(self, rows: RowNumbers, weights: Floats, ranks: Counts | None, eps: float) -> None:
        self._own()
        self._table.add(rows, weights, eps)
        if ranks is not None:
            self._in_top += [weights[ranks < k].sum() for k in self.top_k]


def _weighted(rows: Tensor, labels: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Floats]:
    """Fill in a weight of 1 for each row where none is given."""
    return rows, labels, weight_of_each(rows, weights).numpy()


def _by_class(probs: Tensor, labels: Tensor, weights: Floats) -> tuple[Floats, Bools, Floats]:
    """Rows of probabilities (N, K) with whether each is of the class, and each row's weight K times."""
    is_class = on_cpu(labels)[:, None] == np.arange(probs.shape[-1])
    return probs.cpu().numpy(), is_class, np.broadcast_to(weights[:, None], is_class.shape)
