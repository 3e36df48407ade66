"""What every backend is asked and what it answers.

A backend is a module with the two functions of `Backend`, over rows that were checked already.

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

from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


class Backend(Protocol):
    """The two functions of a backend: the statistics, and the gradient of what was made of them."""

    def forward(self, logits: Tensor, request: Request) -> Parts: ...

    def backward(
        self,
        logits: Tensor,  # (N, C)
        request: Request,
        stats: Parts,
        grads: Parts,
        out: Tensor | None = None,
        *,
        shift_free: bool = False,
    ) -> Tensor: ...  # (N, C)
