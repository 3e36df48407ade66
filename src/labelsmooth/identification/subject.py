"""The loss that is examined: its calls, one at a time, and what each did to its inputs and to itself."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from labelsmooth.errors import InputError
from labelsmooth.identification.state import State
from labelsmooth.named import told

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# How far the mean of many numbers may be from its formula; single ones may be ten times as far.
TOLERANCES = {torch.float64: 1e-7, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
ROWS = 7  # of a probe; not a usual number of classes, so that what broadcasts by mistake fails


class CallFailed(Exception):
    """What the loss raised, or why what it returned is no loss."""


@dataclass(frozen=True)
class Answer:
    """What one call gave: the loss, its gradient, and what it changed.

    Attributes:
        value: (), (N,) or (N, K), float64.
        grad: (N, K), the gradient of the sum of `value`, float64.
        dtype: of the loss.
        inputs: which of "logits" and "targets" the call wrote into.
        state: what else it changed, by name.
    """

    value: Tensor
    grad: Tensor
    dtype: torch.dtype
    inputs: tuple[str, ...]
    state: tuple[str, ...]

    @property
    def total(self) -> float:
        """The sum of the values."""
        return float(self.value.sum())


@dataclass(frozen=True)
class Subject:
    """A loss, and how it wants to be called.

    Attributes:
        loss: called as loss(logits, targets).
        kept: its state before the examination.
        dtype: of the logits.
        dense: targets are (N, K) of the dtype of the logits, else class indices (N,).
        keywords: of every call.
        training: the mode of its modules; None leaves it as it is.
        factor: what the loss multiplies the logits by; it gets logits that were divided by it before.
        spare: how many of the last classes no label may name.
        numeric: gradients are differences of values, since those of autograd are not.
        slack: its gradients are known to be that far from any formula, relative to the largest.
    """

    loss: Callable[..., Any]
    kept: State
    dtype: torch.dtype = torch.float64
    dense: bool = False
    keywords: tuple[tuple[str, Any], ...] = ()
    training: bool | None = None
    factor: float = 1.0
    spare: int = 0
    numeric: bool = False
    slack: float = 0.0

    def but(self, **changes: Any) -> Subject:
        """The same loss, called otherwise."""
        return dataclasses.replace(self, **changes)

    @property
    def tolerance(self) -> float:
        """The largest relative error of a right number."""
        return max(TOLERANCES[self.dtype], 1e-6 if self.numeric else 0.0, self.slack)

    @property
    def step(self) -> float:
        """Of differences of the fourth order, between rounding and curvature."""
        return 0.02 if self.dtype == torch.float64 else 0.1

    def defaults(self) -> dict[str, object]:
        """The defaults of its arguments, by name."""
        try:
            parameters = inspect.signature(self.loss).parameters.values()
        except (TypeError, ValueError):  # a builtin
            return {}
        return {parameter.name: parameter.default for parameter in parameters}

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """The labels as this loss wants them; (N, K) labels are dense already."""
        if labels.dim() == 2:
            return labels.to(self.dtype)
        return one_hot(labels, num_classes).to(self.dtype) if self.dense else labels.clone()

    def call(self, logits: Tensor, labels: Tensor, keep_state: bool = False) -> Answer:
        """Call the loss and differentiate it.

        Raises:
            CallFailed: it raised, returned no loss, or cannot be differentiated.
        """
        leaf = logits.detach().to(self.dtype).requires_grad_()
        scores = leaf.clone()  # no leaf, as in a network, so that a loss may write into it
        targets = self.targets(labels, logits.shape[-1])
        before = targets.clone()
        try:
            value = self._returned(scores, targets)
            inputs = tuple(
                name
                for name, now, then in (("logits", scores, leaf), ("targets", targets, before))
                if not torch.equal(torch.nan_to_num(now.detach()), torch.nan_to_num(then.detach()))
            )
            grad = self._differences(logits, labels) if self.numeric else _gradient(value, leaf)
            state = tuple(name for name in self.kept.changes() if not name.endswith("training"))
        finally:
            if not keep_state:
                self.kept.restore()
        return Answer(value.detach().double(), grad.double(), value.dtype, inputs, state)

    def value(self, logits: Tensor, labels: Tensor) -> float:
        """The sum of the losses.

        Raises:
            CallFailed: as `call`.
        """
        targets = self.targets(labels, logits.shape[-1])
        try:
            # with a graph, since some losses differentiate within themselves
            value = self._returned(logits.detach().to(self.dtype).requires_grad_().clone(), targets)
            return float(value.detach().double().sum())
        finally:
            self.kept.restore()

    def runs(self, num_classes: int) -> bool:
        """Whether a usual batch of so many classes gives finite numbers."""
        try:
            answer = self.call(
                usual_logits(ROWS, num_classes)[0], usual_labels(ROWS, num_classes - self.spare)
            )
        except CallFailed:
            return False
        return bool(answer.value.isfinite().all() and answer.grad.isfinite().all())

    def _returned(self, scores: Tensor, targets: Tensor) -> Tensor:
        rows, num_classes = scores.shape
        if self.training is not None:
            self.kept.train(self.training)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scaled = scores if self.factor == 1 else scores / self.factor
                value = self.loss(scaled, targets, **dict(self.keywords))
        except Exception as error:
            raise CallFailed(f"it raised {told(error)}") from error
        if not isinstance(value, Tensor):
            raise CallFailed(f"it returned a {type(value).__name__}, no tensor")
        if value.shape not in ((), (1,), (rows,), (rows, 1), (rows, num_classes)):
            raise CallFailed(
                f"it returned the shape {tuple(value.shape)} for {rows} rows of {num_classes} classes, "
                "expected a scalar or (N,)"
            )
        if not value.is_floating_point():
            raise CallFailed(f"it returned {value.dtype}, expected floats")
        return value

    def _differences(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The gradient by central differences of the fourth order, for few classes."""
        if logits.shape[-1] > 16:
            raise CallFailed("its gradient is wrong, and differences of values are for few classes")
        step = self.step
        grad = torch.zeros(logits.shape, dtype=torch.float64)
        for place in range(logits.numel()):
            unit = torch.zeros(logits.numel(), dtype=torch.float64)
            unit[place] = step
            grad.view(-1)[place] = slope(self, logits, labels, unit.view_as(logits)) / step
        return grad


