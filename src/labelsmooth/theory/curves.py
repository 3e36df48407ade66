"""The optimal gap as a function of ε."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.theory.softmax import optimal_gap


@dataclass(frozen=True, kw_only=True)
class GapCurves:
    """The optimal logit gap, in nats, as a function of ε for several numbers of classes."""

    convention: str
    num_classes: NDArray[np.int64]  # (C,)
    eps: NDArray[np.float64]  # (E,)
    gap: NDArray[np.float64]  # (C, E)
    marked_eps: float
    marked_gap: NDArray[np.float64]  # (C,), ±∞ where no finite gap is optimal


def gap_curves(
    num_classes: Sequence[int] = (10, 100, 1000, 10_000),
    convention: str = "others",
    marked_eps: float = 0.1,
) -> GapCurves:
    """The optimal logit gap, in nats, over ε in (0, 1) for several K: the numbers of `ls.plot.plot_gap`.

    Args:
        num_classes: the K, each as in `target`; at least one.
        convention: as in `target`; the figure of *Bag of Tricks* has "others".
        marked_eps: an ε in [0, 1] to point out on every curve.

    Returns:
        `GapCurves`, with ε from 0.005 to 0.995 in steps of 0.005.

    Raises:
        TypeError, ValueError: as `target`; no K at all.

    Example:
        >>> gap_curves([10, 1000]).marked_gap.round(3)
        array([4.394, 9.104])

    Source: He et al. 2019, Bag of Tricks for Image Classification, Fig. 4a.
    """
    if len(num_classes) == 0:
        raise InputError("num_classes must hold at least one number of classes, got none")
    eps = [step / 200 for step in range(1, 200)]
    return GapCurves(
        convention=convention,
        num_classes=np.array(num_classes, dtype=np.int64),
        eps=np.array(eps),
        gap=np.array([[optimal_gap(e, k, convention) for e in eps] for k in num_classes]),
        marked_eps=float(marked_eps),
        marked_gap=np.array([optimal_gap(marked_eps, k, convention) for k in num_classes]),
    )
