"""The smoothed loss of one row in its two parts, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.conventions import convention_of
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.smoothing import PRIOR_SUM_TOLERANCE
from labelsmooth.theory.numbers import ratio, times
from labelsmooth.theory.softmax import convert, target


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """The smoothed loss of one row as its two parts, all in nats but the weight."""

    loss: float  # H(q′, p) = (1−ε)·hard + ε·towards_uniform
    hard: float  # H(q, p) = −log p_y, the loss without smoothing
    towards_uniform: float  # H(u, p) = kl_uniform + entropy_uniform
    kl_uniform: float  # KL(u‖p), the only part of H(u, p) that training can change
    entropy_uniform: float  # H(u) = log K
    relative_weight: float  # ε/(1−ε), of H(u, p) beside H(q, p)


def decomposition(
    eps: float,
    label: int,
    *,
    logits: Tensor | NDArray[np.float64] | Sequence[float] | None = None,
    probs: Tensor | NDArray[np.float64] | Sequence[float] | None = None,
    convention: str = "uniform",
) -> Decomposition:
    """The smoothed loss of one row, in nats, split into the hard loss and the pull towards uniform.

    H(q′, p) = (1−ε)·H(q, p) + ε·H(u, p), with H(u, p) = KL(u‖p) + H(u) and the ε of `uniform` that gives the
    same target.

    Args:
        eps, convention: as `target`; a convention that `convert` takes to "uniform".
        label: y in 0..K−1.
        logits: (K,), K ≥ 2, finite or −∞. Give either these or `probs`.
        probs: (K,), not negative, summing to 1.

    Returns:
        `Decomposition`, computed in float64. A class of probability 0 makes H(u, p) infinite, and the loss
        with it unless ε = 0.

    Raises:
        TypeError, ValueError: as `convert`; not exactly one of `logits` and `probs`, one that is no row of
            its kind, or a label outside it.

    Cost: one pass over a copy of the row in float64.

    Example:
        >>> parts = decomposition(0.1, 2, probs=[0.25, 0.25, 0.5])
        >>> round(parts.hard, 4), round(parts.towards_uniform, 4), round(parts.loss, 4)
        (0.6931, 1.1552, 0.7394)

    Source: Szegedy et al. 2016, §7; the loss agrees with `torch.nn.functional.cross_entropy`.
    """
    log_probs = _log_probs(logits, probs)
    num_classes = len(log_probs)
    _check_label(label, num_classes)
    eps = convert(eps, num_classes, convention, "uniform")
    hard = -float(log_probs[label])
    towards_uniform = -float(log_probs.mean())
    entropy_uniform = math.log(num_classes)
    return Decomposition(
        loss=times(1 - eps, hard) + times(eps, towards_uniform),
        hard=hard,
        towards_uniform=towards_uniform,
        kl_uniform=max(towards_uniform - entropy_uniform, 0.0),  # rounding may take it below
        entropy_uniform=entropy_uniform,
        relative_weight=ratio(eps, 1 - eps),
    )


def logit_gradient(
    eps: float,
    label: int,
    *,
    logits: Tensor | NDArray[np.float64] | Sequence[float] | None = None,
    probs: Tensor | NDArray[np.float64] | Sequence[float] | None = None,
    convention: str = "uniform",
) -> NDArray[np.float64]:
    """The gradient of the smoothed loss of one row in its logits, M·p − q.

    Args:
        eps, convention: as `target`; a convention without a padding class.
        label, logits, probs: as in `decomposition`.

    Returns:
        (K,), which sum to 0.

    Raises:
        TypeError, ValueError: as `decomposition`; or a convention that keeps a padding class free.

    Example:
        >>> logit_gradient(0.1, 0, probs=[0.5, 0.5]).round(3)
        array([-0.45,  0.45])

    Source: `optimum`.
    """
    log_probs = _log_probs(logits, probs)
    _check_label(label, len(log_probs))
    if convention_of(convention).needs_pad:
        raise InputError(f"{convention} keeps a padding class free, which one row does not tell")
    levels = target(eps, len(log_probs), convention)
    q = torch.full_like(log_probs, levels.on_other)
    q[label] = levels.on_class
    return (levels.mass * log_probs.exp() - q).numpy()


def _check_label(label: int, num_classes: int) -> None:
    if isinstance(label, bool) or not isinstance(label, int):
        raise InputTypeError(f"label must be an int, got {type(label).__name__}")
    if not 0 <= label < num_classes:
        raise InputError(f"label must lie in 0..{num_classes - 1}, got {label}")


def _log_probs(
    logits: Tensor | NDArray[np.float64] | Sequence[float] | None,
    probs: Tensor | NDArray[np.float64] | Sequence[float] | None,
) -> Tensor:  # (K,)
    if (logits is None) == (probs is None):
        raise InputError(f"expected logits or probs, got {'neither' if logits is None else 'both'}")
    name = "probs" if logits is None else "logits"
    row = torch.as_tensor(probs if logits is None else logits).detach().to("cpu", torch.float64)
    if row.dim() != 1 or len(row) < 2:
        raise InputError(f"{name} must be one row (K,) with K ≥ 2, got shape {tuple(row.shape)}")
    if name == "logits":
        if bool((row.isnan() | (row == math.inf)).any()) or not bool(row.isfinite().any()):
            raise InputError(
                "logits must be finite or −inf and not all of them −inf, got a row that is not so"
            )
        return torch.log_softmax(row, -1)
    if not bool((row >= 0).all()):
        raise InputError(f"probs must not be negative or NaN, got {float(row[~(row >= 0)][0]):g}")
    if abs(float(row.sum()) - 1) > PRIOR_SUM_TOLERANCE:
        raise InputError(f"probs must sum to 1, got {float(row.sum()):g}")
    return row.log()
