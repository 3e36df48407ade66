"""What an examination found: the convention, its ε, the departures with their evidence, and the page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from labelsmooth.conventions import binary_conventions, conventions
from labelsmooth.tables import Table

Severity: TypeAlias = Literal["fault", "note"]
_WIDTH = 110


@dataclass(frozen=True, kw_only=True)
class Departure:
    """One thing that is not as the definition has it, with the smallest input that shows it.

    Attributes:
        name: what it is, the same for all losses that have it.
        severity: "note" for what leaves the training as it is (a constant, one factor for all), for options
            that losses have on purpose (a prior, z-loss), and for what
            `torch.nn.functional.cross_entropy` does too; all else is a "fault".
        says: what is wrong, in a sentence.
        input: what the loss was called with.
        got: what came out.
        expected: what the definition gives.

    Example:
        >>> from functools import partial
        >>> from labelsmooth import identify
        >>> loss = partial(torch.nn.functional.cross_entropy, label_smoothing=0.1)
        >>> next(d for d in identify(loss).departures if d.name == "no row counts").got
        'loss nan'
    """

    name: str
    severity: Severity
    says: str
    input: str
    got: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Identification:
    """Which convention of label smoothing a loss follows, at which ε, and where it departs.

    Attributes:
        loss: the name of the callable.
        kind: "softmax" or "sigmoid"; "" of what is no cross-entropy.
        convention: a name in `ls.conventions()`, or in `ls.binary_conventions()` for sigmoids; None where no
            published one has this target.
        eps: its ε; without a convention that of the mistaken formula or of the prior, None where there is
            none.
        also: other conventions that have the same target with all numbers of classes tried, with their ε.
        target: for each number of classes that the loss runs with, the shares of the label's class and of
            each other class, and what they sum to, as measured.
        prior: (K,) where the smoothing mass goes, at the smallest K; None where it is uniform.
        call: how the loss was called.
        reduction: what the losses of the rows are divided by.
        departures: faults first.
        cannot: what the loss does not do, and what could not be found out.
    """

    loss: str
    kind: str
    convention: str | None
    eps: float | None
    also: tuple[tuple[str, float], ...]
    target: Mapping[int, tuple[float, float, float]]
    prior: tuple[float, ...] | None
    call: str
    reduction: str
    departures: tuple[Departure, ...]
    cannot: tuple[str, ...]

    @property
    def faults(self) -> tuple[Departure, ...]:
        """The departures that are no mere notes."""
        return tuple(departure for departure in self.departures if departure.severity == "fault")

    @property
    def right(self) -> bool:
        """Whether it is known what the loss does, and nothing is wrong with it."""
        return self.eps is not None and not self.faults

    @property
    def verdict(self) -> str:
        """All of it in a sentence."""
        faults, notes = len(self.faults), len(self.departures) - len(self.faults)
        counts = f"{_counted(faults, 'fault')}, {_counted(notes, 'note')}"
        return f"{self._what()}; {counts if self.departures else 'no departures'}"

    def _what(self) -> str:
        if not self.kind:
            return "no cross-entropy of a softmax or of sigmoids"
        if self.convention is None:
            at = "" if self.eps is None else f", eps {self.eps:g}"
            formula = "smoothing towards a prior" if self.prior is not None else "no published convention"
            return f"{self.kind}: {formula}{at}"
        if self.eps == 0:
            return f"{self.kind}: hard labels, eps 0"
        table = conventions() if self.kind == "softmax" else binary_conventions()
        peers = [
            name
            for name, record in table.items()
            if record.same_as == table[self.convention].same_as and name != self.convention
        ]
        names = {"torch": "uniform", "fairseq": "others"} if self.kind == "softmax" else {}
        own = names.get(self.convention)
        peers = [self.convention, *peers] if own else peers
        as_peers = f", as {', '.join(peers)}" if peers else ""
        return f"{self.kind}: {own or self.convention} at eps {self.eps:g}{as_peers}"

    def document(self) -> dict[str, Any]:
        """The same as values of JSON."""
        return {
            "verdict": self.verdict,
            "right": self.right,
            **vars(self),
            "also": dict(self.also),
            "target": {
                k: dict(zip(("on_class", "on_other", "sum"), shares, strict=True))
                for k, shares in self.target.items()
            },
            "departures": [vars(departure) for departure in self.departures],
        }

    def __str__(self) -> str:
        lines = [self.verdict, "", f"loss       {self.loss}", f"called     {self.call}"]
        if self.reduction:
            lines.append(f"reduction  {self.reduction}")
        if self.also:
            same = ", ".join(f"{name} at eps {eps:g}" for name, eps in self.also)
            lines.append(f"same as    {same}")
        if self.target:
            rows = [[f"K = {k}", *(f"{share:.6g}" for share in shares)] for k, shares in self.target.items()]
            head = ("target", "on the label", "on each other class", "sum")
            lines += ["", Table(head=head, rows=rows).text()]
        for departure in self.departures:
            lines += ["", *_wrapped(f"{departure.severity.upper()}: {departure.name}. {departure.says}.")]
            for what in ("input", "got", "expected"):
                lines += _wrapped(f"{what:<10}{getattr(departure, what)}", "  ", " " * 12)
        if self.cannot:
            lines += ["", "Not examined, or not offered:"]
            lines += [line for sentence in self.cannot for line in _wrapped(f"- {sentence}", "", "  ")]
        return "\n".join(lines)


def _wrapped(text: str, first: str = "", later: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=later or "  ", break_long_words=False
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
