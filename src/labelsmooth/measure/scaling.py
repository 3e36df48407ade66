"""Post-hoc scaling of logits: fitted on validation rows, applied to others."""

from __future__ import annotations

import math
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.measure.inputs import Array, classified_rows
from labelsmooth.row_stats import row_stats

# where a temperature is looked for
LOWEST, HIGHEST = 1e-4, 1e4

# relative length of the last step; a Newton step of this length leaves an error of about its square
_TOLERANCE = 1e-9

# logits widened to float64 at a time: 8 MB
_PIECE = 2**20

_ArrayT = TypeVar("_ArrayT", Tensor, npt.NDArray[Any])


class TemperatureScaling:
    """Temperature scaling: the one T > 0 for which softmax(z/T) has the lowest mean NLL, in nats.

    NLL(β) = mean [log Σ_k exp(β·z_k) − β·z_y] with β = 1/T is convex in β, so a root of its derivative is its
    minimum. `fit` keeps the root between two values of log β and takes Newton steps, or halves the interval
    where a step would leave it or is not getting shorter. T can come out neither zero nor negative.

    Attributes:
        temperature: T in 1e-4..1e4; above 1 for an over-confident classifier, below 1 for an under-confident.
        nll_before: mean NLL of the rows fitted on, at T = 1.
        nll_after: mean NLL of the same rows at `temperature`.
        at_boundary: True where the NLL still falls at an end of 1e-4..1e4, which `temperature` then is. At
            the lower end each label has its row's largest logit, so that no confidence is too high; at the
            upper the labels' logits lie below the average, so that none is too low. These rows then do not
            tell a temperature, and the one given is of no use on others.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        >>> scaling = TemperatureScaling().fit(logits, torch.tensor([0, 0, 1, 1]))
        >>> round(scaling.temperature, 4), round(scaling.nll_before, 4), round(scaling.nll_after, 4)
        (3.641, 1.0181, 0.5623)
        >>> scaling.transform(logits)[0].softmax(-1)
        tensor([0.7500, 0.2500])

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2. It is the T = 1/β of
    scikit-learn's `CalibratedClassifierCV(method="temperature")`, which looks in 4.5e-5..2.2e4.
    """

    temperature: float
    nll_before: float
    nll_after: float
    at_boundary: bool

    def fit(self, logits: Array, target: Array) -> Self:
        """Find the temperature, on validation rows: measure what it does on others.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0 at every temperature.
            target: (…) integers in 0..K−1.

        Returns:
            This object with its attributes set. T is 1 where every row's logits are all equal.

        Raises:
            TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
            ValueError: there is no row, the shapes do not fit, a target is out of range, a logit is NaN or
                +inf, or the logit of a label is −inf, which makes the NLL infinite at every temperature.

        Cost: about ten passes over the logits, 8 MB of them in float64 at a time.
        """
        rows, labels = classified_rows(logits, target, "logits")
        if rows.shape[0] == 0:
            raise ValueError("a temperature needs at least one row to be fitted on, got none")
        nll_before, slope, curvature = _nll_along_log_beta(rows, labels, 0.0)
        if math.isnan(nll_before):
            raise ValueError(
                "each row of logits must hold a finite value and neither NaN nor +inf, got others"
            )
        if math.isinf(nll_before):
            raise ValueError("the logit of each row's label must be finite to fit a temperature, got -inf")

        low, high = -math.log(HIGHEST), -math.log(LOWEST)
        _, slope_at_low, _ = _nll_along_log_beta(rows, labels, low)
        _, slope_at_high, _ = _nll_along_log_beta(rows, labels, high)
        self.at_boundary = False
        if slope_at_low == 0:  # the NLL does not depend on the temperature
            self.temperature = 1.0
        elif slope_at_low > 0:
            self.temperature, self.at_boundary = HIGHEST, True
        elif slope_at_high <= 0:  # equal where it underflows, as rows that are all right make it do
            self.temperature, self.at_boundary = LOWEST, True
        else:
            self.temperature = math.exp(-_root(rows, labels, low, high, slope, curvature))
        self.nll_before = nll_before
        self.nll_after, _, _ = _nll_along_log_beta(rows, labels, -math.log(self.temperature))
        return self

    def transform(self, logits: _ArrayT) -> _ArrayT:
        """The logits divided by the temperature.

        Args:
            logits: (…) floats, a tensor or an array.

        Returns:
            The same type, shape and dtype; differentiable where a tensor is.

        Raises:
            ValueError: no temperature was fitted.

        Cost: one pass.
        """
        if not hasattr(self, "temperature"):
            raise ValueError("transform needs a temperature, got one that was not fitted: call fit first")
        return logits / self.temperature


def _root(
    rows: Tensor,  # (N, K)
    labels: Tensor,  # (N,)
    low: float,
    high: float,
    slope: float,  # at log β = 0
    curvature: float,
) -> float:
    """The log β between `low` and `high` at which the slope is 0, by Newton steps from 0."""
    at = 0.0
    last_step = high - low
    while True:
        low, high = (low, at) if slope > 0 else (at, high)
        step = -slope / curvature if curvature > 0 else math.inf
        if abs(step) > _TOLERANCE and (not low < at + step < high or abs(step) > abs(last_step) / 2):
            step = (low + high) / 2 - at
        if abs(step) <= _TOLERANCE:
            return at + step
        at, last_step = at + step, step
        _, slope, curvature = _nll_along_log_beta(rows, labels, at)


def _nll_along_log_beta(
    rows: Tensor,  # (N, K)
    labels: Tensor,  # (N,)
    log_beta: float,
) -> tuple[float, float, float]:
    """The mean NLL of β·z, β·NLL′(β) and β²·NLL″(β): the mean of E_p x − x_y and of Var_p x, with x = β·z.

    The first is the slope along log β, and Newton's step for the root of NLL′ along log β is −first/second.
    """
    beta = math.exp(log_beta)
    totals = np.zeros(3)
    piece_rows = max(1, _PIECE // rows.shape[-1])
    for start in range(0, rows.shape[0], piece_rows):
        piece = slice(start, start + piece_rows)
        x = rows[piece].double() * beta
        stats = row_stats(x, labels[piece].unsqueeze(-1), mean_logit=True)
        assert stats.at_index is not None
        assert stats.mean_logit is not None
        p = (x - stats.lse.unsqueeze(-1)).exp()
        # a class with the logit −inf has no part in the variance
        deviation = torch.where(p > 0, x - (stats.max + stats.mean_logit).unsqueeze(-1), 0)
        totals += [
            float(stats.nll.sum()),
            float((stats.mean_logit - stats.at_index[..., 0]).sum()),
            float((p * deviation.square()).sum()),
        ]
    nll, slope, curvature = totals / rows.shape[0]
    return float(nll), float(slope), float(curvature)
