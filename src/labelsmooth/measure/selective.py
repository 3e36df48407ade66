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
from labelsmooth.measure.inputs import (
    Array,
    as_tensor,
    classified_rows,
    on_cpu,
    on_cpu_float64,
    require_usable,
    score_rows,
)
from labelsmooth.measure.interval import (
    Interval,
    bootstrap_counts,
    percentile_interval,
    require_replicates,
)
from labelsmooth.measure.ranks import of_all_ranks, require_same_options
from labelsmooth.measure.rows import joined, of_probs, of_stats, widened
from labelsmooth.row_stats import RowStats, row_stats

Peer: TypeAlias = Literal["fd_shifts", "torch_uncertainty", "geifman", "cattelan"]

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

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

# the norms that PNorm tries, as its source does
_POWERS = range(1, 11)


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectiveResult:
    """What `Selective.compute` found: a risk–coverage curve with one point for each threshold, and its areas.

    At threshold t the rows with confidence ≥ t are accepted. Coverage is their share of all rows, risk the
    share of errors among them; both lie in 0..1. Areas are means over coverage, and small is good.
    """

    rows: int
    accuracy: float
    aurc: float  # mean over rows of the risk at the row's own confidence as threshold
    augrc: float  # area under the generalised risk: errors accepted / all rows, against coverage
    oracle_aurc: float  # of the best order that a classifier of this accuracy can have: every error last
    random_aurc: float  # of a random order, on average: the error rate
    excess_aurc: float  # aurc − oracle_aurc, ≥ 0
    coverage: Floats  # (T,), rising to 1
    risk: Floats  # (T,)
    threshold: Floats  # (T,), falling; a cell's lowest confidence where not exact
    accepted: Counts  # (T,), rows at or above the threshold
    errors: Counts  # (T,), those of them that are wrong
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
        within = np.flatnonzero(_times(self.errors, den) <= _times(self.accepted, num))
        return float(self.coverage[within[-1]]) if within.size else 0.0

    def risk_at(self, coverage: float) -> float:
        """The risk at the highest threshold that accepts at least this share of the rows.

        Args:
            coverage: in 0..1, taken as the simple fraction that rounds to it; 0 gives the first threshold's.

        Raises:
            ValueError: `coverage` is not in 0..1.
        """
        num, den = _ratio(coverage, "coverage")
        enough = _times(self.accepted, den) >= num * self.rows
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
            ValueError: `peer` is none of these words.
        """
        _require_peer(peer, get_args(Peer))
        if peer == "geifman":
            above = np.append(self.accepted[:-1] + 1, self.rows)
            return float(self._group_sizes() @ (self.errors / above)) / self.rows
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
            ValueError: `peer` is none of these words.
        """
        _require_peer(peer, ("fd_shifts", "torch_uncertainty"))
        if peer == "fd_shifts":
            return self.augrc
        return self._beyond_first_row(np.append(self.risk[0] / self.rows, self.risk * self.coverage))

    def _group_sizes(self) -> Counts:
        return np.diff(self.accepted, prepend=0)

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
    equal confidence are accepted together, so that the order of rows never matters.

    The state is a table of distinct confidences with their counts. Once there are more than `capacity` it
    becomes a fixed grid of floating-point cells, 2048 to a factor of two in 1 − c for c in 0.5..1, and in |c|
    otherwise; each cell then is one tie. Either way it depends on the rows counted alone, not on their order,
    split or merges.

    Args:
        capacity: distinct confidences kept apart, ≥ 1.

    Raises:
        TypeError: `capacity` is not an int.
        ValueError: `capacity` < 1.

    Cost: 24 bytes a distinct confidence, 25 MB at most (4 MB on the grid of 0..1), and 3 MB of rows not yet
        sorted in; sorting them in takes 20 MB more for a moment, and a result of a million thresholds 40 MB.
        Over 10⁷ rows of logits the memory of a process rises by at most 50 MB, at the change to the grid
        (`python benchmarks/measure.py --only memory`).

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
        self._count: Counts = np.zeros(0, np.int64)  # (G,)
        self._errors: Counts = np.zeros(0, np.int64)  # (G,)
        self._pending: list[tuple[Floats, Counts, Counts]] = []
        self._num_pending = 0

    def update(self, logits: Array, target: Array) -> None:
        """Count rows of logits, with the largest probability as confidence.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0.
            target: (…) integers in 0..K−1.

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target is out of range, a logit is NaN or +inf, or all logits
                of a row are −inf.

        Cost: that of `row_stats` in float64, about twice that of float32, and 2 MB: confidences in float32
            tie by rounding from 1 − 6e-8 on.
        """
        rows, labels = classified_rows(logits, target, "logits")
        numbers = joined([of_stats(stats) for _, stats in _in_float64(rows, labels)])
        self._add_rows(numbers.confidence, numbers.correct)

    def update_probs(self, probs: Array, target: Array) -> None:
        """Count rows of probabilities, taken as they are: nothing is clipped or renormalised.

        Args:
            probs: (…, K) floats in 0..1 (and at most four units of rounding above), K ≥ 2, each row summing
                to 1 within 1e-3, or within the square root of its dtype's epsilon in half precision.
            target: (…) integers in 0..K−1.

        Raises:
            TypeError: `probs` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target is out of range, or a row is no distribution.

        Cost: that of `Calibration.update_probs`.
        """
        numbers = of_probs(*classified_rows(probs, target, "probs"))
        self._add_rows(numbers.confidence, numbers.correct)

    def update_stats(self, stats: RowStats) -> None:
        """Count rows whose statistics are already known, as a training step has them from its loss.

        Args:
            stats: with the label as the first index of each row; rows that do not count are left out. From
                logits narrower than float64 they are float32, and confidences within 6e-8 may tie.

        Raises:
            ValueError: the statistics hold no label, or come from logits that were NaN or +inf, or all −inf.

        Cost: a few passes over vectors of one number a row, which move to the CPU.
        """
        numbers = of_stats(widened(stats))
        self._add_rows(numbers.confidence, numbers.correct)

    def update_scores(self, confidence: Array, correct: Array) -> None:
        """Count rows by any confidence at all: only its order matters.

        Args:
            confidence: (…) finite floats, higher for rows to be accepted first.
            correct: (…) bool, whether the prediction is right.

        Raises:
            TypeError: an argument is no tensor or array, or does not hold floats or bools.
            ValueError: the shapes differ, or a confidence is not finite.

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
        rows = on_cpu_float64(scores).copy()  # it may wait in memory that the caller writes to
        wrong = ~np.isfinite(rows)
        if wrong.any():
            raise InputError(f"confidence must be finite, got {rows[wrong][0]}")
        self._add_rows(rows, on_cpu(right))

    def merge(self, other: Selective) -> None:
        """Add the rows that `other` counted to this measure; `other` counts the same rows as before.

        Raises:
            ValueError: the two do not have the same capacity.
        """
        require_same_options(self._options(), other._options())
        other._fold()
        self._add(other._confidence, other._count, other._errors, exact=other._exact)
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
        table = (self._confidence, self._count, self._errors, self._exact)
        tables = of_all_ranks(table, self._options(), group)
        if tables:
            self.reset()
        for confidence, count, errors, exact in tables:
            self._add(confidence, count, errors, exact=exact)

    def state(self) -> dict[str, Counts]:
        """What was counted, on the grid, as arrays that sum: added to another's, they are those of both.

        Returns:
            "count" and "errors", int64 of one size (1 MB each), whatever was counted. Confidences below
            2⁻²⁴, which no softmax over fewer classes has, are one cell.

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
        return {
            name: np.bincount(at, values, grid.size).astype(np.int64)
            for name, values in (("count", self._count), ("errors", self._errors))
        }

    def load(self, state: Mapping[str, Counts]) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: the arrays are not those of a state.
        """
        grid = _grid_of_shares()
        shapes = {name: array.shape for name, array in state.items()}
        if shapes != {"count": grid.shape, "errors": grid.shape}:
            raise InputError(f"a state has count and errors of shape {grid.shape}, got {shapes}")
        self.reset()
        filled = state["count"] > 0
        self._add(grid[filled], state["count"][filled], state["errors"][filled], exact=False)

    def compute(self) -> SelectiveResult:
        """The curve and its areas over all rows counted so far.

        Raises:
            ValueError: no row was counted.

        Cost: a few passes over the table.
        """
        threshold, count, wrong = self._falling()
        accepted, errors = np.cumsum(count), np.cumsum(wrong)
        rows, num_errors = int(accepted[-1]), int(errors[-1])
        risk = errors / accepted
        aurc = float(count @ risk) / rows
        oracle = float(_oracle_aurc(rows, np.array([num_errors]))[0])
        return SelectiveResult(
            rows=rows,
            accuracy=(rows - num_errors) / rows,
            aurc=aurc,
            augrc=_trapezoids(np.append(0, accepted / rows), np.append(0, errors / rows)),
            oracle_aurc=oracle,
            random_aurc=num_errors / rows,
            excess_aurc=max(0.0, aurc - oracle),  # rounding alone can put it below
            coverage=accepted / rows,
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
        groups of equal confidence, correct rows and errors apart. Where there are more than 4096 groups,
        neighbours are drawn as one, and the replicates' quantiles are moved by what that alone changes. An
        interval is those quantiles.

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

        _, count, errors = self._falling()
        if count.size > _BOOTSTRAP_CELLS:
            cell = (result.accepted - 1) * _BOOTSTRAP_CELLS // result.rows
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            count, errors = np.add.reduceat(count, first), np.add.reduceat(errors, first)
        drawn_as_one = _measured(count[None], errors[None], of_risk, of_coverage)

        cells = np.concatenate([count - errors, errors])
        parts = []
        for draw in bootstrap_counts(np.random.default_rng(seed), cells, result.rows, replicates):
            right, wrong = np.split(draw, 2, axis=1)
            parts.append(_measured(right + wrong, wrong, of_risk, of_coverage))
        intervals = {}
        for name, at in value.items():
            draws = np.concatenate([part[name] for part in parts]) + (at - drawn_as_one[name])
            intervals[name] = percentile_interval(at, np.clip(draws, 0, 1), level)
        return intervals

    def _options(self) -> str:
        return f"capacity={self.capacity}"

    def _add_rows(self, confidence: Floats, correct: Bools) -> None:
        self._add(confidence, np.ones(confidence.shape, np.int64), (~correct).astype(np.int64))

    def _add(self, confidence: Floats, count: Counts, errors: Counts, *, exact: bool = True) -> None:
        if not exact and self._exact:
            self._fold()
            self._to_grid()
        self._pending.append((confidence, count, errors))
        self._num_pending += confidence.size
        if self._num_pending >= _PENDING:
            self._fold()

    def _fold(self) -> None:
        """Sort what is pending into the table."""
        if not self._pending:
            return
        pending = [np.concatenate(column) for column in zip(*self._pending, strict=True)]
        self._pending, self._num_pending = [], 0
        self._insert(*pending)
        if self._exact and self._confidence.size > self.capacity:
            self._to_grid()

    def _to_grid(self) -> None:
        confidence, count, errors = self._confidence, self._count, self._errors
        self._exact = False
        self._confidence, self._count, self._errors = confidence[:0], count[:0], errors[:0]
        for start in range(0, confidence.size, _PENDING):
            part = slice(start, start + _PENDING)
            self._insert(confidence[part], count[part], errors[part])

    def _insert(self, confidence: Floats, count: Counts, errors: Counts) -> None:
        """Add rows to the table with a copy of one column at a time: sorting it anew would take many."""
        confidence, count, errors = _grouped(confidence if self._exact else _cells(confidence), count, errors)
        at = np.searchsorted(self._confidence, confidence)
        known = at < self._confidence.size
        known[known] = self._confidence[at[known]] == confidence[known]
        self._count[at[known]] += count[known]
        self._errors[at[known]] += errors[known]
        at, new = at[~known], ~known
        self._confidence = np.insert(self._confidence, at, confidence[new])
        self._count = np.insert(self._count, at, count[new])
        self._errors = np.insert(self._errors, at, errors[new])

    def _falling(self) -> tuple[Floats, Counts, Counts]:
        """The table from the highest confidence down; `ValueError` without a row."""
        self._fold()
        if self._confidence.size == 0:
            raise InputError("selective prediction needs at least one row that counts, got none")
        return self._confidence[::-1].copy(), self._count[::-1], self._errors[::-1]


class PNorm:
    """Max-logit p-norm: another confidence from the same logits, taken only where validation rows say so.

    With centred logits x_k = z_k − mean z, confidence_p = max_k x_k / (Σ_k |x_k|^p)^{1/p}, in 0..1. `fit`
    tries p = 1..10, takes the lowest AURC, and keeps it only where that is below the AURC of the largest
    probability. It repairs the order in which rows are accepted, as label smoothing can spoil it; predictions
    stay the same, and the number is no probability.

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

    def fit(self, logits: Array, target: Array) -> Self:
        """Choose p, on validation rows.

        Args:
            logits: (…, K) floats, K ≥ 2. Classes of logit −inf are left out of mean and norm.
            target: (…) integers in 0..K−1.

        Returns:
            This object with its attributes set.

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: there is no row, the shapes do not fit, a target is out of range, a logit is NaN or
                +inf, or all logits of a row are −inf.

        Cost: one pass over the logits, 2 MB of them in float64 at a time, and eleven tables of up to 2¹⁷
            confidences, beyond which they are counted on a grid (`Selective`).
        """
        return self.fit_batches([(logits, target)])

    def fit_batches(self, batches: Iterable[tuple[Array, Array]]) -> Self:
        """The same from batches of (logits, target), gone through once."""
        measures = [Selective(2**17) for _ in range(1 + len(_POWERS))]
        for logits, target in batches:
            rows, labels = classified_rows(logits, target, "logits")
            for piece, stats in _in_float64(rows, labels):
                numbers = of_stats(stats)
                columns = [numbers.confidence, *_pnorm_confidences(piece, _POWERS).T.cpu().numpy()]
                for measure, column in zip(measures, columns, strict=True):
                    measure._add_rows(column, numbers.correct)
        self.aurc_before, *others = (measure.compute().aurc for measure in measures)
        self.aurc_of_p = np.array(others)
        best = int(self.aurc_of_p.argmin())
        self.p = _POWERS[best] if self.aurc_of_p[best] < self.aurc_before else None
        self.aurc_after = min(self.aurc_before, float(self.aurc_of_p[best]))
        return self

    def confidence(self, logits: _ArrayT) -> _ArrayT:
        """The confidence of each row.

        Args:
            logits: (…, K) floats, a tensor or an array.

        Returns:
            (…) float64, of the same type. A row of equal logits has 0, the lowest there is; a row with
            one logit above −inf has 1, the highest.

        Raises:
            ValueError: nothing was fitted, or a row has a NaN, +inf, or no finite logit.

        Cost: about a dozen passes in float64, 2 MB at a time.
        """
        if not hasattr(self, "p"):
            raise InputError("confidence needs a p, got none as nothing was fitted: call fit first")
        rows = score_rows(logits, "logits")
        parts = [rows.new_zeros(0, dtype=torch.float64)]
        for piece, stats in _in_float64(rows, rows.new_zeros(rows.shape[0], dtype=torch.int64)):
            require_usable(stats.log_sum, "logits")
            parts.append(stats.confidence if self.p is None else _pnorm_confidences(piece, [self.p])[:, 0])
        confidence = torch.cat(parts).reshape(logits.shape[:-1])
        return confidence if isinstance(logits, Tensor) else confidence.numpy()


