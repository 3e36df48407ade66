"""The name of an objective: its kind and its numbers, with `+mixup:α` behind it where inputs are mixed."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from labelsmooth.errors import InputError
from labelsmooth.objectives import cross_entropies, distilled, penalised, sigmoids  # noqa: F401 (they register kinds)
from labelsmooth.objectives.criterion import KINDS, Criterion, Number, TrainingFacts, positive

_MIXUP = (positive("α"),)
OBJECTIVES = (*KINDS, "mixup")


def _form(name: str, numbers: tuple[Number, ...]) -> str:
    """Write how an objective is named, with what may be left out in brackets."""
    return name + "".join(
        f":{number.symbol}" if number.default is None else f"[:{number.symbol}]" for number in numbers
    )


# What `Objective.parse` reads, by kind.
FORMS = {**{kind: _form(kind, made.numbers) for kind, made in KINDS.items()}, "mixup": _form("mixup", _MIXUP)}


@dataclass(frozen=True)
class Objective:
    """One way to train; `str` gives the text that `parse` reads."""

    kind: str
    numbers: tuple[float, ...] = ()
    mixup: float = 0.0  # α of the Beta(α, α) that mixes inputs; 0: they are not mixed

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read the name of an objective: a kind with its numbers, `mixup:α`, or both joined by a +.

        `FORMS` has all kinds with their numbers, and the docstring of each criterion in `KINDS` says what it
        is. `mixup:α` mixes inputs and targets of a batch with those of a permutation of it, the share of each
        batch drawn from Beta(α, α).

        Raises:
            InputError: the name says nothing of that kind, or a number is out of its range.

        Example:
            >>> Objective.parse("uniform:0.1+mixup:0.2").name
            'smoothed ε = 0.1 + mixup α = 0.2'

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
        if kind not in KINDS:
            nearest = difflib.get_close_matches(kind, OBJECTIVES, n=1, cutoff=0.8)
            meant = f", did you mean {nearest[0]}?" if nearest else ""
            raise InputError(f"an objective must be one of {', '.join(OBJECTIVES)}, got {text!r}{meant}")
        values = _filled(kind, KINDS[kind].numbers, numbers, text)
        if not plus:
            return cls(kind, values)
        other, alpha = _named(second, text)
        if other != "mixup":
            raise InputError(f"only mixup can stand behind the + of an objective, got {text!r}")
        if not KINDS[kind].takes_mixtures:
            raise InputError(f"mixup takes no {KINDS[kind].phrase}, got {text!r}")
        return cls(kind, values, *_filled(other, _MIXUP, alpha, text))

    @classmethod
    def uniform(cls, eps: float) -> Objective:
        """Make the objective of uniform smoothing, which is hard for ε = 0."""
        return cls("uniform", (eps,)) if eps else cls("hard")

    def criterion(self, facts: TrainingFacts) -> Criterion:
        """Make the loss of one training; mixing its inputs is left to whoever makes the batches."""
        return KINDS[self.kind](self.numbers, facts)

    def __str__(self) -> str:
        parts = [":".join([self.kind, *map(_digits, self.numbers)])]
        if self.mixup:
            parts.append(f"mixup:{_digits(self.mixup)}")
        return "+".join(parts[1:] if self.mixup and self.kind == "hard" else parts)

    @property
    def needs_teacher(self) -> bool:
        """True where a network trains on it only beside a teacher."""
        return KINDS[self.kind].needs_teacher

    @property
    def needs_order(self) -> bool:
        """True where targets depend on the labels before and behind, as tokens of sentences have."""
        return KINDS[self.kind].needs_order

    @property
    def eps(self) -> float | None:
        """The ε of uniform smoothing, 0 for hard labels; None for another objective."""
        if self.mixup or self.kind not in ("hard", "uniform"):
            return None
        return self.numbers[0] if self.numbers else 0.0

    @property
    def name(self) -> str:
        """The name in tables: "smoothed ε = 0.1"."""
        return self._worded(KINDS[self.kind].short, " ")

    @property
    def phrase(self) -> str:
        """The name in sentences, behind "train with": "label smoothing, ε = 0.1"."""
        return self._worded(KINDS[self.kind].phrase, ", ")

    def _worded(self, words: str, joint: str) -> str:
        numbers = zip(KINDS[self.kind].numbers, self.numbers, strict=True)
        shown = ", ".join(
            f"{number.symbol} = {_digits(value).replace('-', '−')}" for number, value in numbers
        )
        mixed = f"mixup α = {_digits(self.mixup)}" if self.mixup else ""
        return " + ".join(part for part in (joint.join(filter(None, [words, shown])), mixed) if part)


def _named(part: str, text: str) -> tuple[str, list[float]]:
    name, *numbers = part.split(":")
    try:
        return name, [float(number) for number in numbers]
    except ValueError as error:
        raise InputError(
            f"what follows a colon in an objective must be a number, as in uniform:0.1, got {text!r}"
        ) from error


def _filled(name: str, expected: tuple[Number, ...], given: list[float], text: str) -> tuple[float, ...]:
    """Check the numbers of an objective, and add the defaults of those that were left out."""
    needed = [number for number in expected if number.default is None]
    if not len(needed) <= len(given) <= len(expected):
        raise InputError(f"{name} must be written {FORMS[name]}, got {text!r}")
    for number, value in zip(expected, given, strict=False):
        if not number.allowed(value):
            raise InputError(f"{number.symbol} of {text!r} must {number.range}, got {value:g}")
    left_out = [number.default for number in expected[len(given) :] if number.default is not None]
    return (*given, *left_out)


def _digits(value: float) -> str:
    """Write a number with as few digits as name it; a + would begin mixup."""
    return str(value).removesuffix(".0").replace("e+", "e")
