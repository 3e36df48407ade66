"""Whether the logits of a network look trained with label smoothing, and with about which ε."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.checks import require_num_classes
from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Counts, Floats, State, pieces
from labelsmooth.measure.inputs import Array, logit_rows, require_usable, weight_of_each
from labelsmooth.measure.interval import Interval, require_level
from labelsmooth.measure.protocol import Measure, load_arrays, require_same_options, unchanged_on_error
from labelsmooth.theory import eps_for_gap

Verdict: TypeAlias = Literal["smoothed", "hard", "undecidable"]

# What tells smoothed networks from others, set on MLPs and small CNNs on digits and 5,000 images of MNIST. On
# rows held out those trained to the end with 0.05 ≤ ε ≤ 0.2 had gap spreads of at most 0.28 and wrong spreads
# of at most 0.12; those with hard labels wrong spreads of at least 0.24 and, but for the first epochs, gap
# spreads of at least 0.40. Logistic regressions, random forests and MLPs of scikit-learn had wrong spreads of
# at least 0.29.
LARGEST_GAP_SPREAD = 0.3
LARGEST_WRONG_SPREAD = 0.15
# No one smooths by less or by more; hard labels end below, networks that learned nothing above.
LEAST_EPS, LARGEST_EPS = 0.002, 0.9
FEWEST_ROWS = 100

# How far the median may be from the optimal gap, in interquartile ranges; at most 0.24 with those networks.
_SYSTEMATIC = 0.3

# Two histograms: gaps in cells of 1/128 up to 64 nats, spreads in cells of 1/1024 up to 4; what is above, or
# infinite, goes into one more cell.
_ODDS_CELLS, _ODDS_STEP = 8192, 1 / 128
_SPREAD_CELLS, _SPREAD_STEP = 4096, 1 / 1024


@dataclass(frozen=True, kw_only=True)
class RecoveredSmoothing:
    """The evidence of the logits of `rows` rows on the labels that the network was trained with."""

    verdict: Verdict
    reason: str  # one sentence
    rows: int
    correct: int  # the rows that the rest is about: those where the label has the largest logit
    log_odds: float  # median, in nats, of the label's log-odds against the average wrong class; inf above 64
    log_odds_spread: float  # interquartile range of the log-odds over their median
    wrong_spread: (
        float  # median over rows of the sd of the wrong logits over the gap from their mean; none if K = 2
    )
    uniform: Interval | None  # the ε of `ls.uniform`; None unless the verdict is "smoothed"
    others: Interval | None  # the ε of `ls.others` that gives the same target, ε·(K−1)/K


class SmoothingRecovery(Measure):
    """Recover the ε that a network was trained with, from a stream of batches of its logits.

    At the optimum of a smoothed loss each row has log p_y − log(Ave_{k≠y} p_k) = log(1 + K(1−ε)/ε) and
    equal wrong logits. Trained networks come near: over rows held out, these gaps gather around that value,
    and wrong logits differ little within a row. Hard labels have no such value; the gaps go on growing, at a
    pace that differs from row to row, and wrong logits keep the differences that tell how an image resembles
    other classes. Three numbers of the rows that are classified correctly decide:

    - the median gap g, which means ε = K/(K − 1 + e^g);
    - the gap spread, interquartile range over median, which smoothing leaves below 0.3;
    - the wrong spread, sd of the wrong logits over their mean's distance from the label's logit, which it
      leaves below 0.15.

    "hard" is said where the median means an ε below 0.002; "smoothed" where it means at most 0.9 and both
    spreads are small; "undecidable" otherwise, as of a network that was not trained to the end, and of fewer
    than 100 correct rows. Neither spread changes when the logits are divided by a temperature. Two classes
    have no wrong spread, and the gap spread alone is small of strongly regularised logistic regressions and
    of boosted trees too, so that "smoothed" is never said of them.

    The interval of ε covers how far real networks stay from the optimum, 0.3 of the interquartile range on
    either side of the median, and beyond that the sampling error of the median at 95 %.

    What the logits cannot tell: `ls.uniform` at ε·K/(K−1) and `ls.others` at ε have one and the same target,
    so both values are given; logits that were divided by a temperature tell another ε; and whatever else
    stops at a finite gap looks smoothed too: a student of a smoothed teacher, boosted trees stopped after a
    few rounds, a support vector machine with Platt's scaling.

    Args:
        num_classes: K ≥ 2.

    Raises:
        TypeError: `num_classes` is not an int.
        ValueError: `num_classes` < 2.

    Cost: the state is two histograms, 96 KB in all, whatever the number of rows. Its counts are the same
        under every order and split of the rows.

    Example:
        >>> logits = 5.25 * torch.eye(10).repeat(20, 1)
        >>> recovery = SmoothingRecovery(10)
        >>> recovery.update(logits, torch.arange(10).repeat(20))
        >>> result = recovery.compute()
        >>> result.verdict, round(result.uniform.value, 2), round(result.others.value, 3)
        ('smoothed', 0.05, 0.045)

    Source: ours; the optimal gap is that of `ls.theory.optimal_gap`, and that smoothing draws the wrong
    logits together is a finding of Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?".
    """

    def __init__(self, num_classes: int) -> None:
        require_num_classes(num_classes)
        self.num_classes = num_classes
        self.reset()

    @classmethod
    def standard(cls, *, num_classes: int, num_bins: int) -> Self:  # noqa: ARG003
        """Make the measure that audits and studies take."""
        return cls(num_classes)

    def reset(self) -> None:
        """Forget every row."""
        self._rows: Counts = np.zeros(2, np.int64)  # all, and those classified correctly
        self._squares: Floats = np.zeros(1)  # of the weights of the correct ones
        self._odds: Floats = np.zeros(_ODDS_CELLS + 1)  # weight of the correct ones in each cell
        self._spreads: Floats = np.zeros(_SPREAD_CELLS + 1)

    def update(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count rows of logits, best those held out from the training; of probabilities give log p.

        Args:
            logits: (…, K) floats; −inf is a class with probability 0.
            target: (…) integers in 0..K−1, or `ignore_index`.
            weight: (…) finite numbers ≥ 0, by which all quantiles are weighted; rows of weight 0 do not
                count.
            ignore_index: rows with this target do not count.
            class_axis: of `logits`; 1 in maps (N, K, H, W) with targets (N, H, W).

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target or a weight is out of range, a logit is NaN or +inf,
                or all logits of a row are −inf.

        Cost: about six passes over the logits, 8 MB of them in float64 at a time.
        """
        rows, labels, weights = logit_rows(
            logits, target, weight, ignore_index=ignore_index, class_axis=class_axis
        )
        if rows.shape[-1] != self.num_classes:
            raise InputError(f"logits must have {self.num_classes} classes, got {rows.shape[-1]}")
        require_usable(rows.amax(-1), "logits")
        weights = weight_of_each(rows, weights).to(rows.device)
        wrong_classes = self.num_classes - 1
        for piece, labels_of_piece, weights_of_piece in pieces(rows, labels, weights):
            kept = piece.argmax(-1) == labels_of_piece
            y, w = labels_of_piece[kept].unsqueeze(-1), weights_of_piece[kept].cpu().numpy()
            z = piece[kept]
            z = z - z.gather(-1, y)  # the label's logit, the largest, is 0 now
            odds = math.log(wrong_classes) - z.scatter(-1, y, -math.inf).logsumexp(-1)
            mean = z.sum(-1, keepdim=True) / wrong_classes
            deviation = (z - mean).scatter(-1, y, 0)  # of a row with −inf it is NaN, and counts as above all
            sd = (deviation.square().sum(-1) / wrong_classes).sqrt()
            spread = torch.where(sd == 0, 0, sd / -mean.squeeze(-1)).nan_to_num(nan=math.inf)
            self._odds += _histogram(odds.cpu().numpy(), w, _ODDS_STEP, _ODDS_CELLS)
            self._spreads += _histogram(spread.cpu().numpy(), w, _SPREAD_STEP, _SPREAD_CELLS)
            self._squares += w @ w
            self._rows[1] += len(w)
        self._rows[0] += len(rows)

    def merge(self, other: SmoothingRecovery) -> None:
        """Count the rows that `other` has counted.

        Raises:
            ValueError: the two have different numbers of classes.
        """
        require_same_options(self.options(), other.options())
        arrays = self._arrays()
        for name, array in other._arrays().items():
            arrays[name] += array

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        return f"num_classes={self.num_classes}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, as arrays that sum."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def load(self, state: State) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: the arrays are not those of a state.
        """
        with unchanged_on_error(self):
            self.reset()
            load_arrays(self._arrays(), state, self.options())

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"rows": self._rows, "squares": self._squares, "odds": self._odds, "spreads": self._spreads}

    def compute(self, level: float = 0.95) -> RecoveredSmoothing:
        """The verdict of the rows counted so far.

        Args:
            level: of the sampling error that the interval of ε holds, in (0, 1).

        Raises:
            ValueError: no row was counted, or `level` lies outside (0, 1).
        """
        require_level(level)
        rows, correct = self._rows.tolist()
        if rows == 0:
            raise InputError("a recovery needs at least one row, got none")
        # as many rows of equal weight say as much
        effective = float(self._odds.sum() ** 2 / self._squares[0]) if correct else 0.0
        low, log_odds, high = (_quantile(self._odds, _ODDS_STEP, level) for level in (0.25, 0.5, 0.75))
        # an infinite range means a quantile beyond the histogram: as wide as can be
        log_odds_spread = (high - low) / log_odds if high < math.inf else math.inf
        wrong_spread = _quantile(self._spreads, _SPREAD_STEP, 0.5)
        eps = eps_for_gap(log_odds, self.num_classes) if correct else math.nan
        gathered = log_odds_spread <= LARGEST_GAP_SPREAD and eps <= LARGEST_EPS
        alike = wrong_spread <= LARGEST_WRONG_SPREAD
        seen = (
            f"the gaps' spread is {log_odds_spread:.2f} and that of the wrong logits {wrong_spread:.2f} of "
            "the gap"
        )
        verdict: Verdict = "undecidable"
        uniform = others = None
        if effective < FEWEST_ROWS:
            reason = f"only {effective:.0f} rows are classified correctly, and {FEWEST_ROWS} are needed"
        elif eps < LEAST_EPS:
            verdict = "hard"
            median = (
                f"of {log_odds:.1f}"
                if log_odds < math.inf
                else f"of more than {_ODDS_CELLS * _ODDS_STEP:.0f}"
            )
            reason = f"the median gap {median} nats is beyond that of a smoothing by {LEAST_EPS:g}"
        elif self.num_classes == 2:
            reason = (
                f"the median gap is {log_odds:.2f} nats, and with two classes there are no wrong logits to "
                "compare, which tell smoothing from what else stops at such a gap"
            )
        elif gathered and alike:
            verdict = "smoothed"
            reason = (
                f"{seen}, as smoothing leaves them; uniform and others have one target at the two ε given"
            )
            uniform = self._uniform(log_odds, high - low, effective, level)
            share = (self.num_classes - 1) / self.num_classes
            others = Interval(value=uniform.value * share, low=uniform.low * share, high=uniform.high * share)
        else:
            reason = (
                f"{seen}: not what smoothing leaves, while the gaps are not so large that they exclude it"
            )
        return RecoveredSmoothing(
            verdict=verdict,
            reason=reason,
            rows=rows,
            correct=correct,
            log_odds=log_odds,
            log_odds_spread=log_odds_spread,
            wrong_spread=wrong_spread,
            uniform=uniform,
            others=others,
        )

    def values(self) -> dict[str, float]:
        """The numbers of `compute` that the catalogue knows; the ε is nan unless smoothing was found."""
        found = self.compute()
        return {
            "recovered_eps": math.nan if found.uniform is None else found.uniform.value,
            "log_odds": found.log_odds,
            "log_odds_spread": found.log_odds_spread,
            "wrong_spread": found.wrong_spread,
        }

    def intervals(self, *, level: float = 0.95) -> dict[str, Interval]:
        """The interval of ε where smoothing was found."""
        found = self.compute(level)
        return {} if found.uniform is None else {"recovered_eps": found.uniform}

    def _uniform(self, log_odds: float, odds_range: float, rows: float, level: float) -> Interval:
        # the sd of a normal sample's median is 1.2533·σ/√n, with σ the interquartile range over 1.349
        normal = NormalDist()
        errors = 1.96 * normal.inv_cdf((1 + level) / 2) / normal.inv_cdf(0.975)
        sampling = errors * 1.2533 * odds_range / 1.349 / math.sqrt(rows)
        off = _SYSTEMATIC * odds_range + sampling + _ODDS_STEP
        return Interval(
            value=eps_for_gap(log_odds, self.num_classes),
            low=eps_for_gap(log_odds + off, self.num_classes),
            high=eps_for_gap(max(log_odds - off, 0.0), self.num_classes),
        )


def recovered_smoothing(
    logits: Array, target: Array, *, ignore_index: int | None = None, class_axis: int = -1
) -> RecoveredSmoothing:
    """Whether the logits of a network look trained with label smoothing, and with about which ε.

    Args, Raises, Cost: as `SmoothingRecovery` and its `update`; there is at least one row.

    Returns:
        `RecoveredSmoothing`.

    Example:
        >>> recovered_smoothing(5.25 * torch.eye(10), torch.arange(10)).reason
        'only 10 rows are classified correctly, and 100 are needed'
    """
    rows, labels, _ = logit_rows(logits, target, ignore_index=ignore_index, class_axis=class_axis)
    recovery = SmoothingRecovery(rows.shape[-1])
    recovery.update(rows, labels)
    return recovery.compute()


def _histogram(values: Floats, weights: Floats, step: float, cells: int) -> Floats:
    cell = np.floor(np.clip(values, 0, cells * step) / step).astype(np.int64)
    histogram: Floats = np.bincount(cell, weights, cells + 1).astype(np.float64)  # int64 of no row
    return histogram


def _quantile(weights: Floats, step: float, level: float) -> float:
    """The middle of the cell in which the quantile lies; inf for the last one, nan of nothing."""
    total = float(weights.sum())
    if total == 0:
        return math.nan
    cell = int(np.searchsorted(np.cumsum(weights), level * total))
    return (cell + 0.5) * step if cell < len(weights) - 1 else math.inf
