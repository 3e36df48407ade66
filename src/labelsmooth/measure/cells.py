"""Cells of confidence: what rows are counted by, fine enough for every bin to be a sum of whole cells."""

from __future__ import annotations

from typing import Literal

import numpy as np

from labelsmooth.measure.arrays import Counts, Floats
from labelsmooth.measure.smooth import INTERVALS

# Towards 1 cells shrink by a factor 2^(1/8) from each to the next: most rows of a good classifier lie there,
# and equal-mass bins need borders among them.
_NEAR_ONE = 1 - 2.0 ** -np.arange(12, 40, 1 / 8)

# bits of a float64's significand that a piece of 1 − c leaves open: 8 pieces to a factor of two
_OPEN_BITS = np.int64(52 - 3)
_WIDEST = np.array(2.0**-12).view(np.int64) >> _OPEN_BITS  # the first piece of 1 − c
_PIECES = 8 * 28 + 1  # the last holds all that is nearer to 1


class Cells:
    """Cells of [0, 1] that refine bins with these borders and the intervals of the smooth calibration error.

    Cell i holds what lies between edges i−1 and i; the first and the last are 0 and 1 alone where the edges
    are open on that side, and hold what rounding has put a hair above 1.

    Args:
        borders: (B + 1,), from 0 to 1.
        side: "left" puts a value on an edge into the cell below it, "right" into the one above.
    """

    def __init__(self, borders: Floats, side: Literal["left", "right"]) -> None:
        uniform = np.linspace(0, 1, INTERVALS + 1)
        self.edges: Floats = np.unique(np.concatenate([borders, uniform, _NEAR_ONE]))
        self.middles: Floats = np.concatenate([[0], (self.edges[1:] + self.edges[:-1]) / 2, [1]])
        self._before = np.less if side == "left" else np.less_equal
        widths = (_WIDEST + 1 - np.arange(_PIECES)) << _OPEN_BITS
        lowest = np.concatenate([uniform[:-2], 1 - widths.view(np.float64)])  # at or below all of each piece
        self._first: Counts = np.searchsorted(self.edges, lowest, side)
        self._most = int(np.diff(self._first, append=len(self.edges)).max())
        self._above: Floats = np.append(self.edges, np.inf)

    def __len__(self) -> int:
        return len(self.middles)

    def of(self, confidence: Floats) -> Counts:
        """The cell of each value, as `numpy.searchsorted` in the edges finds it, in a third of the time.

        A multiplication, or near 1 the leading bits of 1 − c, gives a piece of [0, 1] that few edges lie in,
        and these are compared one after another.
        """
        piece = (confidence * INTERVALS).astype(np.int64)
        to_one = np.maximum(1 - confidence, 0).view(np.int64) >> _OPEN_BITS
        near_one = INTERVALS - 1 + np.minimum(_WIDEST - to_one, _PIECES - 1)
        cell = self._first[np.where(piece < INTERVALS - 1, piece, near_one)]
        for _ in range(self._most):
            cell += self._before(self._above[cell], confidence)
        return cell
