"""What a network is trained on: labels smoothed in some way, or a loss that penalises confidence beside them.

An objective is named by its kind and its numbers, `uniform:0.1` or `margin_smoothing:0.1:10`, with
`+mixup:0.2` behind it where inputs are mixed too.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from labelsmooth.errors import InputError
from labelsmooth.losses import confidence_penalty, cross_entropy, margin_smoothing, max_suppression
from labelsmooth.mixture import Mixture
from labelsmooth.smoothing import Smoothing, class_conditional, mixup, others, prior, uniform, unigram
from labelsmooth.study.placement import Placement


@dataclass(frozen=True)
class _Number:
    """A number of an objective; one with a default may be left out."""

    symbol: str
    range: str
    allowed: Callable[[float], bool]
    default: float | None = None


@dataclass(frozen=True)
class _Kind:
    short: str  # in tables
    phrase: str  # behind "train with"
    numbers: tuple[_Number, ...] = ()


def _positive(symbol: str) -> _Number:
    return _Number(symbol, "be above 0 and finite", lambda x: 0 < x < math.inf)


_EPS = _Number("ε", "lie in (0, 1]", lambda x: 0 < x <= 1)
_ALPHA = _positive("α")
_KINDS = {
    "hard": _Kind("hard", "hard labels"),
    "uniform": _Kind("smoothed", "label smoothing", (_EPS,)),
    "others": _Kind("over the others", "label smoothing over the other classes", (_EPS,)),
    "unigram": _Kind("unigram", "smoothing towards the class frequencies", (_EPS,)),
    "class_conditional": _Kind("class-conditional", "class-conditional (online) smoothing", (_EPS,)),
    "generalised": _Kind(
        "negative",
        "negative (generalised) smoothing",
        (
            _Number("ε", "be below 0 and finite", lambda x: -math.inf < x < 0),
            _Number("warm-up", "lie in [0, 1)", lambda x: 0 <= x < 1, default=0.5),
        ),
    ),
    "confidence_penalty": _Kind("confidence penalty", "a confidence penalty", (_positive("β"),)),
    "max_suppression": _Kind("max-suppression", "max-suppression", (_positive("ε"),)),
    "margin_smoothing": _Kind(
        "margin-based",
        "margin-based smoothing",
        (
            _positive("λ"),
            _Number("margin", "be at least 0 and finite", lambda x: 0 <= x < math.inf, default=10.0),
        ),
    ),
}
OBJECTIVES = (*_KINDS, "mixup")


@dataclass(frozen=True)
class Objective:
    """One way to train; `str` gives the text that `parse` reads."""

    kind: str
    numbers: tuple[float, ...] = ()
    mixup: float = 0.0  # α of the Beta(α, α) that mixes inputs; 0: they are not mixed

    @classmethod
    def parse(cls, text: str) -> Objective:
        """The objective of a name: a kind with its numbers, `mixup:α`, or both joined by a +.

        - `hard`; `uniform:ε`, `others:ε`, `unigram:ε` as in `labelsmooth`, the last with the frequencies of
          the training labels.
        - `class_conditional:ε`: online smoothing, towards the mean prediction of the epoch before for rows of
          the same class that were right; uniform in the first epoch, and for a class with no such row.
        - `generalised:ε:w` with ε < 0: `uniform(ε, signed=True)` after hard labels for the part w of the
          training.
        - `confidence_penalty:β`, `max_suppression:ε`, `margin_smoothing:λ:margin` as in `labelsmooth`.
        - `mixup:α`: inputs and targets of a batch mixed with those of a permutation of it, the share of each
          batch drawn from Beta(α, α).

        Raises:
            ValueError: the name says nothing of that kind, or a number is out of its range.

        Source: Zhang et al. 2021, Delving Deep into Label Smoothing; Wei et al. 2022, To Smooth or Not? When
        Label Smoothing Meets Noisy Labels; Zhang et al. 2018, mixup.
        """
        first, plus, second = text.partition("+")
        if first.partition(":")[0] == "mixup" and not plus:
            first, plus, second = "hard", "+", first
        kind, numbers = _named(first, text)
        if kind == "mixup":
            raise InputError(
                f"mixup must come last in an objective, as in uniform:0.1+mixup:0.2, got {text!r}"
            )
        if kind not in _KINDS:
            nearest = difflib.get_close_matches(kind, OBJECTIVES, n=1, cutoff=0.8)
            meant = f", did you mean {nearest[0]}?" if nearest else ""
            raise InputError(f"an objective must be one of {', '.join(OBJECTIVES)}, got {text!r}{meant}")
        values = _filled(kind, _KINDS[kind].numbers, numbers, text)
        if not plus:
            return cls(kind, values)
        other, alpha = _named(second, text)
        if other != "mixup":
            raise InputError(f"only mixup can stand behind the + of an objective, got {text!r}")
        if kind == "class_conditional":
            raise InputError(f"mixup takes no class-conditional smoothing, got {text!r}")
        return cls(kind, values, *_filled(other, (_ALPHA,), alpha, text))

    @classmethod
    def uniform(cls, eps: float) -> Objective:
        """Uniform smoothing, which is hard for ε = 0."""
        return cls("uniform", (eps,)) if eps else cls("hard")

    def __str__(self) -> str:
        parts = [":".join([self.kind, *map(_digits, self.numbers)])]
        if self.mixup:
            parts.append(f"mixup:{_digits(self.mixup)}")
        return "+".join(parts[1:] if self.mixup and self.kind == "hard" else parts)

    @property
    def eps(self) -> float | None:
        """The ε of uniform smoothing, 0 for hard labels; None for another objective."""
        if self.mixup or self.kind not in ("hard", "uniform"):
            return None
        return self.numbers[0] if self.numbers else 0.0

    @property
    def name(self) -> str:
        """For tables: "smoothed ε = 0.1"."""
        return self._worded(_KINDS[self.kind].short, " ")

    @property
    def phrase(self) -> str:
        """For sentences, behind "train with": "label smoothing, ε = 0.1"."""
        return self._worded(_KINDS[self.kind].phrase, ", ")

    def _worded(self, words: str, joint: str) -> str:
        numbers = zip(_KINDS[self.kind].numbers, self.numbers, strict=True)
        shown = ", ".join(
            f"{number.symbol} = {_digits(value).replace('-', '−')}" for number, value in numbers
        )
        mixed = f"mixup α = {_digits(self.mixup)}" if self.mixup else ""
        return " + ".join(part for part in (joint.join(filter(None, [words, shown])), mixed) if part)


class Criterion:
    """The loss of one training by an objective, with what that gathers on the way.

    Args:
        objective: the objective.
        labels: (N,) of all training rows.
        num_classes: K.
        steps: of the whole training.
        seed: of what mixup draws.
        placement: that trains.
    """

    def __init__(
        self,
        objective: Objective,
        labels: Tensor,
        num_classes: int,
        *,
        steps: int,
        seed: int,
        placement: Placement,
    ) -> None:
        self._objective = objective
        self._placement = placement
        self._num_classes = num_classes
        self._smoothing = _smoothing(objective, labels, num_classes)
        self._hard_steps = round(objective.numbers[1] * steps) if objective.kind == "generalised" else 0
        self._step = 0
        self._right = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        self._shares = np.random.default_rng(seed)
        self._partners = torch.Generator().manual_seed(seed)

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,  # (B, ...)
        labels: Tensor,  # (B,)
    ) -> tuple[Tensor, Tensor]:  # 0-d; (b, K)
        """The mean loss of a batch and the logits; of mixed images where the objective mixes.

        Of several processes, the logits are those of the b rows of this one, and the mean over the processes
        of their losses is that of the batch.
        """
        portion = self._placement.portion
        smoothing = self._smoothing if self._step >= self._hard_steps else 0.0
        if self._objective.mixup:
            share = float(self._shares.beta(self._objective.mixup, self._objective.mixup))
            partner = torch.randperm(len(labels), generator=self._partners)
            images = share * images + (1 - share) * images[partner]
            both = portion(labels), portion(labels[partner])
            target: Tensor | Mixture = mixup(*both, share, smoothing, self._num_classes)
            smoothing = 0.0
        else:
            target = portion(labels)
        logits: Tensor = network(portion(images))
        self._step += 1
        if self._objective.kind == "class_conditional":
            mine, probs = portion(labels).cpu(), logits.detach().cpu().double().softmax(-1)
            right = probs.argmax(-1) == mine
            self._right.index_add_(0, mine[right], probs[right])
        return self._loss(logits, target, smoothing, len(labels) / self._placement.processes), logits

    def epoch_done(self) -> None:
        """Take the predictions of this epoch as what class-conditional smoothing aims at in the next."""
        if self._objective.kind != "class_conditional":
            return
        all_right = self._placement.total(self._right)
        seen = all_right.sum(-1, keepdim=True)
        table = torch.where(seen > 0, all_right / seen, 1 / self._num_classes)
        self._smoothing = class_conditional(self._objective.numbers[0], table)
        self._right.zero_()

    def _loss(
        self, logits: Tensor, target: Tensor | Mixture, smoothing: Smoothing | float, rows: float
    ) -> Tensor:
        """The sum over the rows that are here, divided by `rows`."""
        match self._objective:
            case Objective("confidence_penalty", (beta,)):
                return confidence_penalty(logits, target, beta=beta, denominator=rows)
            case Objective("max_suppression", (eps,)):
                return max_suppression(logits, target, eps=eps, denominator=rows)
            case Objective("margin_smoothing", (lam, margin)):
                return margin_smoothing(logits, target, lam=lam, margin=margin, denominator=rows)
        return cross_entropy(logits, target, label_smoothing=smoothing, denominator=rows)


def _smoothing(objective: Objective, labels: Tensor, num_classes: int) -> Smoothing | float:
    """Of the targets; for a penalty that of hard labels, and for online smoothing that of the first epoch."""
    eps = objective.numbers[0] if objective.numbers else 0.0
    match objective.kind:
        case "uniform" | "class_conditional":
            return uniform(eps)
        case "generalised":
            return uniform(eps, signed=True)
        case "others":
            return others(eps)
        case "unigram":
            return prior(eps, unigram(torch.bincount(labels, minlength=num_classes)))
    return 0.0


def _named(part: str, text: str) -> tuple[str, list[float]]:
    name, *numbers = part.split(":")
    try:
        return name, [float(number) for number in numbers]
    except ValueError as error:
        raise InputError(
            f"what follows a colon in an objective must be a number, as in uniform:0.1, got {text!r}"
        ) from error


def _filled(name: str, expected: tuple[_Number, ...], given: list[float], text: str) -> tuple[float, ...]:
    """The numbers of an objective with their defaults, checked."""
    needed = [number for number in expected if number.default is None]
    if not len(needed) <= len(given) <= len(expected):
        form = "".join(
            f":{number.symbol}" if number.default is None else f"[:{number.symbol}]" for number in expected
        )
        raise InputError(f"{name} must be written {name}{form}, got {text!r}")
    for number, value in zip(expected, given, strict=False):
        if not number.allowed(value):
            raise InputError(f"{number.symbol} of {text!r} must {number.range}, got {value:g}")
    left_out = [number.default for number in expected[len(given) :] if number.default is not None]
    return (*given, *left_out)


def _digits(value: float) -> str:
    """As few as name the number; a + would begin mixup."""
    return str(value).removesuffix(".0").replace("e+", "e")
