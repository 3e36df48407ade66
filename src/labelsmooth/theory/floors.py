"""What no logits make smaller: the floors of smoothed losses, and of the perplexities made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.checks import require_num_classes
from labelsmooth.errors import InputError
from labelsmooth.smoothing import Smoothing
from labelsmooth.theory.numbers import log, times
from labelsmooth.theory.softmax import optimum, target

_NUMBERS_AT_A_TIME = 1 << 20  # of targets in float64, 8 MB


@overload
def entropy_floor(eps: float, num_classes: int, convention: str = ...) -> float: ...
@overload
def entropy_floor(eps: Smoothing, num_classes: int) -> NDArray[np.float64]: ...
def entropy_floor(
    eps: float | Smoothing, num_classes: int, convention: str = "uniform"
) -> float | NDArray[np.float64]:
    """The floor of the smoothed loss of one row, in nats: no logits make it smaller.

    H(q) = −Σ q log q where q sums to 1, else M·H(q/M) = −Σ q log(q/M). Subtract it from the loss for the
    KL forms of espnet, opennmt, joeynmt and annotated_transformer, and for the normalising constant of
    tensor2tensor, t5x and flax; those write log(q + 1e-20), which changes the constant by less than K·1e-20.

    Args:
        eps: ε as in `target`, or any `Smoothing`, whose floor depends on the label.
        num_classes: K, as in `target`.
        convention: as in `target`; not beside a `Smoothing`.

    Returns:
        A number ≥ 0; 0 at ε = 0. Of a `Smoothing` (K,), one for each label.

    Raises:
        TypeError, ValueError: as `target`; or a `Smoothing` with negative targets, whose loss has no floor,
            with one ε for each row, or beside a convention.

    Cost: of a `Smoothing` a pass over its K×K targets, 8 MB of them at a time.

    Example:
        >>> round(entropy_floor(0.1, 1000), 3)
        1.015
        >>> entropy_floor(1.0, 2) == math.log(2)
        True
        >>> from labelsmooth import prior
        >>> entropy_floor(prior(0.1, torch.tensor([0.8, 0.1, 0.1])), 3).round(3)
        array([0.112, 0.334, 0.334])

    Source: Szegedy et al. 2016, §7: the cross-entropy H(q, p) = KL(q‖p) + H(q).
    """
    if isinstance(eps, Smoothing):
        floors = [_entropies(q).numpy() for _, q in _target_rows(eps, num_classes, convention)]
        return np.concatenate(floors)
    levels = target(eps, num_classes, convention)
    spread = levels.num_others * levels.on_other
    miss = spread / levels.mass
    # a confidence close to 1 is known by what it misses
    log_confidence = math.log1p(-miss) if miss < 0.5 else log(levels.on_class / levels.mass)
    return times(-levels.on_class, log_confidence) + times(-spread, log(levels.on_other / levels.mass))


@overload
def perplexity_floor(eps: float, num_classes: int, convention: str = ...) -> float: ...
@overload
def perplexity_floor(eps: Smoothing, num_classes: int) -> NDArray[np.float64]: ...
def perplexity_floor(
    eps: float | Smoothing, num_classes: int, convention: str = "uniform"
) -> float | NDArray[np.float64]:
    """The smallest exp(loss) that a smoothed language model can report, in equally likely choices per token.

    exp(H(q)); a model whose reported perplexity is lower was not measured with the smoothed loss.

    Args, Raises, Cost: as `entropy_floor`; K is the size of the vocabulary.

    Returns:
        A number ≥ 1; 1 at ε = 0. Of a `Smoothing` (K,), one for each label.

    Example:
        >>> round(perplexity_floor(0.1, 32000), 3)
        3.906

    Source: `entropy_floor`.
    """
    if isinstance(eps, Smoothing):
        _check_no_convention(convention)
        return np.exp(entropy_floor(eps, num_classes))
    return math.exp(entropy_floor(eps, num_classes, convention))


@overload
def label_perplexity(eps: float, num_classes: int, convention: str = ...) -> float: ...
@overload
def label_perplexity(eps: Smoothing, num_classes: int) -> NDArray[np.float64]: ...
def label_perplexity(
    eps: float | Smoothing, num_classes: int, convention: str = "uniform"
) -> float | NDArray[np.float64]:
    """The perplexity of the true labels at the optimum, in equally likely choices per label.

    1/p_y: what exp of the unsmoothed loss comes to for a model that fits the smoothed targets exactly.

    Args, Raises, Cost: as `entropy_floor`.

    Returns:
        A number ≥ 1; +∞ where the optimum gives the class nothing. Of a `Smoothing` (K,), one for each label.

    Example:
        >>> round(label_perplexity(0.1, 32000), 4)
        1.1111

    Source: `optimum`.
    """
    if isinstance(eps, Smoothing):
        rows = [
            (q.sum(-1) / q.gather(-1, label.unsqueeze(-1)).squeeze(-1)).numpy()
            for label, q in _target_rows(eps, num_classes, convention)
        ]
        return np.concatenate(rows)
    confidence = optimum(eps, num_classes, convention).on_class
    return 1 / confidence if confidence > 0 else math.inf


def _target_rows(
    smoothing: Smoothing, num_classes: int, convention: str
) -> Iterator[tuple[Tensor, Tensor]]:  # (B,), (B, K)
    """Yield all labels and their smoothed targets in float64, a few at a time."""
    _check_no_convention(convention)
    require_num_classes(num_classes)
    for labels in torch.split(torch.arange(num_classes), max(1, _NUMBERS_AT_A_TIME // num_classes)):
        q = smoothing(labels, num_classes).dense(num_classes, torch.float64).detach()
        if bool((q < 0).any()):
            raise InputError(f"{smoothing} has negative targets, whose loss has no floor and no optimum")
        yield labels, q


def _entropies(q: Tensor) -> Tensor:  # (B, K) -> (B,)
    """Compute −Σ q log(q/M) of rows of mass M."""
    mass = q.sum(-1)
    entropies: Tensor = torch.special.entr(q).sum(-1) + torch.xlogy(mass, mass)
    return entropies


def _check_no_convention(convention: str) -> None:
    if convention != "uniform":
        raise InputError(f"a Smoothing needs no convention, got {convention!r} as well")
