"""The table that calibration counts rows in: sums over cells of confidence, wrong and correct rows apart."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Bools, Counts, Floats
from labelsmooth.measure.inputs import on_cpu
from labelsmooth.measure.peers import Layout
from labelsmooth.measure.rows import RowNumbers, blocks
from labelsmooth.measure.smooth import INTERVALS, ResidualMoments, moments_of_sums

# rows added together, so that what is summed of them stays in cache
_ROWS = 2**15

# What a cell sums over its rows: weights w and their squares, w·d and w·d² with the distance d of the
# confidence from the cell's middle (small numbers keep their digits), and w·x and (w·x)² for NLL, Brier
# score and entropy.
W, WW, WD, WDD, NLL, NLL_SQ, BRIER, BRIER_SQ, ENTROPY, ENTROPY_SQ = range(10)


class CellTable:
    """Sums over the rows of each cell.

    Attributes:
        layout: cells and bins.
        counts: (2, cells) wrong and correct rows.
        sums: (10, 2, cells), in the order of the names above.
        infinite_nll_rows: (1,) rows that gave their label the probability 0, which no sum of NLL holds.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.counts: Counts = np.zeros((2, len(layout.cells)), np.int64)
        self.sums: Floats = np.zeros((10, 2, len(layout.cells)))
        self.infinite_nll_rows: Counts = np.zeros(1, np.int64)

    def copy(self) -> Self:
        """A table of its own with the same sums."""
        other = copy.copy(self)
        for name, array in self.arrays().items():
            setattr(other, name, array.copy())
        return other

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, by name."""
        return {"counts": self.counts, "sums": self.sums, "infinite_nll_rows": self.infinite_nll_rows}

    def add(self, rows: RowNumbers, weights: Floats, eps: float) -> None:
        """Count rows of weights above 0, whose confidences come from a dtype with this eps."""
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            self._add(rows.select(part), weights[part], eps)

    def _add(self, rows: RowNumbers, weights: Floats, eps: float) -> None:
        cells, binning = self.layout.cells, self.layout.binning
        confidence = binning.clipped(binning.rounded(rows.confidence), eps)
        cell = cells.of(confidence)
        where = cell + len(cells) * rows.correct
        shape, size = self.counts.shape, self.counts.size
        self.counts += np.bincount(where, minlength=size).reshape(shape)
        infinite = np.isinf(rows.nll)
        self.infinite_nll_rows += infinite.sum()
        distance = confidence - cells.middles[cell]
        per_row = [weights, weights**2, weights * distance, weights * distance**2]
        for values in (np.where(infinite, 0, rows.nll), rows.brier, rows.entropy):
            per_row += [weights * values, np.square(weights * values)]
        for total, values in zip(self.sums, per_row, strict=True):
            total += np.bincount(where, values, size).reshape(shape)

    @property
    def rows(self) -> int:
        """The number of rows that count."""
        return int(self.counts.sum())

    @property
    def weight(self) -> float:
        """The weight of all rows."""
        return float(self.sums[W].sum())

    @property
    def confidence(self) -> Floats:
        """Σ w·c of each cell, (2, cells)."""
        confidence: Floats = self.sums[W] * self.layout.cells.middles + self.sums[WD]
        return confidence

    def mean(self, sum_of: int) -> float:
        """The mean over rows of what the sums of this place in `sums` are of."""
        return float(self.sums[sum_of].sum()) / self.weight

    def moments(self) -> ResidualMoments:
        """The moments that the smooth calibration error needs."""
        interval = interval_of(self.layout.cells.middles, INTERVALS)
        shift = self.layout.cells.middles - (interval + 0.5) / INTERVALS
        w, wd, wdd = self.sums[W], self.sums[WD], self.sums[WDD]
        about_middle = (
            w,
            wd + shift * w,
            wdd + 2 * shift * wd + shift**2 * w,
            3 * shift * wdd + 3 * shift**2 * wd + shift**3 * w,  # but for Σ w·d³ within a cell
        )
        return moments_of_sums(*(joined(sums, interval, INTERVALS) for sums in about_middle))


class ClassTable:
    """For each class, sums over all rows in bins of its probability; without classes until the first row.

    Attributes:
        class_counts: (K, 2, bins), rows of other classes and of the class.
        class_sums: (2, K, 2, bins), of w and of w·p.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        shape = (0, 2, len(layout.edges) - 1)
        self.class_counts: Counts = np.zeros(shape, np.int64)
        self.class_sums: Floats = np.zeros((2, *shape))

    def copy(self) -> Self:
        """A table of its own with the same sums."""
        other = copy.copy(self)
        other.class_counts, other.class_sums = self.class_counts.copy(), self.class_sums.copy()
        return other

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, by name; nothing as long as there are no classes."""
        if not len(self.class_counts):
            return {}
        return {"class_counts": self.class_counts, "class_sums": self.class_sums}

    def grow(self, num_classes: int) -> None:
        """Make room for K classes where there is none yet.

        Raises:
            ValueError: there are rows of another number of classes.
        """
        if not len(self.class_counts):
            shape = (num_classes, *self.class_counts.shape[1:])
            self.class_counts, self.class_sums = np.zeros(shape, np.int64), np.zeros((2, *shape))
        if len(self.class_counts) != num_classes:
            raise InputError(
                f"a classwise measure needs the same classes in all rows, got {num_classes} after "
                f"{len(self.class_counts)}"
            )

    def add(self, probs: Floats, holds: Bools, weights: Floats) -> None:
        """Count rows of probabilities of K classes, all (N, K); what has the weight 0 does not count."""
        self.grow(probs.shape[-1])
        p = self.layout.binning.rounded(probs)
        chosen = self.layout.bin_of_cell[self.layout.cells.of(p)]
        inside = (chosen >= 0) & (weights > 0)
        shape, size = self.class_counts.shape, self.class_counts.size
        where = ((2 * np.arange(shape[0]) + holds) * shape[2] + chosen)[inside]
        self.class_counts += np.bincount(where, minlength=size).reshape(shape)
        self.class_sums[0] += np.bincount(where, weights[inside], size).reshape(shape)
        self.class_sums[1] += np.bincount(where, (weights * p)[inside], size).reshape(shape)


def label_ranks(rows: Tensor, labels: Tensor) -> Counts:
    """The number of classes before the label, (N,): those of larger values, and of equal ones the first."""
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


def interval_of(confidence: Floats, intervals: int) -> Counts:
    """Which of equal intervals of [0, 1] each confidence lies in."""
    return np.clip((confidence * intervals).astype(np.int64), 0, intervals - 1)


def joined(values: npt.NDArray[Any], group: Counts, num: int) -> npt.NDArray[Any]:
    """Sums (…, num) of the cells (…, cells) in each group; a group below 0 is left out."""
    rows = values.reshape(-1, values.shape[-1])
    sums = np.array([np.bincount(group + 1, row, num + 1)[1:] for row in rows])
    return sums.reshape(*values.shape[:-1], num).astype(values.dtype)  # counts are whole up to 2^53
