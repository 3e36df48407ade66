"""Selective prediction: how few errors a classifier makes on the rows that it is most confident of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal, Self, TypeAlias, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.batches import Batch, parts_of
from labelsmooth.measure.inputs import (
    Array,
    as_tensor,
    logit_rows,
    on_cpu,
    on_cpu_float64,
    require_usable,
    row_weights,
    score_rows,
    weighted_rows,
)
from labelsmooth.measure.interval import (
    Interval,
    bootstrap_counts,
    percentile_interval,
    require_replicates,
)
from labelsmooth.measure.ranks import merge_over_ranks, require_same_options
from labelsmooth.measure.result import Result
from labelsmooth.measure.rows import joined, of_probs, of_stats, widened
from labelsmooth.row_stats import RowStats, row_stats

Peer: TypeAlias = Literal["fd_shifts", "torch_uncertainty", "geifman", "cattelan"]

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

# What each group of rows holds: the weight of its rows and of the wrong ones, whole numbers where no row has
# a weight of its own. Else these are followed by how many both are, and the sums of their squared weights.
_Columns: TypeAlias = tuple[npt.NDArray[Any], ...]

_STATE = ("weight", "error_weight", "count", "errors", "squared_weight", "squared_error_weight")

_ArrayT = TypeVar("_ArrayT", Tensor, npt.NDArray[Any])

# logits widened to float64 at a time: 2 MB, so that a piece stays in cache through all that is done with it
_PIECE = 2**18

# rows put aside before they are sorted into the groups
_PENDING = 2**17

# bits of a float64's significand that a cell of the grid leaves open: 2048 cells to a factor of two
_OPEN_BITS = np.int64(52 - 11)
# magnitudes beyond these are not told apart by the grid
_SMALLEST, _LARGEST = 2.0**-64, 2.0**64

# neighbouring groups are drawn as one beyond this number
_BOOTSTRAP_CELLS = 4096

# how far rounding may put a sum of weights off, relatively
_ROUNDING = 1e-9

# the norms that PNorm tries, as its source does
_POWERS = range(1, 11)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SelectiveResult(Result):
    """What `Selective.compute` found: a risk–coverage curve with one point for each threshold, and its areas.

    At threshold t the rows with confidence ≥ t are accepted. Coverage is their share of all rows, risk the
    share of errors among them; both lie in 0..1. Areas are means over coverage, and small is good. Where rows
    have weights, every share and mean is one of weight.
    """

    rows: int  # that count
    accuracy: float
    aurc: float  # mean over rows of the risk at the row's own confidence as threshold
    augrc: float  # area under the generalised risk: errors accepted / all rows, against coverage
    oracle_aurc: float  # of the best order at this accuracy: every error last, one by one, of equal weight
    random_aurc: float  # of a random order, on average: the error rate
    excess_aurc: float  # aurc − oracle_aurc, ≥ 0
    coverage: Floats  # (T,), rising to 1
    risk: Floats  # (T,)
    threshold: Floats  # (T,), falling; a cell's lowest confidence where not exact
    accepted: Counts | Floats  # (T,), rows at or above the threshold, or their weight
    errors: Counts | Floats  # (T,), those of them that are wrong
    exact: bool  # whether each threshold is one confidence, rather than a cell of the grid

    def coverage_at(self, risk: float) -> float:
        """The largest coverage over all thresholds with errors ≤ risk · accepted; 0 where there is none.

        Args:
            risk: in 0..1, taken as the simple fraction that rounds to it, so that 0.01 allows one error in
                exactly 100 rows.

        Raises:
            ValueError: `risk` is not in 0..1.
        """
        num, den = _ratio(risk, "risk")
        within = np.flatnonzero(_at_most(self.errors, den, self.accepted, num))
        return float(self.coverage[within[-1]]) if within.size else 0.0

    def risk_at(self, coverage: float) -> float:
        """The risk at the highest threshold that accepts at least this share of the rows.

        Args:
            coverage: in 0..1, taken as the simple fraction that rounds to it; 0 gives the first threshold's.

        Raises:
            ValueError: `coverage` is not in 0..1.
        """
        num, den = _ratio(coverage, "coverage")
        enough = _at_most(self.accepted[-1:], num, self.accepted, den)
        return float(self.risk[np.argmax(enough)])

    def peer_aurc(self, peer: Peer) -> float:
        """The AURC that another library gives, exactly where no two confidences are equal.

        Rows that tie are one group here too, where all peers but fd_shifts let the order of rows decide.

        Args:
            peer: "fd_shifts": trapezoids, the first threshold's risk down to coverage 0 (fd-shifts c4467ae,
                divided by its factor of 1000). "torch_uncertainty": trapezoids from coverage 1/N on, over
                1 − 1/N (0.13.0); nan for one row. "cattelan": trapezoids from risk 0 at coverage 0
                (lfpc/FixSelectiveClassification edc274e). "geifman": Geifman et al. 2019 (uncertainty_ICLR
                24b8d47), which divides by one row more than is accepted, except at coverage 1. The `aurc` of
                this result is that of Moon et al. 2020 (daintlab/confidence-aware-learning 8bb514c).

        Raises:
            ValueError: `peer` is none of these words, or rows have weights, which no peer knows.
        """
        self._require_peer(peer, get_args(Peer))
        if peer == "geifman":
            above = np.append(self.accepted[:-1] + 1, self.rows)
            return float(np.diff(self.accepted, prepend=0) @ (self.errors / above)) / self.rows
        if peer == "cattelan":
            return _trapezoids(np.append(0, self.coverage), np.append(0, self.risk))
        risk = np.append(self.risk[0], self.risk)
        if peer == "fd_shifts":
            return _trapezoids(np.append(0, self.coverage), risk)
        return self._beyond_first_row(risk)

    def peer_augrc(self, peer: Literal["fd_shifts", "torch_uncertainty"]) -> float:
        """The AUGRC that another library gives, exactly where no two confidences are equal.

        Args:
            peer: "fd_shifts": the `augrc` of this result. "torch_uncertainty": trapezoids from coverage 1/N
                on, over 1 − 1/N; nan for one row.

        Raises:
            ValueError: as `peer_aurc`.
        """
        self._require_peer(peer, ("fd_shifts", "torch_uncertainty"))
        if peer == "fd_shifts":
            return self.augrc
        return self._beyond_first_row(np.append(self.risk[0] / self.rows, self.risk * self.coverage))

    def _require_peer(self, peer: str, known: Sequence[str]) -> None:
        if peer not in known:
            raise InputError(f"peer must be one of {', '.join(map(repr, known))}, got {peer!r}")
        if not np.issubdtype(self.accepted.dtype, np.integer):
            raise InputError(f"{peer} knows no weights, got rows that have some")

    def _beyond_first_row(self, height: Floats) -> float:
        """The mean of `height` over coverages from 1/N to 1."""
        if self.rows < 2:
            return math.nan
        return _trapezoids(np.append(1 / self.rows, self.coverage), height) / (1 - 1 / self.rows)


class Selective:
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
        if isinstance(capacity, bool) or not isinstance(capacity, int):
            raise InputTypeError(f"capacity must be an int, got {type(capacity).__name__}")
        if capacity < 1:
            raise InputError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._exact = True
        self._confidence: Floats = np.zeros(0)  # (G,), rising
        self._columns: _Columns = (np.zeros(0, np.int64), np.zeros(0, np.int64))  # (G,) each
        self._pending: list[tuple[Floats, _Columns]] = []
        self._num_pending = 0

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
        numbers = joined([of_stats(stats) for _, stats, _ in _in_float64(rows, labels)])
        self._add_rows(numbers.confidence, numbers.correct, weights)

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
        numbers = of_probs(rows, labels)
        self._add_rows(numbers.confidence, numbers.correct, weights)

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
        numbers = of_stats(widened(stats))
        self._add_rows(numbers.confidence, numbers.correct, weights)

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
        self._add_rows(rows, on_cpu(right), weights)

    def merge(self, other: Selective) -> None:
        """Add the rows that `other` counted to this measure; `other` counts the same rows as before.

        Raises:
            ValueError: the two do not have the same capacity.
        """
        require_same_options(self._options(), other._options())
        other._fold()
        self._add(other._confidence, other._columns, exact=other._exact)
        self._fold()  # while the table of `other` is what it was

    def all_merge(self, group: dist.ProcessGroup | None = None) -> None:
        """Add the rows of all processes of a `torch.distributed` group, so that each of them has them all.

        Nothing happens where no process group exists. Call it once, after the last update: what it has merged
        counts as this process's own rows.

        Args:
            group: the processes; None for all.

        Raises:
            ValueError: the processes' measures do not have the same capacity; each process raises it then.

        Cost: every process gets the table of every other.
        """
        self._fold()
        merge_over_ranks(self, self._options(), group)

    def state(self) -> dict[str, Counts | Floats]:
        """What was counted, on the grid, as arrays that sum: added to another's, they are those of both.

        Returns:
            "count" and "errors", int64, and float64 sums of the weights of these rows, "weight" and
            "error_weight", and of their squares, "squared_weight" and "squared_error_weight", of one size
            (1 MB each), whatever was counted. Confidences below 2⁻²⁴, which no softmax over fewer classes
            has, are one cell.

        Raises:
            ValueError: a confidence is not in 0..1, as those of `update_scores` need not be.
        """
        self._fold()
        cells = _cells(self._confidence)
        if cells.size and not (cells[0] >= 0 and cells[-1] <= 1):
            outside = self._confidence[0 if cells[0] < 0 else -1]
            raise InputError(f"a state needs confidences in 0..1, got {outside}")
        grid = _grid_of_shares()
        at = np.searchsorted(grid, cells, "right") - 1
        columns = zip(_STATE, _with_weights(self._columns), strict=True)
        return {name: np.bincount(at, values, grid.size).astype(values.dtype) for name, values in columns}

    def load(self, state: Mapping[str, Counts | Floats]) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: the arrays are not those of a state.
        """
        grid = _grid_of_shares()
        shapes = {name: array.shape for name, array in state.items()}
        if shapes != dict.fromkeys(_STATE, grid.shape):
            raise InputError(f"a state has {', '.join(_STATE)} of shape {grid.shape}, got {shapes}")
        self.reset()
        filled = state["count"] > 0
        columns = tuple(state[name][filled] for name in _STATE)
        weight, _, count, errors, squared_weight, _ = columns
        # where Σ w = Σ w² = n every weight is 1
        unweighted = (weight == count).all() and (squared_weight == count).all()
        self._add(grid[filled], (count, errors) if unweighted else columns, exact=False)

    def compute(self) -> SelectiveResult:
        """The curve and its areas over all rows counted so far.

        Raises:
            ValueError: no row was counted.

        Cost: a few passes over the table.
        """
        threshold, columns = self._falling()
        weight, wrong = columns[:2]
        count, wrong_count = _counts(columns)
        accepted, errors = np.cumsum(weight), np.cumsum(wrong)
        total, total_errors = float(accepted[-1]), float(errors[-1])
        risk = errors / accepted
        aurc = float(weight @ risk) / total
        oracle = float(_oracle_aurc(accepted[-1:], errors[-1:], wrong_count.sum(keepdims=True))[0])
        return SelectiveResult(
            rows=int(count.sum()),
            accuracy=(total - total_errors) / total,
            aurc=aurc,
            augrc=_trapezoids(np.append(0, accepted / total), np.append(0, errors / total)),
            oracle_aurc=oracle,
            random_aurc=total_errors / total,
            excess_aurc=max(0.0, aurc - oracle),  # rounding can put it below
            coverage=accepted / total,
            risk=risk,
            threshold=threshold,
            accepted=accepted,
            errors=errors,
            exact=self._exact,
        )

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
        of_risk = {f"coverage_at_{100 * r:.10g}pct_risk": _ratio(r, "risk") for r in risks}
        of_coverage = {f"risk_at_{100 * c:.10g}pct_coverage": _ratio(c, "coverage") for c in coverages}
        result = self.compute()
        value = {name: getattr(result, name) for name in ("accuracy", "aurc", "augrc", "excess_aurc")}
        value |= {name: result.coverage_at(r) for name, r in zip(of_risk, risks, strict=True)}
        value |= {name: result.risk_at(c) for name, c in zip(of_coverage, coverages, strict=True)}

        _, columns = self._falling()
        count, _ = _counts(columns)
        if count.size > _BOOTSTRAP_CELLS:
            cell = (np.cumsum(count) - 1) * _BOOTSTRAP_CELLS // result.rows
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            columns = tuple(np.add.reduceat(column, first) for column in columns)
        weight, wrong = columns[:2]
        num_wrong = _counts(columns)[1].sum(keepdims=True)
        drawn_as_one = _measured(weight[None], wrong[None], num_wrong, of_risk, of_coverage)
        parts = [
            _measured(*draw, of_risk, of_coverage)
            for draw in _drawn(np.random.default_rng(seed), columns, replicates)
        ]
        intervals = {}
        for name, at in value.items():
            draws = np.concatenate([part[name] for part in parts]) + (at - drawn_as_one[name])
            intervals[name] = percentile_interval(at, np.clip(draws, 0, 1), level)
        return intervals

    def _options(self) -> str:
        return f"capacity={self.capacity}"

    def _add_rows(self, confidence: Floats, correct: Bools, weights: Tensor | None = None) -> None:
        if weights is not None:
            counts = weights.numpy() > 0
            confidence, correct, weight = confidence[counts], correct[counts], weights.numpy()[counts]
        wrong = ~correct
        columns: _Columns = (np.ones(confidence.shape, np.int64), wrong.astype(np.int64))
        if weights is not None:
            columns = (weight, wrong * weight, *columns, weight**2, wrong * weight**2)
        self._add(confidence, columns)

    def _add(self, confidence: Floats, columns: _Columns, *, exact: bool = True) -> None:
        if not exact and self._exact:
            self._fold()
            self._to_grid()
        if len(columns) > len(self._columns):
            self._fold()
            self._columns = _with_weights(self._columns)
        elif len(columns) < len(self._columns):
            columns = _with_weights(columns)
        self._pending.append((confidence, columns))
        self._num_pending += confidence.size
        if self._num_pending >= _PENDING:
            self._fold()

    def _fold(self) -> None:
        """Sort what is pending into the table."""
        if not self._pending:
            return
        confidences, columns = zip(*self._pending, strict=True)
        self._pending, self._num_pending = [], 0
        together = tuple(np.concatenate(parts) for parts in zip(*columns, strict=True))
        self._insert(np.concatenate(confidences), together)
        if self._exact and self._confidence.size > self.capacity:
            self._to_grid()

    def _to_grid(self) -> None:
        confidence, columns = self._confidence, self._columns
        self._exact = False
        self._confidence, self._columns = confidence[:0], tuple(column[:0] for column in columns)
        for start in range(0, confidence.size, _PENDING):
            part = slice(start, start + _PENDING)
            self._insert(confidence[part], tuple(column[part] for column in columns))

    def _insert(self, confidence: Floats, columns: _Columns) -> None:
        """Add rows to the table with a copy of one column at a time: sorting it anew would take many."""
        confidence, columns = _grouped(confidence if self._exact else _cells(confidence), columns)
        at = np.searchsorted(self._confidence, confidence)
        known = at < self._confidence.size
        known[known] = self._confidence[at[known]] == confidence[known]
        for total, values in zip(self._columns, columns, strict=True):
            total[at[known]] += values[known]
        at, new = at[~known], ~known
        self._confidence = np.insert(self._confidence, at, confidence[new])
        self._columns = tuple(
            np.insert(total, at, values[new]) for total, values in zip(self._columns, columns, strict=True)
        )

    def _falling(self) -> tuple[Floats, _Columns]:
        """The table from the highest confidence down; `ValueError` without a row."""
        self._fold()
        if self._confidence.size == 0:
            raise InputError("selective prediction needs at least one row that counts, got none")
        return self._confidence[::-1].copy(), tuple(column[::-1] for column in self._columns)


