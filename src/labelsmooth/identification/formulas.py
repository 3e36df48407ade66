"""Which formula a measured target follows: that of a published convention, or a known mistake."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from labelsmooth.conventions import Formula, binary_conventions, conventions


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A formula of the target, with one unknown ε.

    Attributes:
        name: of the convention, or of the mistake.
        on_class, on_other: the target on the label's class and on each other, of (ε, K).
        eps: ε from q, the share of the class, r, the ratio of the shares of others to it, and K.
        mistake: what is wrong with it, "" of a published one.
        needs_pad: one class keeps no share, and the others share the rest.
        by_label: the target of K sigmoids, which need not sum to 1.
    """

    name: str
    on_class: Formula
    on_other: Formula
    eps: Formula
    mistake: str = ""
    needs_pad: bool = False
    by_label: bool = False

    def shares(self, eps: float, num_classes: int) -> tuple[float, float, float]:
        """The target on the class, on each other class, and its sum; 1 in place of that for sigmoids."""
        on, other = self.on_class(eps, num_classes), self.on_other(eps, num_classes)
        if self.by_label:
            return on, other, 1.0
        return on, other, on + (num_classes - (2 if self.needs_pad else 1)) * other


def _mistake(
    name: str, mistake: str, on_class: str, on_other: str, eps: str, needs_pad: bool = False
) -> Candidate:
    return Candidate(
        name=name,
        on_class=Formula(on_class),
        on_other=Formula(on_other),
        eps=Formula(eps, "q, r, K"),
        needs_pad=needs_pad,
        mistake=mistake,
    )


MISTAKES = (
    _mistake(
        "sum over classes",
        "the smoothing term is a sum over the classes, not their mean: ε is not divided by K",
        "1",
        "ε",
        "r",
    ),
    _mistake("1/K forgotten", "each other class gets ε itself, not its share of it", "1-ε", "ε", "r/(1+r)"),
    _mistake(
        "1/K forgotten",
        "each class gets ε itself, on top of a label that keeps its whole share",
        "1+ε",
        "ε",
        "r/(1-r)",
    ),
    _mistake(
        "divided by K twice",
        "the smoothing mass is divided by K twice",
        "1-ε+ε/K**2",
        "ε/K**2",
        "r/(1/K**2+r*(1-1/K**2))",
    ),
    _mistake(
        "mass off",
        "the label's class also gets ε/K, but the others share ε among K−1: the target sums to 1+ε/K",
        "1-ε+ε/K",
        "ε/(K-1)",
        "r/(1/(K-1)+r*(1-1/K))",
    ),
    _mistake(
        "mass off",
        "ε is shared among K−2 classes, but K−1 get it: no padding class is left out",
        "1-ε",
        "ε/(K-2)",
        "r*(K-2)/(1+r*(K-2))",
    ),
    _mistake("mass off", "ε is shared among K+1 classes", "1-ε", "ε/(K+1)", "r*(K+1)/(1+r*(K+1))"),
    _mistake(
        "mass off",
        "the hard term is not multiplied by 1−ε: the target sums to 1+ε",
        "1+ε/K",
        "ε/K",
        "r*K/(1-r)",
    ),
    _mistake(
        "mass off", "the label keeps its whole share: the target sums to 1+ε", "1", "ε/(K-1)", "r*(K-1)"
    ),
    _mistake(
        "mass off",
        "ε is shared among K−1 classes, one of which is padding and gets nothing",
        "1-ε",
        "ε/(K-1)",
        "r*(K-1)/(1+r*(K-1))",
        needs_pad=True,
    ),
    _mistake(
        "mass off",
        "the padding class's share of ε is lost",
        "1-ε+ε/K",
        "ε/K",
        "r*K/(1+r*(K-1))",
        needs_pad=True,
    ),
    _mistake(
        "binary formula",
        "the formula of one sigmoid is used for each of K classes",
        "1-ε/2",
        "ε/2",
        "2*r/(1+r)",
    ),
    _mistake(
        "smoothed twice",
        "the target is smoothed twice, each time over the other classes",
        "(1-ε)**2+ε**2/(K-1)",
        "(2*ε-ε**2*K/(K-1))/(K-1)",
        "(1-(1-(K-1)*r/(1+(K-1)*r)*K/(K-1))**0.5)*(K-1)/K",
    ),
    _mistake(
        "smoothed twice",
        "the target is smoothed twice, over all classes and over the others",
        "(1-ε)**2+ε/K",
        "(1-(1-ε)**2-ε/K)/(K-1)",
        "((2-1/K)-((2-1/K)**2-4*(K-1)*r/(1+(K-1)*r))**0.5)/2",
    ),
)


