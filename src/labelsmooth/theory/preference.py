"""What ε asks of the margin between two answers of which one was preferred."""

from __future__ import annotations

import math

from labelsmooth.checks import require_positive
from labelsmooth.conventions import PreferenceKind, require_preference_kind
from labelsmooth.errors import InputError
from labelsmooth.theory.numbers import in_range, log, times


def preference_optimum(eps: float, beta: float = 0.1, kind: PreferenceKind = "conservative") -> float:
    """The margin h at which `ls.preference_loss` of a pair is smallest.

    log((1−ε)/ε)/β for the conservative loss, at which σ(βh) = 1−ε. The robust loss of a pair falls without
    end as h grows, as it is the conservative one at −ε/(1−2ε): its optimum is finite only over pairs of both
    orders.

    Args:
        eps: ε in [0, 1], of the robust loss in [0, ½).
        beta: β > 0.
        kind: "conservative" or "robust".

    Returns:
        A number in the units of the margin; +∞ at ε = 0 and for the robust loss, −∞ at ε = 1.

    Raises:
        TypeError, ValueError: ε or β out of range, or an unknown kind.

    Example:
        >>> round(preference_optimum(0.1), 3)
        21.972

    Source: Mitchell 2023, "A note on DPO with noisy preferences"; Chowdhury et al. 2024, arXiv:2403.00409.
    """
    eps = _checked(eps, kind)
    require_positive(beta, "beta")
    return math.inf if kind == "robust" else (log(1 - eps) - log(eps)) / beta


def preference_floor(eps: float, kind: PreferenceKind = "conservative") -> float:
    """The floor of `ls.preference_loss` of a pair, in nats: no margin makes it smaller.

    −(1−ε)·log(1−ε) − ε·log ε for the conservative loss; the robust one has none but at ε = 0.

    Args, Raises: as `preference_optimum`.

    Returns:
        A number; −∞ for the robust loss at ε > 0.

    Example:
        >>> round(preference_floor(0.1), 4)
        0.3251

    Source: `preference_optimum`.
    """
    eps = _checked(eps, kind)
    if kind == "robust":
        return 0.0 if eps == 0 else -math.inf
    return 0.0 - times(eps, log(eps)) - times(1 - eps, log(1 - eps))


def _checked(eps: float, kind: PreferenceKind) -> float:
    require_preference_kind(kind)
    eps = in_range(eps, 0.0, "eps")
    if kind == "robust" and eps >= 0.5:
        raise InputError(f"eps of the robust loss must be below 0.5, got {eps:g}")
    return eps