class PNorm:
    """Max-logit p-norm: another confidence from the same logits, taken only where validation rows say so.

    With centred logits x_k = z_k − mean z, confidence_p = max_k x_k / (Σ_k |x_k|^p)^{1/p}, in 0..1. `fit`
    tries p = 1..10, takes the lowest AURC, and keeps it only where that is below the AURC of the largest
    probability. It repairs the order in which rows are accepted, as label smoothing can spoil it; predictions
    stay the same, and the number is no probability.

    `fit` and `fit_batches` have all rows at hand. From a stream, or in several processes, count rows with
    `update`, put them together with `merge` or `all_merge`, and choose with `compute`.

    No interval is given for p: which p wins is a choice among eleven, made on the very rows that a bootstrap
    would draw from. Measure what it does with `Selective.update_scores` on rows that it was not fitted on.

    Attributes:
        p: 1..10, or None where the largest probability is as good, which `confidence` then is.
        aurc_before: AURC of the largest probability on the rows fitted on.
        aurc_after: AURC of `confidence` on the same rows, ≤ aurc_before.
        aurc_of_p: (10,) AURC for p = 1..10.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> logits = torch.randn(400, 5, generator=generator) * torch.rand(400, 1, generator=generator) * 9
        >>> noise = torch.randn(400, 5, generator=generator)
        >>> target = (logits / logits.norm(dim=-1, keepdim=True) + 0.3 * noise).argmax(-1)
        >>> pnorm = PNorm().fit(logits, target)
        >>> pnorm.p, round(pnorm.aurc_before, 3), round(pnorm.aurc_after, 3)
        (1, 0.225, 0.198)
        >>> pnorm.confidence(np.array([[4.0, 1.0, 1.0, -1.0, -1.0]]))
        array([0.44444444])

    Source: Cattelan & Silva 2024, "How to Fix a Broken Confidence Estimator: Evaluating Post-hoc Methods for
    Selective Classification with Deep Neural Networks", §4.
    """

    p: int | None
    aurc_before: float
    aurc_after: float
    aurc_of_p: Floats

    def __init__(self) -> None:
        self.reset()

    def __repr__(self) -> str:
        return f"PNorm(p={self.p})" if hasattr(self, "p") else "PNorm(), not fitted"

    def reset(self) -> None:
        """Forget the rows counted, not what was chosen."""
        self._measures = [Selective(2**17) for _ in range(1 + len(_POWERS))]

    def fit(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> Self:
        """Choose p, on validation rows and these alone.

        Args, Raises: as `update`; at least one row counts.

        Returns:
            This object with its attributes set.

        Cost: as `update`.
        """
        return self.fit_batches([(logits, target, weight)], ignore_index=ignore_index, class_axis=class_axis)

    def fit_batches(
        self, batches: Iterable[Batch], *, ignore_index: int | None = None, class_axis: int = -1
    ) -> Self:
        """The same from batches, as those of `TemperatureScaling.fit_batches`, gone through once."""
        self.reset()
        for batch in batches:
            self.update(*parts_of(batch), ignore_index=ignore_index, class_axis=class_axis)
        self.compute()
        self.reset()
        return self

    def update(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count validation rows.

        Args:
            logits: (…, K) floats, K ≥ 2. Classes of logit −inf are left out of mean and norm.
            target: (…) integers in 0..K−1, or `ignore_index`.
            weight: (…) finite numbers ≥ 0; a row of weight 0 does not count.
            ignore_index: rows with this target do not count.
            class_axis: of `logits`; 1 in maps (N, K, H, W) with targets (N, H, W).

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, a logit is NaN or +inf,
                or all logits of a row are −inf.

        Cost: one pass over the logits, 2 MB of them in float64 at a time, and eleven tables of up to 2¹⁷
            confidences, beyond which they are counted on a grid (`Selective`).
        """
        rows, labels, weights = logit_rows(
            logits, target, weight, ignore_index=ignore_index, class_axis=class_axis
        )
        require_usable(rows.amax(-1), "logits")
        for piece, stats, place in _in_float64(rows, labels):
            numbers = of_stats(stats)
            columns = [numbers.confidence, *_pnorm_confidences(piece, _POWERS).T.cpu().numpy()]
            for measure, column in zip(self._measures, columns, strict=True):
                measure._add_rows(column, numbers.correct, None if weights is None else weights[place])

    def merge(self, other: PNorm) -> None:
        """Count the rows that `other` has counted."""
        for mine, its in zip(self._measures, other._measures, strict=True):
            mine.merge(its)

    def all_merge(self, group: dist.ProcessGroup | None = None) -> None:
        """Count the rows of all processes of a `torch.distributed` group, as `Selective.all_merge` does."""
        merge_over_ranks(self, "", group)

    def compute(self) -> Self:
        """Choose p by the rows counted so far.

        Returns:
            This object with its attributes set.

        Raises:
            ValueError: no row was counted.
        """
        self.aurc_before, *others = (measure.compute().aurc for measure in self._measures)
        self.aurc_of_p = np.array(others)
        best = int(self.aurc_of_p.argmin())
        self.p = _POWERS[best] if self.aurc_of_p[best] < self.aurc_before else None
        self.aurc_after = min(self.aurc_before, float(self.aurc_of_p[best]))
        return self

    def confidence(self, logits: _ArrayT, *, class_axis: int = -1) -> _ArrayT:
        """The confidence of each row.

        Args:
            logits: (…, K) floats, a tensor or an array.
            class_axis: of `logits`; 1 in maps (N, K, H, W), whose confidences are (N, H, W).

        Returns:
            (…) float64, of the same type. A row of equal logits has 0, the lowest there is; a row with
            one logit above −inf has 1, the highest.

        Raises:
            ValueError: nothing was fitted, or a row has a NaN, +inf, or no finite logit.

        Cost: about a dozen passes in float64, 2 MB at a time.
        """
        if not hasattr(self, "p"):
            raise InputError("confidence needs a p, got none as nothing was fitted: call fit first")
        rows = score_rows(logits, "logits", class_axis=class_axis)
        parts = [rows.new_zeros(0, dtype=torch.float64)]
        for piece, stats, _ in _in_float64(rows, rows.new_zeros(rows.shape[0], dtype=torch.int64)):
            require_usable(stats.log_sum, "logits")
            parts.append(stats.confidence if self.p is None else _pnorm_confidences(piece, [self.p])[:, 0])
        shape = list(logits.shape)
        del shape[class_axis]
        confidence = torch.cat(parts).reshape(shape)
        return confidence if isinstance(logits, Tensor) else confidence.numpy()


def aurc(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    class_axis: int = -1,
    peer: Peer | None = None,
) -> float:
    """Area under the risk–coverage curve of `Selective`, in 0..1, or as `SelectiveResult.peer_aurc` has it.

    Args: as `Selective.update`.

    Example:
        >>> round(aurc(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 0])), 4)
        0.3889
    """
    selective = Selective()
    selective.update(logits, target, weight, ignore_index=ignore_index, class_axis=class_axis)
    result = selective.compute()
    return result.aurc if peer is None else result.peer_aurc(peer)


def augrc(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    class_axis: int = -1,
    peer: Literal["fd_shifts", "torch_uncertainty"] | None = None,
) -> float:
    """Area under the generalised risk–coverage curve of `Selective`, in 0..1/2, or as a peer has it.

    Args: as `Selective.update`.

    Example:
        >>> round(augrc(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 0])), 4)
        0.2222
    """
    selective = Selective()
    selective.update(logits, target, weight, ignore_index=ignore_index, class_axis=class_axis)
    result = selective.compute()
    return result.augrc if peer is None else result.peer_augrc(peer)


def _in_float64(rows: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, RowStats, slice]]:
    """The rows as float64 (n, K), a few at a time, with their statistics and their place."""
    size = max(1, _PIECE // rows.shape[-1])
    for start in range(0, rows.shape[0], size):
        place = slice(start, start + size)
        piece = rows[place].double()
        yield piece, row_stats(piece, labels[place].unsqueeze(-1)), place


def _pnorm_confidences(
    rows: Tensor,  # (n, K), float64
    powers: Sequence[int],  # (P,)
) -> Tensor:  # (n, P)
    here = rows > -torch.inf
    # the maximum goes first, so that a large offset costs no digits
    x = torch.where(here, rows - rows.amax(-1, keepdim=True), 0)
    x = torch.where(here, x - x.sum(-1, keepdim=True) / here.sum(-1, keepdim=True), 0)
    top, size, positive = x.amax(-1), x.abs().amax(-1), x > 0
    ratio = x.abs_() / torch.where(size > 0, size, 1).unsqueeze(-1)  # no power of it overflows
    power, last = torch.ones_like(ratio), 0
    columns = []
    for p in powers:
        for _ in range(p - last):
            power *= ratio
        last = p
        # x sums to 0, so this is Σ|x| too, and rows with one x above 0 tie at 1/2 whatever the rounding
        total = 2 * (ratio * positive).sum(-1) if p == 1 else power.sum(-1) ** (1 / p)
        # a row of equal logits has 0/1
        norm = torch.where(size > 0, total, 1)
        columns.append(top / torch.where(size > 0, size, 1) / norm)
    alone = here.sum(-1) == 1
    return torch.where(alone.unsqueeze(-1), 1, torch.stack(columns, -1))


def _with_weights(columns: _Columns) -> _Columns:
    """The columns of rows that have weights; of rows that have none they are 1."""
    if len(columns) == len(_STATE):
        return columns
    weights = tuple(column.astype(np.float64) for column in columns)
    return (*weights, *columns, *(weight.copy() for weight in weights))


def _counts(columns: _Columns) -> _Columns:
    """How many rows each group holds, and how many wrong ones."""
    return columns[2:4] or columns


def _grouped(confidence: Floats, columns: _Columns) -> tuple[Floats, _Columns]:
    """Equal confidences as one, rising."""
    order = np.argsort(confidence)
    confidence = confidence[order]
    first = np.flatnonzero(np.diff(confidence, prepend=np.nan) != 0)
    if first.size == 0:
        return confidence, columns
    return confidence[first], tuple(np.add.reduceat(column[order], first) for column in columns)


def _cells(confidence: Floats) -> Floats:
    """The lowest value of the grid's cell that each lies in; of itself for such a value."""
    upper = (confidence >= 0.5) & (confidence <= 1)
    # 1 − c is exact there; the lowest confidence of a cell is the highest of its 1 − c
    return np.where(upper, 1 - _away_from_zero(np.where(upper, 1 - confidence, 0)), _downwards(confidence))


