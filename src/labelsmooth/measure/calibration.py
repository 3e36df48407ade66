"""How far a classifier's confidence is from its accuracy, in one streaming pass."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.cells import Cells
from labelsmooth.measure.inputs import (
    Array,
    distributions,
    logit_rows,
    on_cpu,
    row_weights,
    weighted_rows,
)
from labelsmooth.measure.interval import (
    Interval,
    bootstrap_counts,
    bootstrap_sums,
    percentile_interval,
    require_replicates,
    share_interval,
    shrinking_interval,
)
from labelsmooth.measure.ranks import of_all_ranks, require_same_options, sum_over_ranks
from labelsmooth.measure.result import Result
from labelsmooth.measure.rows import RowNumbers, blocks, of_logits, of_probs, of_stats
from labelsmooth.measure.smooth import (
    INTERVALS,
    ResidualMoments,
    moments_of_sums,
    smooth_ece,
    smooth_ece_interval,
    smooth_ece_of_relplot,
)
from labelsmooth.row_stats import RowStats

Edges: TypeAlias = Literal["left_open", "right_open"]
Peer: TypeAlias = Literal["torchmetrics", "sklearn", "netcal", "gpleiss", "relplot"]

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]

# rows added together, so that what is summed of them stays in cache
_ROWS = 2**15

# The bootstrap joins cells to equal intervals, of this number for means and for the smooth calibration
# error, which needs fewer replicates too, as each takes a few Fourier transforms.
_COARSE = 64
_FIELD, _FIELD_REPLICATES = 512, 250

_EDGES_OF_PEER: dict[Peer, Edges] = {
    "torchmetrics": "right_open",
    "sklearn": "left_open",
    "netcal": "right_open",
    "gpleiss": "left_open",
    "relplot": "left_open",
}

# What a cell sums over its rows: weights w and their squares, w·d and w·d² with the distance d of the
# confidence from the cell's middle (small numbers keep their digits), and w·x and (w·x)² for NLL, Brier
# score and entropy.
_W, _WW, _WD, _WDD, _NLL, _NLL_SQ, _BRIER, _BRIER_SQ, _ENTROPY, _ENTROPY_SQ = range(10)


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


class CalibrationResult(Result):
    """What `Calibration.compute` found over `rows` rows; means over rows, shares in 0..1, NLL in nats.

    Each number is worked out when it is first asked for, from what had been counted by then; only the smooth
    calibration error takes longer than a millisecond.
    """

    def __init__(self, counted: Calibration) -> None:
        self._counted = counted

    @cached_property
    def rows(self) -> int:
        """How many rows count."""
        return int(self._counted._counts.sum())

    @cached_property
    def accuracy(self) -> float:
        """Share of rows whose label has the largest prediction."""
        return float(self._counted._sums[_W, 1].sum() / self._counted._weight())

    @cached_property
    def nll(self) -> float:
        """Mean −log p_y; inf as soon as one row gave its label the probability 0."""
        return math.inf if self.infinite_nll_rows else self._counted._mean(_NLL)

    @cached_property
    def infinite_nll_rows(self) -> int:
        """How many rows gave their label the probability 0."""
        return int(self._counted._infinite_nll_rows[0])

    @cached_property
    def brier(self) -> float:
        """Mean Σ_k (p_k − [k = y])², in 0..2."""
        return self._counted._mean(_BRIER)

    @cached_property
    def mean_confidence(self) -> float:
        """Mean of the largest probability."""
        return float(self._counted._confidence().sum() / self._counted._weight())

    @cached_property
    def over_confidence(self) -> float:
        """Mean confidence − accuracy; negative for an under-confident classifier."""
        return self.mean_confidence - self.accuracy

    @cached_property
    def entropy(self) -> float:
        """Mean entropy of the predictions, in nats."""
        return self._counted._mean(_ENTROPY)

    @cached_property
    def ece(self) -> float:
        """Expected calibration error of `bins`."""
        return self.bins.ece

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
        return self._counted._debiased_l2(self.bins)

    @cached_property
    def ece_equal_mass(self) -> float:
        """Expected calibration error of `equal_mass_bins`."""
        return self.equal_mass_bins.ece

    @cached_property
    def smece(self) -> float:
        """Smooth calibration error (`measure.smooth`)."""
        return self._counted._smooth_ece()

    @cached_property
    def bins(self) -> ReliabilityBins:
        """Bins of equal width."""
        return self._counted._bins(self._counted._bin_of_cell, self._counted._bin_edges())

    @cached_property
    def equal_mass_bins(self) -> ReliabilityBins:
        """Bins of about N/B rows each."""
        return self._counted._bins(*self._counted._equal_mass())

    @cached_property
    def top_k(self) -> dict[int, float]:
        """Share of rows whose label is among the k largest, for each k asked for."""
        in_top = self._counted._in_top / self._counted._weight()
        return dict(zip(self._counted.top_k, in_top.tolist(), strict=True))

    @cached_property
    def classwise(self) -> ClasswiseBins | None:
        """Bins of each class's probability; None unless asked for."""
        return self._counted._classwise_bins() if self._counted.classwise else None

    @cached_property
    def classwise_ece(self) -> float | None:
        """Mean over classes of their calibration errors; None unless asked for."""
        return None if self.classwise is None else float(self.classwise.ece.mean())

    def to_dict(self) -> dict[str, float]:
        """The plain numbers by name, with top_K_accuracy and classwise_ece where they were asked for."""
        numbers = super().to_dict() | {f"top_{k}_accuracy": share for k, share in self.top_k.items()}
        return numbers if self.classwise_ece is None else numbers | {"classwise_ece": self.classwise_ece}


