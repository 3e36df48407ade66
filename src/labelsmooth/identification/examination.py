"""The state of one examination: how the loss is called, what is known of it so far, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from labelsmooth.identification.result import Departure, Severity
from labelsmooth.identification.rows import SIGMOID, SOFTMAX, Rows, Term, measure_rows
from labelsmooth.identification.subject import ROWS, CallFailed, Subject, usual_labels

_MOST_SHOWN = 8  # numbers of a row


@dataclass(frozen=True)
class Reading:
    """Where a loss looks for the label of a row.

    Attributes:
        says: what is wrong with that, "" of the row's own label.
        classes: what it adds to the label.
        rows: how many rows further it looks.
    """

    says: str = ""
    classes: int = 0
    rows: int = 0

    def seen(self, labels: Tensor, num_classes: int) -> Tensor:
        """The labels (N,) as the loss reads them; the rows at the end wrap around."""
        return (labels.roll(-self.rows) + self.classes) % num_classes


READINGS = (
    Reading(),
    Reading("label y is counted as y + 1", classes=1),
    Reading("label y is counted as y − 1", classes=-1),
    Reading("each row is given the label of the next row", rows=1),
    Reading("each row is given the label of the row before", rows=-1),
)


@dataclass
class Examination:
    """What the probes share.

    Attributes:
        subject: the loss, as it is called.
        num_classes: those that it runs with, ascending.
        declared: the ε that it is said to have, None where nothing says.
        terms: what its linear form is made of; empty where it has none.
        reading: where the loss looks for labels.
        skipped: the labels whose rows do not count.
        weight: (K,) class weights that the loss has, None where it is not known to have some.
        departures, cannot: what was found.
    """

    subject: Subject
    num_classes: list[int]
    declared: float | None = None
    terms: tuple[Term, ...] = (SOFTMAX,)
    reading: Reading = READINGS[0]
    skipped: set[int] = field(default_factory=set)
    weight: Tensor | None = None
    departures: list[Departure] = field(default_factory=list)
    cannot: list[str] = field(default_factory=list)

    @property
    def small(self) -> int:
        """The smallest number of classes above 2, where there is one: for the evidence."""
        return next((k for k in self.num_classes if k > 2), self.num_classes[-1])

    @property
    def by_label(self) -> bool:
        """Whether the loss is one of K sigmoids."""
        return self.terms[:1] == (SIGMOID,)

    def labels(self, rows: int, num_classes: int) -> Tensor:
        """(N,) labels, or (N, K) dense ones of sigmoids, each with and without in every column."""
        if self.by_label and self.subject.dense:
            places = torch.arange(rows).unsqueeze(-1) + torch.arange(num_classes)
            return (places % 3 == 0).double()
        return usual_labels(rows, num_classes - self.subject.spare)

    def counted_labels(self, rows: int, num_classes: int) -> Tensor:
        """(N,) labels whose rows count, none of them the last class."""
        last = num_classes - 1 - self.subject.spare
        allowed = [label for label in range(last) if label not in self.skipped] or [0]
        return torch.tensor([allowed[row % min(len(allowed), rows)] for row in range(rows)])

    def measure(
        self, num_classes: int, rows: int = ROWS, subject: Subject | None = None, labels: Tensor | None = None
    ) -> Rows:
        """The linear form of some rows.

        Raises:
            CallFailed: a call did.
        """
        labels = self.labels(rows, num_classes) if labels is None else labels
        return measure_rows(subject or self.subject, labels, num_classes, self.terms)

    def report(
        self, name: str, says: str, *, input: str, got: str, expected: str, severity: Severity = "fault"
    ) -> None:
        """Keep a departure."""
        self.departures.append(
            Departure(name=name, severity=severity, says=says, input=input, got=got, expected=expected)
        )

    def skip(self, what: str, failure: CallFailed) -> None:
        """Keep that something could not be examined."""
        self.cannot.append(f"{what}: {failure}")


def example_logits(rows: int, num_classes: int) -> Tensor:
    """(N, K) of zeros but for a 1 in the last class: small enough to be shown."""
    logits = torch.zeros(rows, num_classes)
    logits[:, -1] = 1
    return logits


def near(a: float, b: float, tolerance: float) -> bool:
    """Whether two numbers agree, relative to the larger."""
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-12)


def agree(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree, relative to the largest of their numbers."""
    size = max(float(a.abs().max()), float(b.abs().max()), 1e-12) if a.numel() else 1.0
    return bool((a - b).abs().max() <= tolerance * size) if a.numel() else True


def shown(values: Tensor | Sequence[float] | float) -> str:
    """Numbers as Python writes them, to five digits."""
    if isinstance(values, Tensor):
        values = values.detach().tolist()
    if isinstance(values, Sequence):
        more = ", …" if len(values) > _MOST_SHOWN else ""
        return "[" + ", ".join(shown(value) for value in values[:_MOST_SHOWN]) + more + "]"
    return f"{values:.5g}"