@cache
def _grid_of_shares() -> Floats:
    """The lowest values of the grid's cells in 0..1, rising; from 0 the next is 2⁻²⁴."""
    fractions = 1 + np.arange(2048) / 2048
    below = np.concatenate([fractions * 2.0**e for e in range(-24, -1)])
    # 1 − c is a multiple of 2⁻⁵³ where c lies in 0.5..1
    above = 1 - np.concatenate([[0, 0.5], *(fractions * 2.0**e for e in range(-53, -1))])
    return np.unique(_cells(np.concatenate([[0], below, above])))


def _downwards(values: Floats) -> Floats:
    size = np.abs(values)
    cut = (size.view(np.int64) >> _OPEN_BITS << _OPEN_BITS).view(np.float64)
    rising = np.where(size < _SMALLEST, 0, np.minimum(cut, _LARGEST))
    falling = np.where(
        size > _LARGEST, np.finfo(np.float64).max, _away_from_zero(np.maximum(size, _SMALLEST))
    )
    return np.where(values >= 0, rising, -falling)


def _away_from_zero(size: Floats) -> Floats:
    """Sizes ≥ 0 with the open bits rounded up."""
    bits = size.view(np.int64)
    rounded: Floats = ((bits + ((np.int64(1) << _OPEN_BITS) - 1)) >> _OPEN_BITS << _OPEN_BITS).view(
        np.float64
    )
    return rounded


