"""What ε and K ask of a softmax: target, optimum and gap, and the ε that asks for a given one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from labelsmooth.checks import require_num_classes
from labelsmooth.conventions import Convention, convention_of
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.smoothing import EPS_ROUNDING
from labelsmooth.theory.numbers import in_range, log, ratio


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The two values of a smoothed row (or of the row of probabilities that fits it best)."""

    on_class: float
    on_other: float
    num_others: int  # the other classes that carry mass: K−1, or K−2 where one is the padding

    @property
    def mass(self) -> float:
        """M, the sum over the classes."""
        return self.on_class + self.num_others * self.on_other


def target(eps: float, num_classes: int, convention: str = "uniform") -> Levels:
    """The smoothed target q: its value on the label's class and on each other class.

    `uniform`: q_y = 1−ε+ε/K, q_k = ε/K. `others`: q_y = 1−ε, q_k = ε/(K−1). The rest as `ls.conventions()`
    writes them.

    Args:
        eps: ε in [0, 1], as the convention takes it.
        num_classes: K ≥ 2; at least 3 where one of them is the padding, which gets no mass.
        convention: "uniform", "others", or a name of `ls.conventions()`.

    Returns:
        `Levels`; their mass M is 1 but for coincheung and leaky.

    Raises:
        TypeError: `eps` or `num_classes` is not a number of its kind.
        ValueError: ε outside [0, 1], too few classes, or an unknown convention.

    Example:
        >>> target(0.1, 10)
        Levels(on_class=0.91, on_other=0.01, num_others=9)

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, §7 (`uniform`); He et al. 2019, Bag of
    Tricks for Image Classification, §5.2 (`others`).
    """
    record = convention_of(convention)
    _check_num_classes(num_classes, record)
    eps = in_range(eps, 0.0, "eps")
    return Levels(
        on_class=float(record.on_class(eps, num_classes)),
        on_other=float(record.on_other(eps, num_classes)),
        num_others=record.num_others(num_classes),
    )


def optimum(eps: float, num_classes: int, convention: str = "uniform") -> Levels:
    """The probabilities p that minimise the smoothed loss: its value on the class and on each other class.

    p = q/M. The padding, where there is one, gets probability 0, which finite logits only approach.

    Args, Raises: as `target`.

    Returns:
        `Levels` of mass 1. `on_class` is the confidence of a network that fits its training data perfectly.

    Example:
        >>> optimum(0.1, 10).on_class
        0.91
        >>> optimum(1.0, 4, "coincheung")  # all that is left of q is ε/K on each other class
        Levels(on_class=0.0, on_other=0.3333333333333333, num_others=3)

    Source: Gibbs' inequality: M·log Σ exp z − Σ q z has the gradient M·p − q.
    """
    levels = target(eps, num_classes, convention)
    return Levels(
        on_class=levels.on_class / levels.mass,
        on_other=levels.on_other / levels.mass,
        num_others=levels.num_others,
    )


def optimal_gap(eps: float, num_classes: int, convention: str = "uniform") -> float:
    """The logit gap z_y − z_k, in nats, at which the smoothed loss is smallest.

    log(q_y/q_k): log(1 + K(1−ε)/ε) for `uniform`, log((K−1)(1−ε)/ε) for `others`.

    Args, Raises: as `target`.

    Returns:
        A number; +∞ at ε = 0, for no finite gap fits a one-hot target; −∞ where the class itself gets
        nothing (`others` at ε = 1). Negative from ε = (K−1)/K on for `others`.

    Example:
        >>> [round(optimal_gap(0.1, k, "others"), 3) for k in (10, 100, 1000)]
        [4.394, 6.792, 9.104]
        >>> [round(optimal_gap(0.1, k), 3) for k in (10, 100, 1000)]
        [4.511, 6.804, 9.105]

    Source: He et al. 2019, Bag of Tricks for Image Classification, §5.2 and Fig. 4a.
    """
    levels = target(eps, num_classes, convention)
    return log(levels.on_class) - log(levels.on_other)


def relative_weight(eps: float, num_classes: int, convention: str = "uniform") -> float:
    """The weight of H(u, p) relative to that of H(q, p) in the smoothed loss, a pure number.

    ε/(1−ε) with the ε of `uniform` that gives the same target.

    Args:
        eps, num_classes, convention: as `target`.

    Returns:
        A number ≥ 0; +∞ where the target is uniform and the label has no say.

    Raises:
        TypeError, ValueError: as `convert` to "uniform".

    Example:
        >>> round(relative_weight(0.1, 1000), 4)
        0.1111

    Source: Szegedy et al. 2016, §7.
    """
    eps = convert(eps, num_classes, convention, "uniform")
    return ratio(eps, 1 - eps)


