"""Fits of scalings: a temperature by Newton steps, a vector by L-BFGS, in passes over the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from labelsmooth.errors import InputError

# where a temperature is looked for
LOWEST, HIGHEST = 1e-4, 1e4

# relative length of the last step; a Newton step of this length leaves an error of about its square
_TOLERANCE = 1e-9

# of vector scaling, in units in which the NLL curves by about 1 along each number
_GRADIENT_TOLERANCE, CHANGE_TOLERANCE = 1e-6, 1e-10
# the units are taken anew after so many iterations, so often
_ITERATIONS, ROUNDS = 40, 20

# float64 logits (n, K), labels (n,) and float64 weights (n,), a few rows at a time; each call is one pass
Pass: TypeAlias = Callable[[], Iterator[tuple[Tensor, ...]]]


@dataclass(frozen=True, kw_only=True)
class Point:
    """The mean NLL of β·z and what it does along log β, with x = β·z."""

    nll: float
    slope: float  # β·NLL′(β), the mean of s = E_p x − x_y
    curvature: float  # β²·NLL″(β), the mean of Var_p x
    error: float  # standard error of log β, were this the root


def along_log_beta(one_pass: Pass, log_beta: float) -> Point:
    """Take one pass. Newton's step for the root of NLL′ along log β is −slope/curvature."""
    beta = math.exp(log_beta)
    totals = np.zeros(5)
    for rows, labels, weight in one_pass():
        top = rows.amax(-1, keepdim=True)
        x = torch.sub(rows, top).mul_(beta)
        at_label = x.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        # a class of logit −inf has no part: exp gives 0 here as there, and 0 times this is 0
        x.clamp_(min=-1e150)
        exp_x = x.exp()
        total = exp_x.sum(-1)
        mean = exp_x.mul_(x).sum(-1) / total
        variance = exp_x.mul_(x).sum(-1) / total - mean.square()
        slope = mean - at_label
        totals += [
            float(value.sum())
            for value in (
                weight,
                weight * (total.log() - at_label),
                weight * slope,
                weight * variance.clamp_(min=0),
                (weight * slope).square(),
            )
        ]
    if totals[0] == 0:
        raise InputError("a temperature needs at least one row to be fitted on, got none")
    # Python's numbers divide by a curvature of next to nothing without a warning
    nll, slope_mean, curvature = (totals[1:4] / totals[0]).tolist()
    error = math.sqrt(totals[4]) / float(totals[3]) if totals[3] > 0 else math.inf
    return Point(nll=nll, slope=slope_mean, curvature=curvature, error=error)


def all_equal(one_pass: Pass) -> bool:
    """Whether the logits above −inf are the same in each row, so that no temperature changes anything."""
    return all(
        bool(((rows == rows.amax(-1, keepdim=True)) | (rows == -torch.inf)).all())
        for rows, _, _ in one_pass()
    )


def minimum(one_pass: Pass, start: Point) -> tuple[float, Point, bool]:
    """The log β of the lowest NLL, by Newton steps from 0, the last point seen, and whether it is an end."""
    low, high = -math.log(HIGHEST), -math.log(LOWEST)
    # the ends are looked at only once a step would reach beyond, or is no help
    root_above, root_below = False, False
    at, point, last_step = 0.0, start, high - low
    while True:
        if point.slope > 0:
            high, root_below = at, True
        else:
            low, root_above = at, True
        step = (
            -point.slope / point.curvature if point.curvature > 0 else math.copysign(math.inf, -point.slope)
        )
        if point.slope == 0 and point.curvature == 0:  # it underflows, as rows that are all right make it do
            step = math.inf
        if abs(step) <= _TOLERANCE:
            return at + step, point, False
        if not low < at + step < high or abs(step) > abs(last_step) / 2:
            if step > 0 and not root_below:
                root_below = True
                end = along_log_beta(one_pass, high)
                if end.slope <= 0:
                    return high, end, True
            elif step < 0 and not root_above:
                root_above = True
                end = along_log_beta(one_pass, low)
                if end.slope >= 0:
                    return low, end, True
            step = (low + high) / 2 - at
        at, last_step = at + step, step
        point = along_log_beta(one_pass, at)


