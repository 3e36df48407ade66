"""The distribution of the logit gaps of rows, from a stream of batches."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import State
from labelsmooth.measure.inputs import Array, logit_rows
from labelsmooth.measure.logit_gaps import logit_gaps
from labelsmooth.measure.protocol import Measure, Table, require_same_options

# width of the cells that gaps are counted in, in nats; it doubles where there would be more of them, or where
# their numbers, of which float64 holds each up to 2⁵³, would lie further from 0
_WIDTH, _MOST_CELLS, _FURTHEST = 2.0**-6, 2**14, 2.0**53


class GapHistogram(Measure):
    """A histogram of `logit_gaps`, whose cells grow where the gaps spread too far.

    Rows that give a class the probability 0, or whose gap float64 cannot hold, have no gap and are left out.

    Args:
        bins: the most bins that `figures` shows, at least 2 because one always ends at 0.

    Example:
        >>> gaps = GapHistogram(bins=3)
        >>> gaps.update(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
        >>> gaps.figures()["logit_gaps"]["rows"]
        array([1, 0, 1])

    Cost: one float64 copy of the logits a batch, and at most 2¹⁴ counts.
    """

    def __init__(self, bins: int = 60) -> None:
        if bins < 2:
            raise InputError(f"bins must be at least 2, got {bins}")
        self.bins = bins
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._width = _WIDTH
        self._count: Counter[int] = Counter()
        self._rows = 0  # that count, with those that have no gap

    def update(self, logits: Array, target: Array, weight: Array | None = None) -> None:
        """Count rows, each as one.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0.
            target: (…) integers in 0..K−1.
            weight: (…) finite numbers ≥ 0; only whether they are 0 matters.

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, or a target or a weight is out of range.
        """
        rows, labels, weights = logit_rows(logits, target, weight)
        if weights is not None:
            count = (weights > 0).to(rows.device)
            rows, labels = rows[count], labels[count]
        self._rows += len(rows)
        known = rows.isfinite().all(-1)
        gaps = logit_gaps(rows[known], labels[known])
        gaps = gaps[np.isfinite(gaps)]
        while np.abs(gaps).max(initial=0) >= self._width * _FURTHEST:
            self._widen()
        cells, counts = np.unique(np.floor(gaps / self._width), return_counts=True)
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            self._count[int(cell)] += count
        while len(self._count) > _MOST_CELLS:
            self._widen()

    def merge(self, other: GapHistogram) -> None:
        """Count the rows that `other` has counted.

        Raises:
            ValueError: the two do not have the same number of bins.
        """
        require_same_options(self.options(), other.options())
        while self._width < other._width:
            self._widen()
        times = round(self._width / other._width)
        for cell, count in other._count.items():
            self._count[cell // times] += count
        self._rows += other._rows
        while len(self._count) > _MOST_CELLS:
            self._widen()

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        return f"{self.bins} bins"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted: the width of the cells, which of them hold rows, how many, and all rows."""
        cells = sorted(self._count)
        return {
            "width": np.array([self._width]),
            "cells": np.array(cells, np.int64),
            "counts": np.array([self._count[cell] for cell in cells], np.int64),
            "rows": np.array([self._rows]),
        }

    def load(self, state: State) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: the arrays are not those of a state.
        """
        if set(state) != set(self.state()):
            raise InputError(f"a state has {', '.join(self.state())}, got {', '.join(state)}")
        shapes = {name: array.shape for name, array in state.items()}
        if shapes != {name: array.shape for name, array in self.state().items()} | {
            name: (len(state["cells"]),) for name in ("cells", "counts")
        }:
            raise InputError(f"a state has a width, rows and as many counts as cells, got shapes {shapes}")
        self._width = float(state["width"][0])
        self._count = Counter(dict(zip(state["cells"].tolist(), state["counts"].tolist(), strict=True)))
        self._rows = int(state["rows"][0])

    def values(self) -> dict[str, float]:
        """No numbers: the mean gap is among those of `Teacher`.

        Raises:
            ValueError: no row was counted.
        """
        if not self._rows:
            raise InputError("a histogram of gaps needs at least one row, got none")
        return {}

    def figures(self) -> dict[str, Table]:
        """The histogram, empty where no row has a gap."""
        if not self._count:
            return {"logit_gaps": {"from": np.zeros(0), "to": np.zeros(0), "rows": np.zeros(0, np.int64)}}
        width, count = self._width, self._count
        while max(count) - min(count) >= self.bins:
            width, count = 2 * width, _pairs(count)
        cells = np.arange(min(count), max(count) + 1)
        rows = np.array([count[cell] for cell in cells.tolist()])
        return {"logit_gaps": {"from": cells * width, "to": (cells + 1) * width, "rows": rows}}

    def _widen(self) -> None:
        self._width, self._count = 2 * self._width, _pairs(self._count)


def _pairs(count: Counter[int]) -> Counter[int]:
    """The counts of cells that are twice as wide."""
    wider: Counter[int] = Counter()
    for cell, rows in count.items():
        wider[cell // 2] += rows
    return wider
