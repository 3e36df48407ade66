"""Objectives that are the cross-entropy with a smoothed target."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.losses import cross_entropy, linear_cross_entropy
from labelsmooth.mixture import Mixture
from labelsmooth.objectives.criterion import (
    CHUNK_ROWS,
    Criterion,
    LinearOutput,
    Loss,
    Number,
    Output,
    TrainingFacts,
    count_correct,
)
from labelsmooth.smoothing import (
    Smoothing,
    class_conditional,
    neighbourhood,
    others,
    prior,
    uniform,
    unigram,
)

_EPS = Number("ε", "lie in (0, 1]", lambda eps: 0 < eps <= 1)


class _Smoothed(Criterion):
    """Cross-entropy whose target has a smoothing that may change between steps."""

    smoothing: Smoothing | float = 0.0

    @property
    def target_smoothing(self) -> Smoothing | float:
        return self.smoothing

    def __call__(
        self,
        output: Output,
        labels: Tensor,
        *,
        denominator: float,
        target: Mixture | None = None,
        teacher: Output | None = None,  # noqa: ARG002
    ) -> Loss:
        smoothing = self.target_smoothing if target is None else 0.0
        wanted = labels if target is None else target
        if isinstance(output, LinearOutput):
            value, stats = linear_cross_entropy(
                output.features,
                output.weight,
                wanted,
                linear_bias=output.bias,
                label_smoothing=smoothing,
                denominator=denominator,
                return_stats=True,
            )
            return Loss(value, stats.correct.sum())
        value = cross_entropy(output, wanted, label_smoothing=smoothing, denominator=denominator)
        return Loss(value, count_correct(output, labels))


class Hard(_Smoothed, kind="hard"):
    """Labels as they are."""

    short = "hard"
    phrase = "hard labels"


class Uniform(_Smoothed, kind="uniform"):
    """`uniform:ε`: ε is spread over all classes."""

    short = "smoothed"
    phrase = "label smoothing"
    numbers = (_EPS,)

    def __init__(self, numbers: tuple[float, ...], facts: TrainingFacts) -> None:
        super().__init__(numbers, facts)
        self.smoothing = uniform(numbers[0])


class Others(_Smoothed, kind="others"):
    """`others:ε`: ε is spread over the other classes."""

    short = "over the others"
    phrase = "label smoothing over the other classes"
    numbers = (_EPS,)

    def __init__(self, numbers: tuple[float, ...], facts: TrainingFacts) -> None:
        super().__init__(numbers, facts)
        self.smoothing = others(numbers[0])


class Unigram(_Smoothed, kind="unigram"):
    """`unigram:ε`: ε is spread as the labels of the training data are."""

    short = "unigram"
    phrase = "smoothing towards the class frequencies"
    numbers = (_EPS,)

    def __init__(self, numbers: tuple[float, ...], facts: TrainingFacts) -> None:
        super().__init__(numbers, facts)
        self.smoothing = prior(numbers[0], unigram(facts.class_counts))


class Temporal(_Smoothed, kind="temporal"):
    """`temporal:ε`: ε is spread over the labels of the tokens beside it in its sequence, `neighbourhood`."""

    short = "temporal"
    phrase = "smoothing towards neighbouring tokens"
    numbers = (_EPS,)
    takes_mixtures = False
    needs_order = True

    def sequence_target(self, labels: Tensor) -> Mixture:
        return neighbourhood(labels, self.values[0])[labels != -100]


class ClassConditional(_Smoothed, kind="class_conditional"):
    """`class_conditional:ε`: online smoothing, towards the mean prediction of the epoch before.

    The mean is over the rows of the same class that were right; uniform in the first epoch, and for a class
    with no such row. Needs two K×K tables in float64.
    """

    short = "class-conditional"
    phrase = "class-conditional (online) smoothing"
    numbers = (_EPS,)
    takes_mixtures = False

    def __init__(self, numbers: tuple[float, ...], facts: TrainingFacts) -> None:
        super().__init__(numbers, facts)
        self.smoothing = uniform(numbers[0])
        num_classes = len(facts.class_counts)
        self._right = torch.zeros(num_classes, num_classes, dtype=torch.float64)

    def __call__(self, output: Output, labels: Tensor, **settings: Any) -> Loss:
        with torch.no_grad():
            if isinstance(output, LinearOutput):
                features, weight, bias = output
                for rows in torch.split(torch.arange(len(labels)), CHUNK_ROWS):
                    self._gather(F.linear(features[rows], weight, bias), labels[rows])
            else:
                self._gather(output, labels)
        return super().__call__(output, labels, **settings)

    def _gather(self, logits: Tensor, labels: Tensor) -> None:
        labels, probs = labels.cpu(), logits.cpu().double().softmax(-1)
        right = probs.argmax(-1) == labels
        self._right.index_add_(0, labels[right], probs[right])

    def epoch_done(self) -> None:
        all_right = self.facts.total(self._right)
        seen = all_right.sum(-1, keepdim=True)
        table = torch.where(seen > 0, all_right / seen, 1 / len(all_right))
        self.smoothing = class_conditional(self.values[0], table)
        self._right.zero_()


class Generalised(_Smoothed, kind="generalised"):
    """`generalised:ε:w`, ε < 0: `uniform(ε, signed=True)` after hard labels for the part w of the steps."""

    short = "negative"
    phrase = "negative (generalised) smoothing"
    numbers = (
        Number("ε", "be below 0 and finite", lambda eps: -math.inf < eps < 0),
        Number("warm-up", "lie in [0, 1)", lambda part: 0 <= part < 1, default=0.5),
    )

    def __init__(self, numbers: tuple[float, ...], facts: TrainingFacts) -> None:
        super().__init__(numbers, facts)
        self.smoothing = uniform(numbers[0], signed=True)
        self._hard_steps_left = round(numbers[1] * facts.steps)

    @property
    def target_smoothing(self) -> Smoothing | float:
        return 0.0 if self._hard_steps_left > 0 else self.smoothing

    def __call__(self, output: Output, labels: Tensor, **settings: Any) -> Loss:
        loss = super().__call__(output, labels, **settings)
        self._hard_steps_left -= 1
        return loss