def lbfgs_round(one_pass: Pass, nll: float, scale: Tensor, bias: Tensor) -> tuple[float, Tensor, Tensor]:
    """Some iterations of L-BFGS from a point of this NLL: the lowest point met."""
    best = (nll, scale, bias)
    centre, unit_scale, unit_bias = _units(one_pass, scale, bias)
    moved = torch.zeros(2, scale.shape[0], dtype=torch.float64, device=scale.device, requires_grad=True)

    def closure() -> Tensor:
        nonlocal best
        by_scale, by_bias = moved.detach() * torch.stack([unit_scale, unit_bias])
        here = scale + by_scale, bias + by_bias - by_scale * centre
        nll, d_scale, d_bias = _gradient(one_pass, *here)
        if float(nll) < best[0]:
            best = (float(nll), *here)
        moved.grad = torch.stack([(d_scale - d_bias * centre) * unit_scale, d_bias * unit_bias])
        return nll

    optimizer = torch.optim.LBFGS(
        [moved],
        max_iter=_ITERATIONS,
        max_eval=2 * _ITERATIONS,
        tolerance_grad=_GRADIENT_TOLERANCE,
        tolerance_change=CHANGE_TOLERANCE,
        history_size=_ITERATIONS,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return best


def _units(one_pass: Pass, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The centre of the logits of each class (K,), and the units of its scale and its bias.

    Around the centre, the mean of z_k under the weights p_k(1 − p_k), scale and bias of a class do not mix in
    the second derivatives; these are 1 in the units.
    """
    sums, total = torch.zeros(3, scale.shape[0], dtype=torch.float64, device=scale.device), 0.0
    for rows, _, weight in one_pass():
        absent = rows == -torch.inf
        z = rows.masked_fill(absent, 0)
        p = torch.addcmul(bias, z, scale).masked_fill_(absent, -torch.inf).softmax(-1)
        h = p * (1 - p) * weight.unsqueeze(-1)
        sums += torch.stack([h.sum(0), (h * z).sum(0), (h * z * z).sum(0)])
        total += float(weight.sum())
    curvature, first, second = sums
    # a class that hardly ever has a share would otherwise take steps without bound
    curvature = curvature.clamp(min=1e-6 * max(float(curvature.max()), torch.finfo(torch.float64).tiny))
    centre = first / curvature
    mean_square = second / curvature
    variance = (mean_square - centre.square()).clamp(min=1e-6 * float(mean_square.max()) + 1e-300)
    unit = (total / curvature).sqrt()
    return centre, unit / variance.sqrt(), unit


def _gradient(one_pass: Pass, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean NLL of scale·z + bias and its gradient by both, in one pass."""
    total, nll = 0.0, scale.new_zeros(())
    d_scale, d_bias = torch.zeros_like(scale), torch.zeros_like(bias)
    for rows, labels, weight in one_pass():
        x = torch.addcmul(bias, rows, scale)
        absent = rows == -torch.inf
        if absent.any():  # whatever the sign of its scale
            x.masked_fill_(absent, -torch.inf)
            rows = rows.masked_fill(absent, 0)
        x.sub_(x.amax(-1, keepdim=True))
        index = labels.unsqueeze(-1)
        at_label = x.gather(-1, index).squeeze(-1)
        p = x.exp_()
        norm = p.sum(-1)
        nll += weight @ (norm.log() - at_label)
        p.mul_((weight / norm).unsqueeze(-1)).scatter_add_(-1, index, -weight.unsqueeze(-1))
        d_bias += p.sum(0)
        d_scale += p.mul_(rows).sum(0)
        total += float(weight.sum())
    return nll / total, d_scale / total, d_bias / total
