"""The risk–coverage curve, its areas, and how others define them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Counts, Floats
from labelsmooth.measure.confidence_table import Columns, counts_of
from labelsmooth.measure.result import Result
from labelsmooth.measure.shares import at_most, ratio

Peer: TypeAlias = Literal["fd_shifts", "torch_uncertainty", "geifman", "cattelan"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SelectiveResult(Result):
    """The result of `Selective.compute`: a risk–coverage curve with a point for each threshold, and areas.

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
        within = self._within(risk)
        return float(self.coverage[within[-1]]) if within.size else 0.0

    def threshold_at(self, risk: float) -> float | None:
        """The threshold of `coverage_at(risk)`; None where there is none.

        Raises:
            ValueError: `risk` is not in 0..1.
        """
        within = self._within(risk)
        return float(self.threshold[within[-1]]) if within.size else None

    def risk_at(self, coverage: float) -> float:
        """The risk at the highest threshold that accepts at least this share of the rows.

        Args:
            coverage: in 0..1, taken as the simple fraction that rounds to it; 0 gives the first threshold's.

        Raises:
            ValueError: `coverage` is not in 0..1.
        """
        num, den = ratio(coverage, "coverage")
        enough = at_most(self.accepted[-1:], num, self.accepted, den)
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
            return trapezoids(np.append(0, self.coverage), np.append(0, self.risk))
        risk = np.append(self.risk[0], self.risk)
        if peer == "fd_shifts":
            return trapezoids(np.append(0, self.coverage), risk)
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

    def columns(self) -> dict[str, Floats]:
        """The curve as a table, one row for each threshold."""
        return {"coverage": self.coverage, "risk": self.risk, "threshold": self.threshold}

    def _within(self, risk: float) -> Counts:
        """The places of the thresholds with errors ≤ risk · accepted."""
        num, den = ratio(risk, "risk")
        return np.flatnonzero(at_most(self.errors, den, self.accepted, num))

    def _require_peer(self, peer: str, known: Sequence[str]) -> None:
        if peer not in known:
            raise InputError(f"peer must be one of {', '.join(map(repr, known))}, got {peer!r}")
        if not np.issubdtype(self.accepted.dtype, np.integer):
            raise InputError(f"{peer} knows no weights, got rows that have some")

    def _beyond_first_row(self, height: Floats) -> float:
        """The mean of `height` over coverages from 1/N to 1."""
        if self.rows < 2:
            return math.nan
        return trapezoids(np.append(1 / self.rows, self.coverage), height) / (1 - 1 / self.rows)


def risk_coverage(threshold: Floats, columns: Columns, *, exact: bool) -> SelectiveResult:
    """The curve over groups of rows from the highest confidence down, and its areas."""
    weight, wrong = columns[:2]
    count, wrong_count = counts_of(columns)
    accepted, errors = np.cumsum(weight), np.cumsum(wrong)
    total, total_errors = float(accepted[-1]), float(errors[-1])
    risk = errors / accepted
    aurc = float(weight @ risk) / total
    oracle = float(oracle_aurc(accepted[-1:], errors[-1:], wrong_count.sum(keepdims=True))[0])
    return SelectiveResult(
        rows=int(count.sum()),
        accuracy=(total - total_errors) / total,
        aurc=aurc,
        augrc=trapezoids(np.append(0, accepted / total), np.append(0, errors / total)),
        oracle_aurc=oracle,
        random_aurc=total_errors / total,
        excess_aurc=max(0.0, aurc - oracle),  # rounding can put it below
        coverage=accepted / total,
        risk=risk,
        threshold=threshold,
        accepted=accepted,
        errors=errors,
        exact=exact,
    )


def oracle_aurc(
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


def trapezoids(x: Floats, y: Floats) -> float:
    """The area under the straight lines between points."""
    return float(np.diff(x) @ (y[1:] + y[:-1])) / 2