def _drawn(
    rng: np.random.Generator, columns: _Columns, replicates: int
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], Counts]]:
    """Bootstrap draws of what cells hold: weights and wrong weights (R, C), and numbers of errors (R,)."""
    count, wrong_count = _counts(columns)
    rows = np.concatenate([count - wrong_count, wrong_count])
    mean, variance = np.ones(rows.size), np.zeros(rows.size)
    if len(columns) > 2:
        weight, wrong, _, _, square, wrong_square = columns
        filled = np.maximum(rows, 1)
        mean = np.concatenate([weight - wrong, wrong]) / filled
        variance = np.concatenate([square - wrong_square, wrong_square]) / filled - mean**2
    mixed = np.flatnonzero(variance > _ROUNDING * mean**2)  # what holds rows of several weights
    scale = variance[mixed] / mean[mixed]
    for drawn in bootstrap_counts(rng, rows, int(count.sum()), replicates):
        num_wrong = drawn[:, count.size :].sum(1)
        sums: npt.NDArray[Any] = drawn
        if len(columns) > 2:
            sums = drawn * mean
            sums[:, mixed] = scale * rng.standard_gamma(sums[:, mixed] / scale)
        right, wrong = np.split(sums, 2, axis=1)
        yield right + wrong, wrong, num_wrong


