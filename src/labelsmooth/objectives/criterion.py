"""The loss of one training: the class that every objective derives from, and the registry of their kinds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from labelsmooth.mixture import Mixture

KINDS: dict[str, type[Criterion]] = {}  # every kind of objective by its name, in the order of definition
CHUNK_ROWS = 512  # whose logits exist at a time where a loss is made from a linear layer


@dataclass(frozen=True)
class Number:
    """A number of an objective; one with a default may be left out."""

    symbol: str
    range: str  # behind "must"
    allowed: Callable[[float], bool]
    default: float | None = None


def positive(symbol: str) -> Number:
    """Make a number above 0."""
    return Number(symbol, "be above 0 and finite", lambda value: 0 < value < math.inf)


class LinearOutput(NamedTuple):
    """The logits features·Wᵀ + b of a linear layer, not yet made."""

    features: Tensor  # (N, H)
    weight: Tensor  # (K, H)
    bias: Tensor | None = None  # (K,)


Output: TypeAlias = Tensor | LinearOutput  # logits (N, K), or the layer that makes them


class Loss(NamedTuple):
    """The loss of a step, and how many of its rows are right."""

    value: Tensor  # 0-d, in nats
    correct: Tensor  # 0-d int64: rows whose largest logit is that of the label


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """The facts of a training that its criterion may use."""

    class_counts: Tensor  # (K,) rows of each class in the training data
    steps: int  # of the whole training
    total: Callable[[Tensor], Tensor] = torch.Tensor.cpu  # the sum of a tensor over all processes


class Criterion(ABC):
    """The loss of one training under one objective, with the state that it gathers.

    A subclass names its kind, `class Uniform(Criterion, kind="uniform")`, which registers it, and keeps what
    state it needs itself.

    Args:
        numbers: of the objective, as many as the class has `numbers`.
        facts: of the training.
    """

    short: ClassVar[str]  # in tables
    phrase: ClassVar[str]  # behind "train with"
    numbers: ClassVar[tuple[Number, ...]] = ()
    takes_mixtures: ClassVar[bool] = True  # whether it may train on mixed inputs
    needs_teacher: ClassVar[bool] = False  # whether a step needs the output of a teacher
    needs_order: ClassVar[bool] = False  # whether its targets depend on the labels before and behind

    def __init_subclass__(cls, kind: str | None = None, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if kind is not None:
            KINDS[kind] = cls

    def __init__(self, numbers: tuple[float, ...], facts: TrainingFacts) -> None:
        self.values = numbers
        self.facts = facts

    @abstractmethod
    def __call__(
        self,
        output: Output,  # of N rows
        labels: Tensor,  # (N,), −100 where a row does not count
        *,
        denominator: float,
        target: Mixture | None = None,
        teacher: Output | None = None,
    ) -> Loss:
        """Take one step: the sum of the losses of rows divided by `denominator`.

        Args:
            output: logits, or the linear layer that makes them: then no more than some hundred rows of them
                exist at a time.
            labels: classes.
            denominator: rows of the whole batch that count, divided by the processes that share it out.
            target: of mixed inputs, made with `target_smoothing`, or what `sequence_target` gave; it takes
                the place of the labels in the loss.
            teacher: output of the teacher on the same rows, where `needs_teacher`.
        """

    @property
    def target_smoothing(self) -> Any:
        """The smoothing, or the ε, of the targets of the next step."""
        return 0.0

    def sequence_target(self, labels: Tensor) -> Mixture | None:  # noqa: ARG002
        """Make the targets of the N tokens of sequences that count, where they depend on their order.

        Args:
            labels: (B, T), −100 where a token does not count.
        """
        return None

    def epoch_done(self) -> None:  # noqa: B027 (most objectives gather nothing)
        """Tell that an epoch of the training is over."""


class OfLogits(Criterion):
    """A loss of logits, of which some hundred rows exist at a time where a linear layer makes them."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor | Mixture, denominator: float) -> Tensor:
        """Sum the losses of rows and divide by `denominator`."""

    def __call__(
        self,
        output: Output,
        labels: Tensor,
        *,
        denominator: float,
        target: Mixture | None = None,
        teacher: Output | None = None,  # noqa: ARG002
    ) -> Loss:
        if isinstance(output, LinearOutput):
            return sum_over_chunks(lambda logits, rows: self.loss(logits, rows, denominator), labels, output)
        value = self.loss(output, labels if target is None else target, denominator)
        return Loss(value, count_correct(output, labels))


def sum_over_chunks(
    part: Callable[..., Tensor],
    labels: Tensor,  # (N,)
    *outputs: LinearOutput,
) -> Loss:
    """Add up a loss of logits over chunks of rows, whose logits the backward pass makes again.

    Args:
        part: the summed loss of the logits of some rows, one tensor (n, K) for each output, and their labels.
        labels: classes.
        outputs: of the network that is trained, then of its teacher.
    """

    def chunk(rows: Tensor, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        logits = [F.linear(x, w, b) for x, w, b in zip(*[iter(tensors)] * 3, strict=True)]
        return part(*logits, rows), (logits[0].argmax(-1) == rows).sum()

    values, correct = [], []
    for start in range(0, len(labels), CHUNK_ROWS):
        here = slice(start, start + CHUNK_ROWS)
        tensors = [tensor for output in outputs for tensor in (output.features[here], *output[1:])]
        value, right = checkpoint(chunk, labels[here], *tensors, use_reentrant=False)
        values.append(value)
        correct.append(right)
    if not values:  # a process whose share of a batch is empty takes the step all the same
        value, right = chunk(labels, *(tensor for output in outputs for tensor in output))
        return Loss(value, right)
    return Loss(torch.stack(values).sum(), torch.stack(correct).sum())


def count_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Count the rows whose largest logit is that of their label, (N, K) and (N,) to 0-d."""
    return (logits.argmax(-1) == labels).sum()