def convert(eps: float, num_classes: int, source: str, to: str) -> float:
    """The ε with which the convention `to` gives the target that `source` gives at `eps`.

    From `others` to `uniform` it is ε·K/(K−1), back ε·(K−1)/K; from `uniform` to classy_vision ε/(1−ε).

    Args:
        eps, num_classes: as `target`.
        source: a convention, as in `target`.
        to: a convention, as in `target`.

    Returns:
        ε in [0, 1].

    Raises:
        TypeError, ValueError: as `target`; or no ε of `to` gives that target, because its mass is not 1, one
            of the two keeps a padding class free, or it would need an ε above 1.

    Example:
        >>> round(convert(0.1, 10, "fairseq", "torch"), 4)
        0.1111

    Source: `ls.conventions()`; equal targets have equal losses and gradients.
    """
    levels = target(eps, num_classes, source)
    record, other = convention_of(source), convention_of(to)
    _check_num_classes(num_classes, other)
    if eps == 0:
        return 0.0
    if record.same_as == other.same_as:
        return float(eps)
    for each, name in ((record, source), (other, to)):
        if each.needs_pad or each.mass != "1":
            kind = "keeps a padding class free" if each.needs_pad else f"has targets that sum to {each.mass}"
            raise InputError(f"no eps of {to} gives the target of {source} at {eps:g}, since {name} {kind}")
    # both sum to 1 and spread evenly, so that equal values on the other classes are equal targets
    converted = other.eps_for_miss(levels.num_others * levels.on_other, num_classes)
    return _at_most_one(converted, f"{source} at {eps:g}", to, num_classes)


def eps_for_confidence(confidence: float, num_classes: int, convention: str = "uniform") -> float:
    """The ε at whose optimum the label's class has the wanted probability.

    The inverse of `optimum(ε, K).on_class`: (1−confidence)·K/(K−1) for `uniform`, 1−confidence for `others`.

    Args:
        confidence: the wanted p_y in [1/K, 1].
        num_classes: K, as in `target`.
        convention: as in `target`.

    Returns:
        ε in [0, 1].

    Raises:
        TypeError, ValueError: as `target`; a confidence outside [1/K, 1], or below what the convention
            reaches at ε = 1.

    Example:
        >>> round(eps_for_confidence(0.95, 10), 4)
        0.0556

    Source: `optimum`.
    """
    record = convention_of(convention)
    _check_num_classes(num_classes, record)
    confidence = in_range(confidence, 1 / num_classes, "confidence")
    eps = record.eps_for_miss(1 - confidence, num_classes)
    return _at_most_one(eps, f"a confidence of {confidence:g}", convention, num_classes)


def eps_for_gap(gap: float, num_classes: int, convention: str = "uniform") -> float:
    """The ε at whose optimum the label's logit lies the gap above the others, the inverse of `optimal_gap`.

    K/(K−1 + e^gap) for `uniform`, (K−1)/(K−1 + e^gap) for `others`.

    Args:
        gap: z_y − z_k in nats, ≥ 0 or +∞.
        num_classes: K, as in `target`.
        convention: as in `target`.

    Returns:
        ε in [0, 1].

    Raises:
        TypeError, ValueError: as `target`; a negative gap, or one below what the convention reaches at ε = 1.

    Example:
        >>> round(eps_for_gap(optimal_gap(0.1, 1000), 1000), 4)
        0.1

    Source: `optimal_gap`.
    """
    record = convention_of(convention)
    _check_num_classes(num_classes, record)
    if isinstance(gap, bool) or not isinstance(gap, Real):
        raise InputTypeError(f"gap must be a number, got {type(gap).__name__}")
    if not gap >= 0:
        raise InputError(f"gap must be at least 0, got {gap}")
    others = record.num_others(num_classes) * math.exp(-gap)
    eps = record.eps_for_miss(others / (1 + others), num_classes)
    return _at_most_one(eps, f"a gap of {gap:g}", convention, num_classes)


def _check_num_classes(num_classes: int, record: Convention) -> None:
    require_num_classes(num_classes)
    if record.needs_pad and num_classes < 3:
        raise InputError(
            f"there must be at least 3 classes in {record.name}, one of them padding, got {num_classes}"
        )


def _at_most_one(eps: float, wanted: str, convention: str, num_classes: int) -> float:
    if eps > 1 + EPS_ROUNDING:
        raise InputError(
            f"no eps of {convention} gives {wanted} with {num_classes} classes, it would have to be {eps:.6g}"
        )
    return min(eps, 1.0)
