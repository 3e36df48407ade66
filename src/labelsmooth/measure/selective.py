"""Selective prediction: how few errors a classifier makes on the rows that it is most confident of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.checks import require_int
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.arrays import IN_CACHE, State, pieces
from labelsmooth.measure.confidence_table import NAMES, ConfidenceTable, grid_of_shares
from labelsmooth.measure.inputs import (
    Array,
    as_tensor,
    logit_rows,
    on_cpu,
    on_cpu_float64,
    row_weights,
    weighted_rows,
)
from labelsmooth.measure.interval import Interval, require_replicates
from labelsmooth.measure.protocol import Summable, Table, require_same_options, unchanged_on_error
from labelsmooth.measure.rows import joined, numbers_from_probs, numbers_from_stats, widened
from labelsmooth.measure.selective_intervals import intervals
from labelsmooth.measure.selective_result import SelectiveResult, risk_coverage
from labelsmooth.row_stats import RowStats, row_stats


class Selective(Summable):
    """Risk–coverage curve of a classifier and the areas under it, from a stream of batches.

    With A(t) the rows of confidence ≥ t and E(t) the errors among them, and each distinct confidence as
    threshold: AURC = mean over rows i of E(c_i)/A(c_i). AUGRC = ∫ E/N d(A/N), with straight lines between
    thresholds, which is what random order within a tie gives on average, so that
    AUGRC = (1 − AUROC)·accuracy·error + error²/2, with the AUROC of telling correct rows from errors. Rows of
    equal confidence are accepted together, so that the order of rows never matters. A row of weight w is w
    rows of its confidence: A, E and N are sums of weights, and a row of weight 0 does not count.

    The state is a table of distinct confidences with their counts. Once there are more than `capacity` it
    becomes a fixed grid of floating-point cells, 2048 to a factor of two in 1 − c for c in 0.5..1, and in |c|
    otherwise; each cell then is one tie. Either way it depends on the rows counted alone, not on their order,
    split or merges, but for the rounding of sums of weights.

    Args:
        capacity: distinct confidences kept apart, ≥ 1.

    Raises:
        TypeError: `capacity` is not an int.
        ValueError: `capacity` < 1.

    Cost: 24 bytes a distinct confidence (56 with weights), 25 MB at most (4 MB on the grid of 0..1), and 3 MB
        of rows not yet sorted in; sorting them in takes 20 MB more for a moment, and a result of a million
        thresholds 40 MB. Over 10⁷ rows of logits the memory of a process rises by at most 50 MB, at the
        change to the grid (`python benchmarks/measure.py --only memory`).

    Example:
        >>> selective = Selective()
        >>> selective.update(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 0]))
        >>> selective.update_scores(np.array([0.5]), np.array([True]))
        >>> result = selective.compute()
        >>> result.rows, result.accuracy, round(result.aurc, 4), round(result.augrc, 4)
        (4, 0.75, 0.1458, 0.0938)
        >>> result.coverage_at(risk=0.3), result.risk_at(coverage=0.5)
        (1.0, 0.0)

    Source: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks"; AUGRC: Traub et al.
    2024, "Overcoming Common Flaws in the Evaluation of Selective Classification Systems". Conventions of
    others: `SelectiveResult.peer_aurc`.
    """

    def __init__(self, capacity: int = 2**20) -> None:
        require_int(capacity, "capacity")
        if capacity < 1:
            raise InputError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._table = ConfidenceTable(self.capacity)

    def update(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count rows of logits, with the largest probability as confidence.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0.
            target: (…) integers in 0..K−1, or `ignore_index`.
            weight: (…) finite numbers ≥ 0; a row of weight 0 does not count.
            ignore_index: rows with this target do not count.
            class_axis: of `logits`; 1 in maps (N, K, H, W) with targets (N, H, W).

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, a logit is NaN or +inf,
                or all logits of a row are −inf.

        Cost: that of `row_stats` in float64, about twice that of float32, and 2 MB: confidences in float32
            tie by rounding from 1 − 6e-8 on.
        """
        rows, labels, weights = logit_rows(
            logits, target, weight, ignore_index=ignore_index, class_axis=class_axis
        )
        numbers = joined(
            [
                numbers_from_stats(row_stats(piece, labels_of_piece.unsqueeze(-1)))
                for piece, labels_of_piece in pieces(rows, labels, numbers=IN_CACHE)
            ]
        )
        self._table.add_rows(numbers.confidence, numbers.correct, weights)

    def update_probs(
        self,
        probs: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count rows of probabilities, taken as they are: nothing is clipped or renormalised.

        Args:
            probs: (…, K) floats in 0..1 (and at most four units of rounding above), K ≥ 2, each row summing
                to 1 within 1e-3, or within the square root of its dtype's epsilon in half precision.
            target, weight, ignore_index, class_axis: as for `update`.

        Raises:
            TypeError: `probs` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, or a row is no
                distribution.

        Cost: that of `Calibration.update_probs`.
        """
        rows, labels, weights = weighted_rows(
            probs, target, weight, "probs", ignore_index=ignore_index, class_axis=class_axis
        )
        numbers = numbers_from_probs(rows, labels)
        self._table.add_rows(numbers.confidence, numbers.correct, weights)

    def update_stats(self, stats: RowStats, weight: Array | None = None) -> None:
        """Count rows whose statistics are already known, as a training step has them from its loss.

        Args:
            stats: with the label as the first index of each row; rows that do not count are left out. From
                logits narrower than float64 they are float32, and confidences within 6e-8 may tie.
            weight: (…) of all rows of the statistics, as for `update`.

        Raises:
            ValueError: the statistics hold no label, or come from logits that were NaN or +inf, or all −inf;
                or a weight is out of range or of another layout.

        Cost: a few passes over vectors of one number a row, which move to the CPU.
        """
        weights = None
        if weight is not None:
            weights = row_weights(weight, stats.log_sum.shape, "the statistics")
            weights = weights[stats.counted.reshape(-1).cpu()]
        numbers = numbers_from_stats(widened(stats))
        self._table.add_rows(numbers.confidence, numbers.correct, weights)

    def update_scores(self, confidence: Array, correct: Array, weight: Array | None = None) -> None:
        """Count rows by any confidence at all: only its order matters.

        Args:
            confidence: (…) finite floats, higher for rows to be accepted first.
            correct: (…) bool, whether the prediction is right.
            weight: (…) as for `update`.

        Raises:
            TypeError: an argument is no tensor or array, or does not hold floats or bools.
            ValueError: the shapes differ, a confidence is not finite, or a weight is out of range.

        Cost: a few passes over the two.
        """
        scores, right = as_tensor(confidence, "confidence"), as_tensor(correct, "correct")
        if not scores.is_floating_point():
            raise InputTypeError(f"confidence must hold floating-point values, got {scores.dtype}")
        if right.dtype != torch.bool:
            raise InputTypeError(f"correct must hold bools, got {right.dtype}")
        if scores.shape != right.shape:
            raise InputError(
                f"confidence and correct must have the same shape, got {tuple(scores.shape)} and "
                f"{tuple(right.shape)}"
            )
        weights = None if weight is None else row_weights(weight, scores.shape, "confidence")
        rows = on_cpu_float64(scores).copy()  # it may wait in memory that the caller writes to
        wrong = ~np.isfinite(rows)
        if wrong.any():
            raise InputError(f"confidence must be finite, got {rows[wrong][0]}")
        self._table.add_rows(rows, on_cpu(right), weights)

    def merge(self, other: Selective) -> None:
        """Add the rows that `other` counted to this measure; `other` counts the same rows as before.

        Raises:
            ValueError: the two do not have the same capacity.
        """
        require_same_options(self.options(), other.options())
        self._table.merge(other._table)

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        return f"capacity={self.capacity}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted: confidences with their counts, or those of the grid's cells."""
        return self._table.arrays()

    def load(self, state: State) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: the arrays are not those of a state.
        """
        if set(state) != {"exact", "confidence", *NAMES}:
            raise InputError(f"a state has exact, confidence, {', '.join(NAMES)}, got {', '.join(state)}")
        with unchanged_on_error(self):
            self.reset()
            self._table.add_arrays(state)

    def sums(self) -> dict[str, npt.NDArray[Any]]:
        """The counts on the grid, as arrays that sum: added to another's, they are those of both.

        Returns:
            "count" and "errors", int64, and float64 sums of the weights of these rows, "weight" and
            "error_weight", and of their squares, "squared_weight" and "squared_error_weight", of one size
            (1 MB each), whatever was counted. Confidences below 2⁻²⁴, which no softmax over fewer classes
            has, are one cell.

        Raises:
            ValueError: a confidence is not in 0..1, as those of `update_scores` need not be.
        """
        return self._table.sums()

    def load_sums(self, sums: State) -> None:
        """Take the rows of such sums in place of those counted here.

        Raises:
            ValueError: the arrays are not those of `sums`.
        """
        size = grid_of_shares().shape
        shapes = {name: array.shape for name, array in sums.items()}
        if shapes != dict.fromkeys(NAMES, size):
            raise InputError(f"sums are {', '.join(NAMES)} of shape {size}, got {shapes}")
        self.reset()
        self._table.add_sums(sums)

    def compute(self) -> SelectiveResult:
        """The curve and its areas over all rows counted so far.

        Raises:
            ValueError: no row was counted.

        Cost: a few passes over the table.
        """
        return risk_coverage(*self._table.falling(), exact=self._table.exact)

    def values(self) -> dict[str, float]:
        """The numbers of `compute` that the catalogue knows, with the coverage at 1 % risk.

        Rows and accuracy are left to `Calibration`, which has them too.
        """
        result = self.compute()
        values = {name: value for name, value in result.values().items() if name not in ("rows", "accuracy")}
        return values | {"coverage_at_1pct_risk": result.coverage_at(0.01)}

    def figures(self) -> dict[str, Table]:
        """The risk–coverage curve as a table."""
        return {"risk_coverage": self.compute().columns()}

    def intervals(
        self,
        replicates: int = 1000,
        level: float = 0.95,
        seed: int = 0,
        risks: Sequence[float] = (0.01,),
        coverages: Sequence[float] = (),
    ) -> dict[str, Interval]:
        """Confidence intervals by bootstrap: how far the numbers would move with other rows of the same kind.

        Each replicate draws as many rows as were counted, with replacement, as one multinomial draw over the
        groups of equal confidence, correct rows and errors apart. The weight of the rows drawn from a group
        of several weights is drawn from the gamma distribution with its mean and variance. Where there are
        more than 4096 groups, neighbours are drawn as one, and the replicates' quantiles are moved by what
        that alone changes. An interval is those quantiles.

        Of 1000 simulated sets (`python benchmarks/coverage_selective.py`), the 95 % interval of the AURC held
        the true value in 94 to 96 % where a set had 50 errors or more, in 92 to 94 % with 20, and in 82 to
        83 % with 4: the fewer errors, the less a bootstrap knows of those not seen. That of a coverage at a
        risk means little where the confidence hardly orders the rows, as a few right ones on top are luck
        then; it held in 30 to 70 %.

        Args:
            replicates: of the bootstrap, at least 100.
            level: of the intervals, between 0 and 1.
            seed: of the draws; the same rows and seed give the same intervals.
            risks: for each r in 0..1 the interval of `coverage_at(r)`.
            coverages: for each c in 0..1 the interval of `risk_at(c)`.

        Returns:
            Intervals by name: accuracy, aurc, augrc, excess_aurc, coverage_at_1pct_risk for a risk of 0.01,
            risk_at_80pct_coverage for a coverage of 0.8.

        Raises:
            TypeError: `replicates` is not an int.
            ValueError: no row was counted, or a number is out of its range.

        Cost: under two seconds for 1000 replicates, however many rows there are.
        """
        require_replicates(replicates, level)
        result = self.compute()
        _, columns = self._table.falling()
        return intervals(columns, result, replicates, level, seed, risks, coverages)