def aurc(logits: Array, target: Array, *, peer: Peer | None = None) -> float:
    """Area under the risk–coverage curve of `Selective`, in 0..1, or as `SelectiveResult.peer_aurc` has it.

    Example:
        >>> round(aurc(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 0])), 4)
        0.3889
    """
    selective = Selective()
    selective.update(logits, target)
    result = selective.compute()
    return result.aurc if peer is None else result.peer_aurc(peer)


def augrc(
    logits: Array, target: Array, *, peer: Literal["fd_shifts", "torch_uncertainty"] | None = None
) -> float:
    """Area under the generalised risk–coverage curve of `Selective`, in 0..1/2, or as a peer has it.

    Example:
        >>> round(augrc(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 0])), 4)
        0.2222
    """
    selective = Selective()
    selective.update(logits, target)
    result = selective.compute()
    return result.augrc if peer is None else result.peer_augrc(peer)


def _in_float64(rows: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, RowStats]]:
    """The rows as float64 (n, K), a few at a time, with their statistics."""
    size = max(1, _PIECE // rows.shape[-1])
    for start in range(0, rows.shape[0], size):
        piece = rows[start : start + size].double()
        yield piece, row_stats(piece, labels[start : start + size].unsqueeze(-1))


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


def _grouped(confidence: Floats, count: Counts, errors: Counts) -> tuple[Floats, Counts, Counts]:
    """Equal confidences as one, rising."""
    order = np.argsort(confidence)
    confidence = confidence[order]
    first = np.flatnonzero(np.diff(confidence, prepend=np.nan) != 0)
    if first.size == 0:
        return confidence, count, errors
    return confidence[first], np.add.reduceat(count[order], first), np.add.reduceat(errors[order], first)


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


def _measured(
    count: Counts,  # (R, C), rows in each cell, from the highest confidence down
    errors: Counts,  # (R, C)
    of_risk: dict[str, tuple[int, int]],
    of_coverage: dict[str, tuple[int, int]],
) -> dict[str, Floats]:  # (R,) each
    """The measures of `intervals` for R sets of N rows each; a cell without rows is no threshold."""
    accepted, wrong = np.cumsum(count, 1), np.cumsum(errors, 1)
    rows, num_errors = int(accepted[0, -1]), wrong[:, -1]
    risk = wrong / np.maximum(accepted, 1)
    areas = np.einsum("rc,rc->r", count, risk) / rows
    # mean of a cell's ends, 2·E − errors, over 2·N²
    augrc = np.einsum("rc,rc->r", count, 2.0 * wrong - errors) / (2.0 * rows * rows)
    measured = {
        "accuracy": 1 - num_errors / rows,
        "aurc": areas,
        "augrc": augrc,
        "excess_aurc": areas - _oracle_aurc(rows, num_errors),
    }
    for name, (num, den) in of_risk.items():
        within = _times(wrong, den) <= _times(accepted, num)
        measured[name] = np.max(np.where(within, accepted, 0), 1) / rows
    for name, (num, den) in of_coverage.items():
        enough = (_times(accepted, den) >= num * rows) & (accepted > 0)
        measured[name] = np.take_along_axis(risk, enough.argmax(1)[:, None], 1)[:, 0]
    return measured


def _oracle_aurc(rows: int, errors: Counts) -> Floats:
    """Σ_{j=1}^{E} j/(C + j) / N for C = N − E correct rows: the area when errors come last, one by one.

    The first 64 terms as they are, the rest by the Euler–Maclaurin formula up to the third derivative, which
    leaves less than 1e-12 of the sum out.
    """
    start, e = 64, errors.astype(np.float64)
    c = rows - e
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


def _times(counts: Counts, factor: int) -> npt.NDArray[Any]:
    """The product as integers, by Python's where 64 bits are too few."""
    if int(counts.max(initial=0)) * factor < 2**63:
        return counts * factor
    return counts.astype(object) * factor


def _require_peer(peer: str, known: Sequence[str]) -> None:
    if peer not in known:
        raise InputError(f"peer must be one of {', '.join(map(repr, known))}, got {peer!r}")