def _measured(
    weight: npt.NDArray[Any],  # (R, C), of the rows in each cell, from the highest confidence down
    errors: npt.NDArray[Any],  # (R, C), of the wrong ones
    num_errors: Counts,  # (R,)
    of_risk: dict[str, tuple[int, int]],
    of_coverage: dict[str, tuple[int, int]],
) -> dict[str, Floats]:  # (R,) each
    """The measures of `intervals` for R sets of rows; a cell without rows is no threshold."""
    accepted, wrong = np.cumsum(weight, 1), np.cumsum(errors, 1)
    total, total_errors = accepted[:, -1], wrong[:, -1]
    risk = wrong / np.where(accepted > 0, accepted, 1)
    areas = np.einsum("rc,rc->r", weight, risk) / total
    # mean of a cell's ends, 2·E − errors, over 2·N²
    augrc = np.einsum("rc,rc->r", weight, 2.0 * wrong - errors) / (2.0 * total * total)
    measured = {
        "accuracy": 1 - total_errors / total,
        "aurc": areas,
        "augrc": augrc,
        "excess_aurc": areas - _oracle_aurc(total, total_errors, num_errors),
    }
    for name, (num, den) in of_risk.items():
        within = _at_most(wrong, den, accepted, num)
        measured[name] = np.max(np.where(within, accepted, 0), 1) / total
    for name, (num, den) in of_coverage.items():
        enough = _at_most(total[:, None], num, accepted, den) & (accepted > 0)
        measured[name] = np.take_along_axis(risk, enough.argmax(1)[:, None], 1)[:, 0]
    return measured