class Calibration:
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
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputTypeError(f"{name} must be an int, got {type(value).__name__}")
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if edges is not None and edges not in get_args(Edges):
            raise InputError(f"edges must be 'left_open' or 'right_open', got {edges!r}")
        if peer is not None and peer not in _EDGES_OF_PEER:
            raise InputError(f"peer must be one of {', '.join(_EDGES_OF_PEER)}, got {peer!r}")
        if edges is not None and peer is not None:
            raise InputError(f"a peer has edges of its own, got peer {peer!r} and edges {edges!r}")
        self.num_bins = num_bins
        self.peer = peer
        self.edges: Edges = edges or (_EDGES_OF_PEER[peer] if peer else "left_open")
        self.classwise = classwise
        self.top_k = tuple(top_k)

        self._borders, self._cells, self._bin_of_cell = _layout(num_bins, self.edges, peer)
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._shared = False  # whether a result reads the arrays
        cells = len(self._cells)
        self._counts: Counts = np.zeros((2, cells), np.int64)  # wrong and correct rows
        self._sums: Floats = np.zeros((10, 2, cells))
        self._infinite_nll_rows: Counts = np.zeros(1, np.int64)
        self._in_top: Floats = np.zeros(len(self.top_k))  # weight of rows
        self._class_counts: Counts = np.zeros(
            (0, 2, 0), np.int64
        )  # (K, 2, bins), rows of other classes and of it
        self._class_sums: Floats = np.zeros((2, 0, 2, 0))  # of w and w·p

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
        numbers = of_logits(rows, labels)
        if self.classwise:
            for block, part in blocks(rows):
                self._add_classes(
                    block.softmax(-1, torch.float64), labels[part], weights[part.start : part.stop]
                )
        eps = torch.finfo(torch.promote_types(rows.dtype, torch.float32)).eps  # of the statistics
        self._add(numbers, weights, self._ranks(rows, labels), eps)

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
        numbers = of_stats(stats)
        weights = np.ones(len(numbers))
        if weight is not None:
            given = row_weights(weight, stats.label.shape, "label")
            weights = given[stats.counted.reshape(-1).cpu()].numpy()
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
        numbers = of_probs(rows, labels)
        if self.classwise:
            for block, part in blocks(rows):
                self._add_classes(
                    distributions(block, "probs").double(), labels[part], weights[part.start : part.stop]
                )
        self._add(numbers, weights, self._ranks(rows, labels), torch.finfo(rows.dtype).eps)

    def merge(self, other: Calibration) -> None:
        """Add the rows that `other` counted to this measure; `other` stays as it is.

        Raises:
            ValueError: the two do not have the same options, or not the same classes where `classwise`.
        """
        require_same_options(self._options(), other._options())
        if len(other._class_counts):
            self._grow_classes(len(other._class_counts))
        self._own()
        own = self._arrays()
        for name, array in other.state().items():
            own[name] += array

    def all_merge(self, group: dist.ProcessGroup | None = None) -> None:
        """Add the rows of all processes of a `torch.distributed` group, so that each of them has them all.

        Nothing happens where no process group exists. Call it once, after the last update: what it has merged
        counts as this process's own rows.

        Args:
            group: the processes; None for all.

        Raises:
            ValueError: the processes' measures do not have the same options, or not the same classes where
                `classwise`; each process raises it then.

        Cost: one exchange of a few bytes, and an all-reduce of the state.
        """
        ranks = of_all_ranks(len(self._class_counts), self._options(), group)
        for num_classes in filter(None, ranks):  # a process may have seen no row yet
            self._grow_classes(num_classes)
        if ranks:
            state = self.state()
            sum_over_ranks(state, group)
            self.load(state)

    def compute(self) -> CalibrationResult:
        """The measures of all rows counted so far.

        Raises:
            ValueError: no row was counted.

        Cost: that of the numbers that are asked of the result, whatever the number of rows: 20 ms for the
            smooth calibration error, less than a millisecond for each of the others.
        """
        if not self._counts.any():
            raise InputError("calibration needs at least one row that counts, got none")
        self._shared = True
        return CalibrationResult(copy.copy(self))

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
            ece, ece_l2, mce, debiased_l2, ece_equal_mass, smece, and top_K_accuracy for each K of `top_k`.
            That of debiased_l2 is that of ece_l2, as both estimate the same number. An infinite NLL has low
            = high = inf.

        Raises:
            TypeError: `replicates` is not an int.
            ValueError: there are fewer than 100, `level` is not in 0..1, or no row was counted.

        Cost: about a second, whatever the number of rows.
        """
        require_replicates(replicates, level)
        result = self.compute()
        rng = np.random.default_rng(seed)
        means = self._draw_means(rng, replicates)
        intervals: dict[str, Interval] = {}
        effective = self._sums[_W].sum() ** 2 / self._sums[_WW].sum()
        shares = {"accuracy": result.accuracy} | {
            f"top_{k}_accuracy": share for k, share in result.top_k.items()
        }
        for name, value in shares.items():
            intervals[name] = share_interval(value, effective, level)
        for name in ("nll", "brier", "mean_confidence", "over_confidence", "entropy"):
            value = getattr(result, name)
            intervals[name] = (
                percentile_interval(value, means[name], level)
                if math.isfinite(value)
                else Interval(value=value, low=value, high=value)
            )
        gaps, noise, share = self._draw_gaps(rng, replicates, self._bin_of_cell, result.bins)

        def ece(gap: Floats) -> Any:
            return np.abs(gap).sum(-1)

        def l2(gap: Floats) -> Any:
            return np.sqrt((np.square(gap) / share).sum(-1))

        def largest(gap: Floats) -> Any:
            return (np.abs(gap) / share).max(-1)

        intervals["ece"] = shrinking_interval(result.ece, gaps, noise, ece, level)
        intervals["ece_l2"] = shrinking_interval(result.ece_l2, gaps, noise, l2, level)
        intervals["mce"] = shrinking_interval(result.mce, gaps, noise, largest, level)
        of_l2, value = intervals["ece_l2"], result.debiased_l2
        intervals["debiased_l2"] = Interval(
            value=value, low=min(value, of_l2.low), high=max(value, of_l2.high)
        )
        mass_of_cell, _ = self._equal_mass()
        gaps, noise, _ = self._draw_gaps(rng, replicates, mass_of_cell, result.equal_mass_bins)
        intervals["ece_equal_mass"] = shrinking_interval(result.ece_equal_mass, gaps, noise, ece, level)
        intervals["smece"] = smooth_ece_interval(result.smece, *self._draw_fields(rng), level)
        return intervals

    # --- the state

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, as arrays that sum: added to those of another, they are those of both.

        The classes of a `classwise` measure are in it from its first row on.
        """
        return {name: array.copy() for name, array in self._arrays().items()}

    def load(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take the rows of a `state`, of a measure with the same options, in place of those counted here.

        Raises:
            ValueError: it is the state of a measure with other options.
        """
        self.reset()
        if "class_counts" in state and self.classwise:
            self._grow_classes(len(state["class_counts"]))
        own = self._arrays()
        shapes = [{name: array.shape for name, array in arrays.items()} for arrays in (own, state)]
        if shapes[0] != shapes[1]:
            raise InputError(f"a measure of {self._options()} needs arrays {shapes[0]}, got {shapes[1]}")
        for name, array in state.items():
            own[name][...] = array

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        names = ["counts", "sums", "infinite_nll_rows"]
        if self.top_k:
            names.append("in_top")
        if len(self._class_counts):
            names += ["class_counts", "class_sums"]
        return {name: getattr(self, f"_{name}") for name in names}

    def _options(self) -> str:
        words = f"{self.num_bins} {self.edges}"
        if self.peer:
            words += f" peer={self.peer}"
        if self.classwise:
            words += " classwise"
        if self.top_k:
            words += f" top_k={self.top_k}"
        return words

    def _own(self) -> None:
        """Leave the arrays to the result that reads them, and go on in copies."""
        if self._shared:
            for name, array in self.state().items():
                setattr(self, f"_{name}", array)
            self._shared = False

    def _add(self, rows: RowNumbers, weights: Floats, ranks: Counts | None, eps: float) -> None:
        self._own()
        if not weights.all():
            keep = weights > 0
            rows, weights = rows.select(keep), weights[keep]
            ranks = None if ranks is None else ranks[keep]
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            self._add_to_cells(rows.select(part), weights[part], eps)
        if ranks is not None:
            self._in_top += [weights[ranks < k].sum() for k in self.top_k]

    def _add_to_cells(self, rows: RowNumbers, weights: Floats, eps: float) -> None:
        confidence = rows.confidence
        if self.peer == "torchmetrics":
            confidence = confidence.astype(np.float32).astype(np.float64)
        elif self.peer == "netcal":
            confidence = np.clip(confidence, eps, 1 - eps)
        cell = self._cells.of(confidence)
        where = cell + len(self._cells) * rows.correct
        shape = self._counts.shape
        self._counts += np.bincount(where, minlength=self._counts.size).reshape(shape)
        infinite = np.isinf(rows.nll)
        self._infinite_nll_rows += infinite.sum()
        distance = confidence - self._cells.middles[cell]
        per_row = [weights, weights**2, weights * distance, weights * distance**2]
        for values in (np.where(infinite, 0, rows.nll), rows.brier, rows.entropy):
            per_row += [weights * values, np.square(weights * values)]
        for total, values in zip(self._sums, per_row, strict=True):
            total += np.bincount(where, values, self._counts.size).reshape(shape)

    def _ranks(self, rows: Tensor, labels: Tensor) -> Counts | None:
        """How many classes come before the label, (N,); None where nobody asked."""
        if not self.top_k:
            return None
        ranks = [np.zeros(0, np.int64)]
        classes = torch.arange(rows.shape[-1], device=rows.device)
        for block, part in blocks(rows):
            label = labels[part].unsqueeze(-1)
            own = block.gather(-1, label)
            rank = torch.count_nonzero(block > own, -1)
            tied = torch.count_nonzero(block == own, -1) > 1
            rank[tied] += ((block[tied] == own[tied]) & (classes < label[tied])).sum(-1)
            ranks.append(on_cpu(rank))
        return np.concatenate(ranks)

    def _grow_classes(self, num_classes: int) -> None:
        """Make room for K classes where there is none yet."""
        if not len(self._class_counts):
            bins = len(self._bin_edges()) - 1
            self._class_counts = np.zeros((num_classes, 2, bins), np.int64)
            self._class_sums = np.zeros((2, num_classes, 2, bins))
        if len(self._class_counts) != num_classes:
            raise InputError(
                f"a classwise measure needs the same classes in all rows, got {num_classes} after "
                f"{len(self._class_counts)}"
            )

    def _add_classes(self, probs: Tensor, labels: Tensor, weights: Floats) -> None:
        self._grow_classes(probs.shape[-1])
        self._own()
        p = probs.cpu().numpy()[weights > 0]
        of_class = on_cpu(labels)[weights > 0, None] == np.arange(p.shape[-1])
        weight = np.broadcast_to(weights[weights > 0, None], p.shape)
        if self.peer == "torchmetrics":
            p = p.astype(np.float32).astype(np.float64)
        chosen = self._bin_of_cell[self._cells.of(p)]
        inside = chosen >= 0
        shape = self._class_counts.shape
        where = (2 * np.arange(shape[0]) + of_class) * shape[2] + chosen
        size = self._class_counts.size
        self._class_counts += np.bincount(where[inside], minlength=size).reshape(shape)
        self._class_sums[0] += np.bincount(where[inside], weight[inside], size).reshape(shape)
        self._class_sums[1] += np.bincount(where[inside], (weight * p)[inside], size).reshape(shape)

    # --- from the state

    def _weight(self) -> float:
        return float(self._sums[_W].sum())

    def _mean(self, of: int) -> float:
        return float(self._sums[of].sum()) / self._weight()

    def _smooth_ece(self) -> float:
        moments = self._moments()
        if self.peer == "relplot":
            return smooth_ece_of_relplot(moments, int(self._counts.sum()))
        return float(smooth_ece(moments))

    def _confidence(self) -> Floats:
        """Σ w·c of each cell, (2, cells)."""
        result: Floats = self._sums[_W] * self._cells.middles + self._sums[_WD]
        return result

    def _bin_edges(self) -> Floats:
        return np.append(self._borders, 1) if self.peer == "torchmetrics" else self._borders.copy()

    def _bins(self, bin_of_cell: Counts, edges: Floats) -> ReliabilityBins:
        num = len(edges) - 1
        weight = _joined(self._sums[_W], bin_of_cell, num)
        with np.errstate(invalid="ignore"):  # 0/0 is the nan of an empty bin
            return ReliabilityBins(
                edges=edges,
                count=_joined(self._counts, bin_of_cell, num).sum(0),
                share=weight.sum(0) / self._sums[_W].sum(),
                confidence=_joined(self._confidence(), bin_of_cell, num).sum(0) / weight.sum(0),
                accuracy=weight[1] / weight.sum(0),
            )

    def _equal_mass(self) -> tuple[Counts, Floats]:
        """Bin of each cell, and the borders between the bins."""
        weight = self._sums[_W].sum(0)
        up_to = np.cumsum(weight)
        bin_of_cell = ((up_to - weight / 2) / up_to[-1] * self.num_bins).astype(np.int64)
        bin_of_cell = np.clip(bin_of_cell, 0, self.num_bins - 1)
        first = np.searchsorted(bin_of_cell, np.arange(1, self.num_bins))
        upper = np.concatenate([[0], self._cells.edges, [1]])
        return bin_of_cell, np.concatenate([[0], upper[first], [1]])

    def _debiased_l2(self, bins: ReliabilityBins) -> float:
        weight_sq = _joined(self._sums[_WW], self._bin_of_cell, len(bins.count)).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            effective = (
                np.square(bins.share * self._sums[_W].sum()) / weight_sq
            )  # n_b where nothing is weighted
            noise = bins.accuracy * (1 - bins.accuracy) / (effective - 1)
            terms = bins.share * (np.square(bins.accuracy - bins.confidence) - noise)
        return math.sqrt(max(0.0, float(terms[effective >= 2].sum())))

    def _moments(self) -> ResidualMoments:
        of_cell = _interval_of(self._cells.middles, INTERVALS)
        shift = self._cells.middles - (of_cell + 0.5) / INTERVALS
        w, wd, wdd = self._sums[_W], self._sums[_WD], self._sums[_WDD]
        about_middle = (
            w,
            wd + shift * w,
            wdd + 2 * shift * wd + shift**2 * w,
            3 * shift * wdd + 3 * shift**2 * wd + shift**3 * w,  # but for Σ w·d³ within a cell
        )
        return moments_of_sums(*(_joined(sums, of_cell, INTERVALS) for sums in about_middle))

    def _classwise_bins(self) -> ClasswiseBins:
        weight, confidence = self._class_sums
        with np.errstate(invalid="ignore"):
            return ClasswiseBins(
                edges=self._bin_edges(),
                count=self._class_counts.sum(1),
                share=weight.sum(1) / self._sums[_W].sum(),
                confidence=confidence.sum(1) / weight.sum(1),
                frequency=weight[:, 1] / weight.sum(1),
            )

    # --- the bootstrap

    def _draw_means(self, rng: np.random.Generator, replicates: int) -> dict[str, Floats]:
        n, right, w, ww, confidence, *scores = self._per_row(_COARSE)
        gap = confidence - right * w
        # means over the rows of a cell of w·x and (w·x)²
        totals = {
            "mean_confidence": (confidence, ww * np.square(confidence / w)),
            "over_confidence": (gap, ww * np.square(gap / w)),
            "nll": (scores[0], scores[1]),
            "brier": (scores[2], scores[3]),
            "entropy": (scores[4], scores[5]),
        }
        draws: dict[str, list[Floats]] = {name: [] for name in totals}
        for drawn in bootstrap_counts(rng, n, int(n.sum()), replicates):
            for name, (wx, wx_sq) in totals.items():
                # of w·(x − mean), so that weights alone, which a mean is divided by, add no noise
                mean = (n @ wx) / (n @ w)
                centred = wx - mean * w
                variance = wx_sq - 2 * mean * ww * wx / w + mean**2 * ww - centred**2
                sums = bootstrap_sums(rng, drawn, centred, np.maximum(variance, 0))
                draws[name].append(mean + sums / (drawn @ w))
        return {name: np.concatenate(parts) for name, parts in draws.items()}

    def _draw_fields(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Residuals' shares of the weight in equal intervals (M,), and draws of them (R, M)."""
        of_cell = _interval_of(self._cells.middles, _FIELD)
        residual = self._confidence() - np.array([[0.0], [1.0]]) * self._sums[_W]
        total = self._sums[_W].sum()
        n = _joined(self._counts, of_cell, _FIELD).reshape(-1)
        sums = _joined(residual, of_cell, _FIELD)
        filled = n > 0
        place = np.flatnonzero(filled) % _FIELD
        mean = sums.reshape(-1)[filled] / n[filled]
        draws = np.zeros((_FIELD_REPLICATES, _FIELD))
        start = 0
        for drawn in bootstrap_counts(rng, n[filled], int(n.sum()), _FIELD_REPLICATES):
            np.add.at(draws.T[:, start : start + len(drawn)], place, (drawn * mean).T)
            start += len(drawn)
        return sums.sum(0) / total, draws / total

    def _per_row(self, intervals: int) -> list[Floats]:
        """Of cells joined to equal intervals, right and wrong rows apart, where there are rows (G,):
        how many, whether right, and the means over them of w, w², w·c, and all from w·nll on.
        """
        of_cell = _interval_of(self._cells.middles, intervals)
        n = _joined(self._counts, of_cell, intervals).reshape(-1)
        filled = n > 0
        right = np.arange(2 * intervals)[filled] >= intervals
        sums = [self._sums[_W], self._sums[_WW], self._confidence(), *self._sums[_NLL:]]
        means = [_joined(total, of_cell, intervals).reshape(-1)[filled] / n[filled] for total in sums]
        return [n[filled], right, *means]

    def _draw_gaps(
        self, rng: np.random.Generator, replicates: int, bin_of_cell: Counts, bins: ReliabilityBins
    ) -> tuple[Floats, Floats, Floats]:
        """Of bins that have rows: share·(confidence − accuracy) (B,), draws of it (R, B), and share (B,).

        Each bin gets one more row, right with the probability that its confidence says: where all its rows
        were right, or all wrong, drawing from them alone would leave no doubt.
        """
        filled = bins.count > 0
        num = len(filled)
        n = _joined(self._counts, bin_of_cell, num)[:, filled]  # (2, B)
        total = self._sums[_W].sum()
        confidence, share = bins.confidence[filled], bins.share[filled]
        outcome = np.array([[0.0], [1.0]])
        residual = _joined(self._confidence() - outcome * self._sums[_W], bin_of_cell, num)[:, filled]
        square = _joined(self._sums[_WW] * np.square(self._cells.middles - outcome), bin_of_cell, num)[
            :, filled
        ]
        weight = share * total / n.sum(0)  # mean weight of a row of the bin
        extra = np.where(outcome == 1, confidence, 1 - confidence)  # (2, B)
        extra = np.clip(extra, 0, 1)
        mean = (residual + extra * weight * (confidence - outcome)) / (n + extra + (n + extra == 0))
        square = (square + extra * np.square(weight * (confidence - outcome))) / (
            n + extra + (n + extra == 0)
        )
        variance = np.maximum(square - mean**2, 0)
        draws = []
        for drawn in bootstrap_counts(rng, (n + extra).reshape(-1), int(self._counts.sum()), replicates):
            each = drawn.reshape(-1, 2, n.shape[1])
            noise = np.sqrt(each * variance) * rng.standard_normal(each.shape)
            draws.append((each * mean + noise).sum(1) / total)
        return residual.sum(0) / total, np.concatenate(draws), share


@cache
def _layout(num_bins: int, edges: Edges, peer: Peer | None) -> tuple[Floats, Cells, Counts]:
    """Borders of the bins, cells, and the bin of each cell, −1 for none; shared, and never written to."""
    if peer in ("torchmetrics", "gpleiss"):
        borders = torch.linspace(0, 1, num_bins + 1, dtype=torch.float32).double().numpy()
    else:
        borders = np.linspace(0, 1, num_bins + 1)
    cells = Cells(borders, "left" if edges == "left_open" else "right")
    between = np.searchsorted(borders, cells.edges[:-1], "right") - 1
    first, last = 0, num_bins - 1
    if peer == "torchmetrics":
        last = num_bins
    elif peer == "gpleiss":
        first = last = -1
    return borders, cells, np.concatenate([[first], between, [last]])


def _weighted(rows: Tensor, labels: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Floats]:
    """The same with a weight of 1 for each row where none is given."""
    return rows, labels, np.ones(len(labels)) if weights is None else weights.numpy()


def _interval_of(confidence: Floats, intervals: int) -> Counts:
    """Which of equal intervals of [0, 1] each confidence lies in."""
    return np.clip((confidence * intervals).astype(np.int64), 0, intervals - 1)


def _joined(values: npt.NDArray[Any], group: Counts, num: int) -> npt.NDArray[Any]:
    """Sums (…, num) of the cells (…, cells) in each group; a group below 0 is left out."""
    rows = values.reshape(-1, values.shape[-1])
    sums = np.array([np.bincount(group + 1, row, num + 1)[1:] for row in rows])
    return sums.reshape(*values.shape[:-1], num).astype(values.dtype)  # counts are whole up to 2^53
