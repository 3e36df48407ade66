"""The contract of the backends: what each takes, what it returns, and which functions it has.

A backend is a `Backend`: two functions over rows that were checked already, and optional members.

`logits` are (N, C), any strides, float16, bfloat16, float32 or float64. All values are float64 for float64
logits, else float32, accumulated at least in that; the gradient has the dtype of the logits, rounded once.
All statistics are relative to the row maximum m (to 0 where every logit is −inf); 0·(−inf) is 0 in value and
gradient; NaN in a row that counts gives NaN. Rows that do not count are not read: their statistics are those
of a row of zeros and their gradient is 0, whatever `grads` holds there. `reference` defines the rest.

`stats` are those that `forward` gave. `grads` are the upstream gradients of the statistics, None for those
without one, any strides (0 too). `out`, where given, takes the gradient, and may be `logits` itself. With
`shift_free` the caller says that what it combines from the statistics does not change with m, so that the
terms of the gradient through m cancel; the backend then leaves them out, and `stats` may be those of whole
rows of which `logits` are a block of columns: the gradient is the block's part of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """The statistics wanted of rows of (N, C) logits: C columns of num_classes, from first_class on."""

    index: Tensor | None  # (N, J) int64 in 0..num_classes−1
    prior: Tensor | str | None  # "uniform", (C,) or (P, C), floating-point
    prior_row: Tensor | None  # (N,) int64 in 0..P−1, beside a (P, C) prior
    counted: Tensor | None  # (N,) bool; None where every row counts
    num_classes: int
    first_class: int
    finite_support: bool
    log_sum_sq: bool
    mean_logit: bool

    @property
    def prior_mass_by_row(self) -> bool:
        """True where `Statistics.prior_mass` differs between rows and is (N,), not ()."""
        return self.finite_support or self.prior_row is not None

    def tensors(self) -> list[Tensor]:
        """Return the tensors that a backward needs unchanged, for autograd to watch."""
        values = (self.index, self.prior, self.prior_row, self.counted)
        return [value for value in values if isinstance(value, Tensor)]


class Statistics(NamedTuple):
    """The statistics of rows, or their upstream gradients; `RowStats` says what they mean."""

    max: Tensor | None = None  # (N,)
    argmax: Tensor | None = None  # (N,) int64, counted from first_class
    log_sum: Tensor | None = None  # (N,)
    at_index: Tensor | None = None  # (N, J); −inf outside the columns
    seen: Tensor | None = None  # (N, J) bool; None where C = num_classes
    at_prior: Tensor | None = None  # (N,)
    prior_mass: Tensor | None = None  # (N,), or () where it is the same for all rows
    log_sum_sq: Tensor | None = None  # (N,)
    mean_logit: Tensor | None = None  # (N,)


def statistics_dtype(logits: Tensor) -> torch.dtype:
    """Return the dtype of the statistics of logits, and of losses made of them."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def origin_of(top: Tensor) -> Tensor:
    """Return the logit that statistics are relative to: the maximum, or 0 where every logit is −inf."""
    return torch.where(top == -torch.inf, 0, top)


class Combination(NamedTuple):
    """The coefficients of log_sum·ℓ + Σ_j at_index·a_j + at_prior·b, which does not change with m."""

    log_sum: float
    at_index: float
    at_prior: float


class Forward(Protocol):
    """Compute the statistics of rows."""

    def __call__(self, logits: Tensor, request: Request) -> Statistics: ...  # (N, C)


class Backward(Protocol):
    """Compute the gradient of the logits from the upstream gradients of the statistics."""

    def __call__(
        self,
        logits: Tensor,  # (N, C)
        request: Request,
        stats: Statistics,
        grads: Statistics,
        out: Tensor | None = None,
        *,
        shift_free: bool = False,
    ) -> Tensor: ...  # (N, C)


class Combine(Protocol):
    """Compute the combination of each row (N,), or with `total` its sum over the rows that count ().

    Returns it with the maximum and ℓ of each row, (2, N), which `CombineBackward` takes.
    """

    def __call__(
        self, logits: Tensor, request: Request, combination: Combination, *, total: bool
    ) -> tuple[Tensor, Tensor]: ...


class CombineBackward(Protocol):
    """Compute the gradient of the logits from the upstream gradient of a combination."""

    def __call__(
        self,
        logits: Tensor,  # (N, C)
        request: Request,
        combination: Combination,
        origins: Tensor,  # (2, N)
        upstream: Tensor,  # (N,), or () for the sum
        out: Tensor | None,
    ) -> Tensor: ...


class SigmoidLosses(Protocol):
    """Compute −p·y·log σ(z) − (1−y)·log σ(−z) of each logit, or with `total` their sum ().

    Labels y and p, 1 where it is None, have the shape of the logits.
    """

    def __call__(
        self, logits: Tensor, labels: Tensor, pos_weight: Tensor | None, *, total: bool
    ) -> Tensor: ...


class SigmoidGradient(Protocol):
    """Compute the gradient of the logits from that of their losses, or from that of the sum ()."""

    def __call__(
        self, logits: Tensor, labels: Tensor, pos_weight: Tensor | None, upstream: Tensor
    ) -> Tensor: ...


class Empty(Protocol):
    """Allocate a tensor without initial values on the device of another."""

    def __call__(self, like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor: ...


def new_empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocate as torch does."""
    return like.new_empty(shape, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A backend: two functions that every one has, and members that some have.

    Attributes:
        forward, backward: compute the statistics, and the gradient of the logits.
        unavailable: says in words why the backend cannot serve a device; None where it can.
        kernels: the name of the kernels, in words.
        combine, combine_backward: compute in one call each way a loss that is the same `Combination` in every
            row; None for a backend without such calls.
        sigmoid_losses, sigmoid_gradient: compute the losses of sigmoids in one call each way; None for a
            backend that leaves them to torch.
        empty: allocates large buffers.
        three_dimensional: whether logits may be (A, B, C), the A·B rows of which need not have one stride:
            pixels of images are then taken where they lie.
    """

    forward: Forward
    backward: Backward
    unavailable: Callable[[torch.device], str | None]
    kernels: str
    combine: Combine | None = None
    combine_backward: CombineBackward | None = None
    sigmoid_losses: SigmoidLosses | None = None
    sigmoid_gradient: SigmoidGradient | None = None
    empty: Empty = new_empty
    three_dimensional: bool = False