def slope(subject: Subject, logits: Tensor, labels: Tensor, step: Tensor) -> float:
    """The derivative of the value along a step, by differences of the fourth order."""
    near, far = (
        subject.value(logits + h * step, labels) - subject.value(logits - h * step, labels) for h in (1, 2)
    )
    return (8 * near - far) / 12


def usual_logits(rows: int, num_classes: int, count: int = 4) -> Tensor:
    """(count, N, K) of logits in −3..3 that every floating-point dtype holds, far apart for each class."""
    generator = torch.Generator().manual_seed(num_classes)
    size = (count, rows, num_classes)
    steps = (torch.arange(count).view(-1, 1, 1) + torch.randint(count, size[1:], generator=generator)) % count
    return 1.5 * steps - 2.25 + torch.randint(-5, 6, size, generator=generator).double() / 8


def usual_labels(rows: int, num_classes: int) -> Tensor:
    """(N,) labels, among them as many of the classes as there is room for, in no order."""
    generator = torch.Generator().manual_seed(rows)
    spread = torch.arange(rows) * max(1, (num_classes - 1) // max(rows - 1, 1)) % num_classes
    spread[-1] = num_classes - 1
    return spread[torch.randperm(rows, generator=generator)]


def open_subject(
    loss: Callable[..., Any], dtype: torch.dtype | None, num_classes: Sequence[int]
) -> tuple[Subject, list[int]]:
    """Find out how a loss wants to be called, and with which numbers of classes it runs.

    Raises:
        InputError: in no way; tells what happened at the first.
    """
    kept = State(loss)
    first = ""
    for dense, spare in ((False, 0), (False, 1), (True, 0)):
        for tried in DTYPES if dtype is None else (dtype,):
            subject = Subject(loss, kept, tried, dense, spare=spare)
            usable = [k for k in num_classes if k > spare + 1 and subject.runs(k)]
            if usable:
                return subject.but(dtype=_worked_in(subject, usable[-1])), usable
            first = first or _why_not(subject, num_classes[-1])
    raise InputError(f"the loss cannot be examined with {_listed(num_classes)} classes: {first}")


def _worked_in(subject: Subject, num_classes: int) -> torch.dtype:
    """The dtype that the loss casts its logits to: that in which the gradient loses nothing."""
    labels = usual_labels(ROWS, num_classes - subject.spare)
    grad = subject.call(usual_logits(ROWS, num_classes)[0], labels).grad
    narrow = (torch.bfloat16, torch.float16, torch.float32)
    return next((dtype for dtype in narrow if torch.equal(grad.to(dtype).double(), grad)), subject.dtype)


def _why_not(subject: Subject, num_classes: int) -> str:
    shapes = f"for logits ({ROWS}, {num_classes}) and labels ({ROWS},)"
    try:
        answer = subject.call(usual_logits(ROWS, num_classes)[0], usual_labels(ROWS, num_classes))
    except CallFailed as failure:
        return f"{shapes} {failure}"
    return f"{shapes} it gave {answer.total:g}, or a gradient that is not finite"


def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    if not value.requires_grad:
        raise CallFailed("it cannot be differentiated: its value has no gradient")
    try:
        (grad,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    except Exception as error:
        raise CallFailed(f"its backward raised {told(error)}") from error
    if grad is None:
        raise CallFailed("it cannot be differentiated: its value does not depend on the logits")
    return grad


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