def _oracle_aurc(
    total: npt.NDArray[Any],  # (R,), the weight of all rows
    total_errors: npt.NDArray[Any],  # (R,), that of the wrong ones
    num_errors: Counts,  # (R,)
) -> Floats:  # (R,)
    """Σ_{j=1}^{E} j/(C + j) / N for C = N − E correct rows: the area when errors come last, one by one.

    The unit of weight is the mean of an error. The first 64 terms are taken as they are, the rest by the
    Euler–Maclaurin formula up to the third derivative, which leaves less than 1e-12 of the sum out.
    """
    start, e = 64, num_errors.astype(np.float64)
    rows = total * np.where(e > 0, e, 1) / np.where(e > 0, total_errors, 1)
    c = np.maximum(rows - e, 0)
    j = np.arange(1.0, start)
    total = np.where(j <= e[:, None], j / (c[:, None] + j), 0).sum(1)
    # ∫ x/(c + x) from 64 to e, half of both ends, and (f′(e) − f′(64))/12 − (f‴(e) − f‴(64))/720
    beyond = np.maximum(e - start, 0)
    ends = [(x / (c + x), c / (c + x) ** 2, 6 * c / (c + x) ** 4) for x in (start, e + (e == 0))]
    tail = beyond - c * np.log1p(beyond / (c + start)) + (ends[0][0] + ends[1][0]) / 2
    tail += (ends[1][1] - ends[0][1]) / 12 - (ends[1][2] - ends[0][2]) / 720
    oracle: Floats = (total + np.where(e >= start, tail, 0)) / rows
    return oracle


def _trapezoids(x: Floats, y: Floats) -> float:
    return float(np.diff(x) @ (y[1:] + y[:-1])) / 2


def _ratio(share: float, name: str) -> tuple[int, int]:
    """A share as the simple fraction that rounds to it, else as its decimal digits."""
    if not 0 <= share <= 1:
        raise InputError(f"{name} must lie in 0..1, got {share}")
    simple = Fraction(share).limit_denominator(10**6)
    return (simple if float(simple) == share else Fraction(repr(float(share)))).as_integer_ratio()


def _at_most(
    left: npt.NDArray[Any], left_factor: int, right: npt.NDArray[Any], right_factor: int
) -> npt.NDArray[Any]:
    """Whether left·left_factor ≤ right·right_factor; sums of weights may be above by their rounding."""
    if np.issubdtype(left.dtype, np.integer):
        return np.asarray(_times(left, left_factor) <= _times(right, right_factor))
    return np.asarray(left * left_factor <= right * right_factor * (1 + _ROUNDING))


def _times(counts: Counts, factor: int) -> npt.NDArray[Any]:
    """The product as integers, by Python's where 64 bits are too few."""
    if int(counts.max(initial=0)) * factor < 2**63:
        return counts * factor
    return counts.astype(object) * factor
