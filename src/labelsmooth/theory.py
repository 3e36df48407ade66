"""Closed forms: what a given ε and K ask of the logits, as plain numbers and without any data.

Everything follows from one row q of a convention, which takes two values: `on_class` on the label's class and
`on_other` on each other class that carries mass. Logarithms are natural, so losses, gaps and entropies are in
nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.checks import require_num_classes
from labelsmooth.conventions import Convention, convention_of
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.smoothing import EPS_ROUNDING, PRIOR_SUM_TOLERANCE, Smoothing

_NUMBERS_AT_A_TIME = 1 << 20  # of targets in float64, 8 MB


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


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """The smoothed loss of one row as its two parts, all in nats but the weight."""

    loss: float  # H(q′, p) = (1−ε)·hard + ε·towards_uniform
    hard: float  # H(q, p) = −log p_y, the loss without smoothing
    towards_uniform: float  # H(u, p) = kl_uniform + entropy_uniform
    kl_uniform: float  # KL(u‖p), the only part of H(u, p) that training can change
    entropy_uniform: float  # H(u) = log K
    relative_weight: float  # ε/(1−ε), of H(u, p) beside H(q, p)


@dataclass(frozen=True, kw_only=True)
class GapCurves:
    """The optimal logit gap, in nats, as a function of ε for several numbers of classes."""

    convention: str
    num_classes: NDArray[np.int64]  # (C,)
    eps: NDArray[np.float64]  # (E,)
    gap: NDArray[np.float64]  # (C, E)
    marked_eps: float
    marked_gap: NDArray[np.float64]  # (C,), ±∞ where no finite gap is optimal


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
    eps = _in_range(eps, 0.0, "eps")
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
    return _log(levels.on_class) - _log(levels.on_other)


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
    log_confidence = math.log1p(-miss) if miss < 0.5 else _log(levels.on_class / levels.mass)
    return _times(-levels.on_class, log_confidence) + _times(-spread, _log(levels.on_other / levels.mass))


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
    return _ratio(eps, 1 - eps)


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
    if isinstance(label, bool) or not isinstance(label, int):
        raise InputTypeError(f"label must be an int, got {type(label).__name__}")
    if not 0 <= label < num_classes:
        raise InputError(f"label must lie in 0..{num_classes - 1}, got {label}")
    eps = convert(eps, num_classes, convention, "uniform")
    hard = -float(log_probs[label])
    towards_uniform = -float(log_probs.mean())
    entropy_uniform = math.log(num_classes)
    return Decomposition(
        loss=_times(1 - eps, hard) + _times(eps, towards_uniform),
        hard=hard,
        towards_uniform=towards_uniform,
        kl_uniform=max(towards_uniform - entropy_uniform, 0.0),  # rounding may take it below
        entropy_uniform=entropy_uniform,
        relative_weight=_ratio(eps, 1 - eps),
    )


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
    confidence = _in_range(confidence, 1 / num_classes, "confidence")
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


def _check_num_classes(num_classes: int, record: Convention) -> None:
    require_num_classes(num_classes)
    if record.needs_pad and num_classes < 3:
        raise InputError(
            f"there must be at least 3 classes in {record.name}, one of them padding, got {num_classes}"
        )


def _in_range(value: float, least: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputTypeError(f"{name} must be a number, got {type(value).__name__}")
    if not least <= value <= 1:
        raise InputError(f"{name} must lie in [{least:g}, 1], got {value}")
    return float(value)


def _at_most_one(eps: float, wanted: str, convention: str, num_classes: int) -> float:
    if eps > 1 + EPS_ROUNDING:
        raise InputError(
            f"no eps of {convention} gives {wanted} with {num_classes} classes, it would have to be {eps:.6g}"
        )
    return min(eps, 1.0)


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


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _times(weight: float, x: float) -> float:
    """weight·x, with 0·∞ = 0."""
    return weight * x if weight != 0 else 0.0


def _ratio(x: float, y: float) -> float:
    """x/y, +∞ where y is not positive."""
    return x / y if y > 0 else math.inf
