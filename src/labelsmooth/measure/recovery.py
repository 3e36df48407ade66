"""Whether the logits of a network look trained with label smoothing, and with about which ε."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from labelsmooth.checks import require_num_classes
from labelsmooth.errors import InputError
from labelsmooth.measure.inputs import Array, logit_rows, require_usable
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.ranks import merge_over_ranks, require_same_options
from labelsmooth.theory import eps_for_gap

Verdict: TypeAlias = Literal["smoothed", "hard", "undecidable"]
Counts: TypeAlias = npt.NDArray[np.int64]

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

# logits widened to float64 at a time: 8 MB
_PIECE = 2**20
# Two histograms: gaps in cells of 1/128 up to 64 nats, spreads in cells of 1/1024 up to 4; what is above, or
# infinite, goes into one more cell.
_GAP_CELLS, _GAP_STEP = 8192, 1 / 128
_SPREAD_CELLS, _SPREAD_STEP = 4096, 1 / 1024


@dataclass(frozen=True, kw_only=True)
class RecoveredSmoothing:
    """What the logits of `rows` rows say about the labels that the network was trained with."""

    verdict: Verdict
    reason: str  # one sentence
    rows: int
    correct: int  # the rows that the rest is about: those where the label has the largest logit
    gap: float  # median, in nats, of the label's log-odds against the average wrong class; inf above 64
    gap_spread: float  # interquartile range of the gaps over their median
    wrong_spread: (
        float  # median over rows of the sd of the wrong logits over the gap from their mean; none if K = 2
    )
    uniform: Interval | None  # the ε of `ls.uniform`; None unless the verdict is "smoothed"
    others: Interval | None  # the ε of `ls.others` that gives the same target, ε·(K−1)/K


class SmoothingRecovery:
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

    def reset(self) -> None:
        """Forget every row."""
        self._rows = 0
        self._gaps: Counts = np.zeros(_GAP_CELLS + 1, np.int64)
        self._spreads: Counts = np.zeros(_SPREAD_CELLS + 1, np.int64)

    def update(
        self,
        logits: Array,
        target: Array,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> None:
        """Count rows of logits, best those held out from the training; of probabilities give log p.

        Args:
            logits: (…, K) floats; −inf is a class with probability 0.
            target: (…) integers in 0..K−1, or `ignore_index`.
            ignore_index: rows with this target do not count.
            class_axis: of `logits`; 1 in maps (N, K, H, W) with targets (N, H, W).

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, a target is out of range, a logit is NaN or +inf, or all logits
                of a row are −inf.

        Cost: about six passes over the logits, 8 MB of them in float64 at a time.
        """
        rows, labels, _ = logit_rows(logits, target, ignore_index=ignore_index, class_axis=class_axis)
        if rows.shape[-1] != self.num_classes:
            raise InputError(f"logits must have {self.num_classes} classes, got {rows.shape[-1]}")
        require_usable(rows.amax(-1), "logits")
        size = max(1, _PIECE // self.num_classes)
        for piece, y in zip(torch.split(rows, size), torch.split(labels, size), strict=True):
            kept = piece.argmax(-1) == y
            y = y[kept].unsqueeze(-1)
            z = piece[kept].double()
            z = z - z.gather(-1, y)  # the label's logit, the largest, is 0 now
            wrong_classes = self.num_classes - 1
            gap = math.log(wrong_classes) - z.scatter(-1, y, -math.inf).logsumexp(-1)
            mean = z.sum(-1, keepdim=True) / wrong_classes
            deviation = (z - mean).scatter(-1, y, 0)  # of a row with −inf it is NaN, and counts as above all
            sd = (deviation.square().sum(-1) / wrong_classes).sqrt()
            spread = torch.where(sd == 0, 0, sd / -mean.squeeze(-1)).nan_to_num(nan=math.inf)
            self._gaps += _counts(gap.cpu().numpy(), _GAP_STEP, _GAP_CELLS)
            self._spreads += _counts(spread.cpu().numpy(), _SPREAD_STEP, _SPREAD_CELLS)
        self._rows += len(rows)

    def merge(self, other: SmoothingRecovery) -> None:
        """Count the rows that `other` has counted.

        Raises:
            ValueError: the two have different numbers of classes.
        """
        require_same_options(self._options(), other._options())
        self._rows += other._rows
        self._gaps += other._gaps
        self._spreads += other._spreads

    def all_merge(self, group: dist.ProcessGroup | None = None) -> None:
        """Count the rows of all processes of a `torch.distributed` group, so that each of them has them all.

        Nothing happens where no process group exists. Call it once, after the last update.

        Args:
            group: the processes; None for all.

        Raises:
            ValueError: as `merge`; each process raises it then.
        """
        merge_over_ranks(self, self._options(), group)

    def compute(self) -> RecoveredSmoothing:
        """What the rows counted so far say.

        Raises:
            ValueError: no row was counted.
        """
        if self._rows == 0:
            raise InputError("a recovery needs at least one row, got none")
        correct = int(self._gaps.sum())
        low, gap, high = (_quantile(self._gaps, _GAP_STEP, level) for level in (0.25, 0.5, 0.75))
        # an infinite range means a quantile beyond the histogram: as wide as can be
        gap_spread = (high - low) / gap if high < math.inf else math.inf
        wrong_spread = _quantile(self._spreads, _SPREAD_STEP, 0.5)
        eps = eps_for_gap(gap, self.num_classes) if correct else math.nan
        gathered = gap_spread <= LARGEST_GAP_SPREAD and eps <= LARGEST_EPS
        alike = wrong_spread <= LARGEST_WRONG_SPREAD
        seen = (
            f"the gaps' spread is {gap_spread:.2f} and that of the wrong logits {wrong_spread:.2f} of the gap"
        )
        verdict: Verdict = "undecidable"
        uniform = others = None
        if correct < FEWEST_ROWS:
            reason = f"only {correct} rows are classified correctly, and {FEWEST_ROWS} are needed"
        elif eps < LEAST_EPS:
            verdict = "hard"
            median = f"of {gap:.1f}" if gap < math.inf else f"of more than {_GAP_CELLS * _GAP_STEP:.0f}"
            reason = f"the median gap {median} nats is beyond that of a smoothing by {LEAST_EPS:g}"
        elif self.num_classes == 2:
            reason = (
                f"the median gap is {gap:.2f} nats, and with two classes there are no wrong logits to "
                "compare, which tell smoothing from what else stops at such a gap"
            )
        elif gathered and alike:
            verdict = "smoothed"
            reason = (
                f"{seen}, as smoothing leaves them; uniform and others have one target at the two ε given"
            )
            uniform = self._uniform(gap, high - low, correct)
            share = (self.num_classes - 1) / self.num_classes
            others = Interval(value=uniform.value * share, low=uniform.low * share, high=uniform.high * share)
        else:
            reason = (
                f"{seen}: not what smoothing leaves, while the gaps are not so large that they exclude it"
            )
        return RecoveredSmoothing(
            verdict=verdict,
            reason=reason,
            rows=self._rows,
            correct=correct,
            gap=gap,
            gap_spread=gap_spread,
            wrong_spread=wrong_spread,
            uniform=uniform,
            others=others,
        )

    def _options(self) -> str:
        return f"num_classes={self.num_classes}"

    def _uniform(self, gap: float, gap_range: float, rows: int) -> Interval:
        # the sd of a normal sample's median is 1.2533·σ/√n, with σ the interquartile range over 1.349
        sampling = 1.96 * 1.2533 * gap_range / 1.349 / math.sqrt(rows)
        off = _SYSTEMATIC * gap_range + sampling + _GAP_STEP
        return Interval(
            value=eps_for_gap(gap, self.num_classes),
            low=eps_for_gap(gap + off, self.num_classes),
            high=eps_for_gap(max(gap - off, 0.0), self.num_classes),
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


def _counts(values: npt.NDArray[np.float64], step: float, cells: int) -> Counts:
    cell = np.clip(np.floor(values / step), 0, cells).astype(np.int64)
    return np.bincount(cell, minlength=cells + 1)


def _quantile(counts: Counts, step: float, level: float) -> float:
    """The middle of the cell in which the quantile lies; inf for the last one, nan of nothing."""
    total = int(counts.sum())
    if total == 0:
        return math.nan
    cell = int(np.searchsorted(np.cumsum(counts), level * total))
    return (cell + 0.5) * step if cell < len(counts) - 1 else math.inf