def softmax_candidates() -> Iterator[Candidate]:
    """The published conventions, each once, then the mistakes."""
    for name, record in conventions().items():
        if record.same_as == name:
            others = "K-2" if record.needs_pad else "K-1"
            miss = f"({others})*r/(1+({others})*r)"
            yield Candidate(
                name=name,
                on_class=record.on_class,
                on_other=record.on_other,
                eps=Formula(record.eps.replace("m", f"({miss})"), "q, r, K"),
                needs_pad=record.needs_pad,
            )
    yield from MISTAKES


# ε from r = off/on, by the names of `binary_conventions`
_BINARY_EPS = {"half": "2*r/(1+r)", "full": "r/(1+r)", "timm": "r*K/(1+r*(K-1))"}
BINARY_MISTAKES = (
    _mistake("mass off", "labels that hold lose ε, others gain ε/2", "1-ε", "ε/2", "2*r/(1+2*r)"),
    _mistake("mass off", "labels that hold lose ε, others gain nothing", "1-ε", "0*ε", "1-q"),
    _mistake("mass off", "labels that hold lose nothing, others gain ε", "1", "ε", "r"),
    _mistake(
        "others",
        "the others' formula of a softmax is used for sigmoids",
        "1-ε",
        "ε/(K-1)",
        "r*(K-1)/(1+r*(K-1))",
    ),
)


def sigmoid_candidates() -> Iterator[Candidate]:
    """The published conventions of sigmoids, each once, then the mistakes."""
    for name, record in binary_conventions().items():
        if record.same_as == name:
            yield Candidate(
                name=name,
                on_class=record.on_label,
                on_other=record.off_label,
                eps=Formula(_BINARY_EPS[name], "q, r, K"),
                by_label=True,
            )
    for mistake in BINARY_MISTAKES:
        yield replace(mistake, by_label=True)


@dataclass(frozen=True)
class Shares:
    """A target as measured, but for one factor: on the label's class, on each other class, and that factor.

    Attributes:
        on_class, on_other: the gradient's parts, divided by `size`.
        size: A, by number of rows.
    """

    on_class: float
    on_other: float
    size: Mapping[int, float]


@dataclass(frozen=True)
class Fit:
    """A formula that agrees with all that was measured.

    Attributes:
        candidate: the formula.
        eps: its ε.
        law: what the losses of the rows are divided by, a key of `LAWS`; "" where none agrees.
        factor: on top of that.
        misfit: the largest error of the shares; of those of other classes K/2 times it.
        also: other published names with their ε, of the same target.
    """

    candidate: Candidate
    eps: float
    law: str
    factor: float
    misfit: float
    also: tuple[tuple[str, float], ...] = ()


# Of N rows and K classes. The first that agrees is taken.
LAWS = {
    "sum": Formula("1", "N, K"),
    "mean": Formula("1/N", "N, K"),
    "mean over rows and classes": Formula("1/(N*K)", "N, K"),
    "mean over classes": Formula("1/K", "N, K"),
}


