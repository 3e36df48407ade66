"""The distance of each row's label logit from the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Floats
from labelsmooth.measure.inputs import Array, classified_rows, finite

QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitGap:
    """The distribution over rows of the gap between the label's logit and the mean of the others."""

    rows: int
    mean: float
    sd: float  # over the rows, dividing by their number
    quantile_levels: Floats  # (5,): 0.05, 0.25, 0.5, 0.75, 0.95
    quantiles: Floats  # (5,)


def logit_gaps(
    logits: Array, target: Array, *, ignore_index: int | None = None, class_axis: int = -1
) -> Floats:
    """The distance of each row's label logit above the mean of its other logits, in nats.

    gap = z_y − (1/(K−1)) Σ_{k≠y} z_k = K/(K−1)·(z_y − (1/K) Σ_k z_k).

    This is what theory's optimal gap z_y − z_k is to be compared with. At the optimum all wrong logits are
    equal, so any summary of them would do; in a trained network they are not, and the mean is the one that
    averages z_y − z_k over the wrong classes, while the largest of K−1 noisy logits lies above them all by an
    amount that grows with K and has nothing to do with smoothing.

    Args:
        logits: (…, K) finite floats, K ≥ 2.
        target: (…) integers in 0..K−1, or `ignore_index`.
        ignore_index: the target whose rows are left out; None for none.
        class_axis: where the K logits of a row lie, 1 for maps (N, K, H, W) with targets (N, H, W).

    Returns:
        (N,) float64, the rows in their order.

    Raises:
        TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
        ValueError: the shapes do not fit, a target is out of range or a logit is not finite.

    Cost: one float64 copy of the logits.

    Example:
        >>> logit_gaps(torch.tensor([[3.0, 1.0, -1.0], [0.0, 5.0, 2.0]]), torch.tensor([0, 1]))
        array([3., 4.])

    Source: He et al. 2019, "Bag of Tricks for Image Classification with Convolutional Neural Networks", §5.2,
    which sets the largest logit against the mean of the rest; a row that is classified wrongly differs.
    """
    rows, labels = classified_rows(logits, target, "logits", ignore_index=ignore_index, class_axis=class_axis)
    z = finite(rows, "logits")
    label_logit = z.gather(-1, labels.unsqueeze(-1))
    # relative to the label's logit, so that a large common offset costs no digits
    return ((label_logit - z).sum(-1) / (z.shape[1] - 1)).cpu().numpy()


def logit_gap(
    logits: Array, target: Array, *, ignore_index: int | None = None, class_axis: int = -1
) -> LogitGap:
    """The distribution of `logit_gaps` over all rows, in nats.

    Args:
        logits: (…, K) finite floats, K ≥ 2.
        target: (…) integers in 0..K−1, or `ignore_index`.
        ignore_index: the target whose rows are left out; None for none.
        class_axis: where the K logits of a row lie, 1 for maps (N, K, H, W) with targets (N, H, W).

    Returns:
        `LogitGap`, in float64.

    Raises:
        TypeError, ValueError: as `logit_gaps`, or there is no row.

    Cost: that of `logit_gaps`.

    Example:
        >>> gap = logit_gap(torch.tensor([[3.0, 1.0, -1.0], [0.0, 4.0, 2.0]]), torch.tensor([0, 1]))
        >>> gap.mean, gap.sd
        (3.0, 0.0)
    """
    gaps = logit_gaps(logits, target, ignore_index=ignore_index, class_axis=class_axis)
    if len(gaps) == 0:
        raise InputError("a logit gap needs at least one row, got none")
    return LogitGap(
        rows=len(gaps),
        mean=float(gaps.mean()),
        sd=float(gaps.std()),
        quantile_levels=np.array(QUANTILE_LEVELS),
        quantiles=np.quantile(gaps, QUANTILE_LEVELS),
    )
