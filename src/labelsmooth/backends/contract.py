"""What every backend is asked and what it answers.

A backend is a `Backend`: two functions over rows that were checked already, and what else it can do.

`logits` are (N, C), any strides, float16, bfloat16, float32 or float64. All values are float64 for float64
logits, else float32, accumulated at least in that; the gradient has the dtype of the logits, rounded once.
All statistics are relative to the row maximum m (to 0 where every logit is −inf); 0·(−inf) is 0 in value and
gradient; NaN in a row that counts gives NaN. Rows that do not count are not read: their statistics are those
of a row of zeros and their gradient is 0, whatever `grads` holds there. `reference` defines the rest.

`stats` are those that `forward` gave. `grads` are the upstream gradients of the statistics, None for those
without one, any strides (0 too). `out`, where given, takes the gradient, and may be `logits` itself. With
`shift_free` the caller says that what it combines from the statistics does not change with m, so that the
terms of the gradient through m cancel; the backend then leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What is wanted of each row of (N, C) logits, C columns of num_classes from first_class on."""

    index: Tensor | None  # (N, J) int64 in 0..num_classes−1
    prior: Tensor | str | None  # "uniform", (C,) or (P, C), floating-point
    prior_row: Tensor | None  # (N,) int64 in 0..P−1, beside a (P, C) prior
    counted: Tensor | None  # (N,) bool; None where every row counts
    num_classes: int
    first_class: int
    finite_support: bool
    log_sum_sq: bool
    mean_logit: bool

    def tensors(self) -> list[Tensor]:
        """What a backward needs as it was, so that autograd can tell when somebody changed it."""
        values = (self.index, self.prior, self.prior_row, self.counted)
        return [value for value in values if isinstance(value, Tensor)]


class Parts(NamedTuple):
    """The statistics of rows, or their upstream gradients; see `RowStats` for their meaning."""

    max: Tensor | None = None  # (N,)
    argmax: Tensor | None = None  # (N,) int64, counted from first_class
    log_sum: Tensor | None = None  # (N,)
    at_index: Tensor | None = None  # (N, J); −inf outside the columns
    seen: Tensor | None = None  # (N, J) bool; None where C = num_classes
    at_prior: Tensor | None = None  # (N,)
    prior_mass: Tensor | None = None  # (N,), or () where it is the same for all rows
    log_sum_sq: Tensor | None = None  # (N,)
    mean_logit: Tensor | None = None  # (N,)


class Combination(NamedTuple):
    """The numbers of log_sum·ℓ + Σ_j at_index·a_j + at_prior·b, which does not change with m."""

    log_sum: float
    at_index: float
    at_prior: float


class Forward(Protocol):
    """The statistics of rows."""

    def __call__(self, logits: Tensor, request: Request) -> Parts: ...  # (N, C)


class Backward(Protocol):
    """The gradient of the logits in what was made of the statistics."""

    def __call__(
        self,
        logits: Tensor,  # (N, C)
        request: Request,
        stats: Parts,
        grads: Parts,
        out: Tensor | None = None,
        *,
        shift_free: bool = False,
    ) -> Tensor: ...  # (N, C)


class Combine(Protocol):
    """The combination in each row (N,), or with `total` its sum over the rows that count (), in one call.

    Beside it the call gives the maximum and ℓ of each row, (2, N), for `CombineBackward`.
    """

    def __call__(
        self, logits: Tensor, request: Request, combination: Combination, *, total: bool
    ) -> tuple[Tensor, Tensor]: ...


class CombineBackward(Protocol):
    """The gradient of the logits in a combination, as `Backward` gives it."""

    def __call__(
        self,
        logits: Tensor,  # (N, C)
        request: Request,
        combination: Combination,
        origins: Tensor,  # (2, N)
        upstream: Tensor,  # (N,), or () for the sum
        out: Tensor | None,
    ) -> Tensor: ...


class Empty(Protocol):
    """Uninitialised memory of a shape and dtype on the device of a tensor."""

    def __call__(self, like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor: ...


def new_empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Allocate as torch does."""
    return like.new_empty(shape, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A way to compute row statistics: two functions that all have, and members that some have.

    Attributes:
        forward, backward: the statistics, and the gradient of what was made of them.
        unavailable: why the backend cannot serve a device, in words; None where it can.
        kernels: what it is made of, in words.
        combine, combine_backward: both in one call each, for losses that are the same `Combination` in every
            row; None for a backend that has no such calls.
        empty: how large buffers are allocated.
        three_dimensional: whether logits may be (A, B, C), the A·B rows of which need not have one stride:
            pixels of images are then taken where they lie.
    """

    forward: Forward
    backward: Backward
    unavailable: Callable[[torch.device], str | None]
    kernels: str
    combine: Combine | None = None
    combine_backward: CombineBackward | None = None
    empty: Empty = new_empty
    three_dimensional: bool = False