def fit(
    shares: Mapping[int, Shares],
    candidates: Iterable[Candidate],
    pad: bool,
    tolerance: float,
    declared: float | None,
) -> Fit | None:
    """Find the formula of the shares by K; None where there is none.

    Args:
        shares: what was measured, by K.
        candidates: in order of preference.
        pad: a class is left out of the smoothing.
        tolerance: of the mean of many numbers.
        declared: the ε that the loss is said to have.
    """
    fits = [
        found
        for candidate in candidates
        if candidate.needs_pad == pad and (found := _fit_one(shares, candidate, tolerance)) is not None
    ]

    def rank(found: Fit) -> tuple[bool, bool, bool, bool, bool, int]:
        return (
            not found.law,
            abs(found.factor - 1) > max(2 * tolerance, 1e-5),
            found.misfit > tolerance / 3,
            declared is not None and abs(found.eps - declared) > max(1e-4, tolerance),
            bool(found.candidate.mistake),
            digits(found.eps),
        )

    if not fits:
        return None
    best = min(fits, key=rank)
    also = tuple(
        (other.candidate.name, other.eps)
        for other in fits
        if other is not best
        and not other.candidate.mistake
        and rank(other)[:2] == rank(best)[:2]
        and _alike(other, best, shares)
    )
    return replace(best, also=also)


def digits(eps: float) -> int:
    """Count the digits that an ε needs."""
    return len(f"{eps:.6f}".strip("-0.").replace(".", ""))


def _alike(a: Fit, b: Fit, num_classes: Iterable[int]) -> bool:
    """Whether two fits have one target with each K, but for what rounding ε does."""
    pairs = [
        pair
        for k in num_classes
        for pair in zip(a.candidate.shares(a.eps, k), b.candidate.shares(b.eps, k), strict=True)
    ]
    return all(abs(x - y) < 5e-4 for x, y in pairs)


def _fit_one(shares: Mapping[int, Shares], candidate: Candidate, tolerance: float) -> Fit | None:
    found = []
    for k, share in shares.items():
        try:
            candidate.shares(0.5, k)  # not of every K
            eps = candidate.eps(share.on_class, share.on_other / share.on_class, k)
        except ZeroDivisionError:
            return None
        if isinstance(eps, complex) or not -2 < eps <= 1:
            return None
        found.append(float(eps))
    eps, misfit = _roundest(found, candidate, shares, tolerance)
    if misfit > tolerance:
        return None
    sizes = [
        (rows, k, size / candidate.shares(eps, k)[2])
        for k, share in shares.items()
        for rows, size in share.size.items()
    ]
    law, factor = law_of(sizes, tolerance)
    return Fit(candidate, eps, law, factor, misfit)


def _roundest(
    found: Sequence[float], candidate: Candidate, shares: Mapping[int, Shares], tolerance: float
) -> tuple[float, float]:
    """The ε with the fewest digits of those that fit about as well as any, and its misfit."""
    most = min(7, max(3, 1 - math.ceil(math.log10(tolerance))))
    tried = {round(eps, places) + 0.0 for eps in found for places in (*range(1, 4), most)}
    misfits = {eps: _misfit(eps, candidate, shares) for eps in tried}
    enough = max(2 * min(misfits.values()), tolerance / 10)
    eps = min((eps for eps in tried if misfits[eps] <= enough), key=lambda eps: (digits(eps), misfits[eps]))
    return eps, misfits[eps]


def _misfit(eps: float, candidate: Candidate, shares: Mapping[int, Shares]) -> float:
    """The largest error of a share, where K/2 times that of other classes counts."""
    errors = [0.0]
    for k, share in shares.items():
        try:
            on, other, mass = candidate.shares(eps, k)
            errors += [abs(on / mass - share.on_class), abs(other / mass - share.on_other) * k / 2]
        except ZeroDivisionError:
            return math.inf
    return max(errors)


def law_of(sizes: Sequence[tuple[int, int, float]], tolerance: float) -> tuple[str, float]:
    """Find the law that leaves one factor for all sizes (N, K, A), and that factor; "" where none does."""
    close = max(2 * tolerance, 1e-5)
    for name, law in LAWS.items():
        factors = [size / law(rows, k) for rows, k, size in sizes]
        factor = sorted(factors)[len(factors) // 2]
        if all(math.isclose(each, factor, rel_tol=close) for each in factors):
            rounded = round(factor)
            return name, float(rounded) if math.isclose(factor, rounded, rel_tol=close) else factor
    return "", math.nan
