"""Statistics of rows of logits, made in one pass, from which every loss and measure is computed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils import _pytree

from labelsmooth.backends import BackendName, Request, hindrance, op, origin_of, select
from labelsmooth.checks import as_classes, plain, require_classes, require_logits, require_num_classes
from labelsmooth.errors import InputError

Support = Literal["all", "finite"]
MeanName = Literal[
    "nll",
    "correct",
    "brier",
    "entropy",
    "confidence",
    "sum_sq",
    "log_probability",
    "lse",
    "max",
    "log_sum",
    "log_sum_sq",
    "mean_logit",
    "at_prior",
]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RowStats:
    """Statistics of rows of logits z, all relative to the row maximum m, and so exact at any offset.

    Where every logit of a row is −inf they are relative to 0. Rows that do not count (`counted` False) hold
    the statistics of a row of zeros; `accuracy` and `mean` leave them out. Shapes are those of the rows (…);
    floating-point values are float64 for float64 logits, else float32.

    Attributes:
        max: m = max z.
        argmax: the first class that reaches it, int64.
        log_sum: ℓ = log Σ exp(z−m).
        index: (…, J) the classes asked for, the row's label first; None without any.
        at_index: (…, J) a_j = z_{k_j} − m; −inf for a class outside the columns seen.
        seen: (…, J) whether the class lies in the columns seen, bool; None where these are all columns.
        at_prior: b = Σ_k π_k (z_k − m); None without a prior.
        prior_mass: Σ_k π_k over the columns that `at_prior` covers; 0-d or (…).
        log_sum_sq: log Σ exp 2(z−m); None unless asked for.
        mean_logit: Σ_k p_k (z_k − m); None unless asked for.
        mask: True where the row counts, bool; None where all do. `counted` is a tensor in either case.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
        >>> label, counted = torch.tensor([[0], [2], [0]]), torch.tensor([True, True, False])
        >>> stats = row_stats(logits, label, counted=counted)
        >>> stats
        RowStats((3,), torch.float32, cpu, with max, argmax, log_sum, index, at_index, mask)
        >>> stats.accuracy, stats.mean("nll")
        (tensor(0.5000), tensor(0.8955))
    """

    max: Tensor
    argmax: Tensor
    log_sum: Tensor
    index: Tensor | None = None
    at_index: Tensor | None = None
    seen: Tensor | None = None
    at_prior: Tensor | None = None
    prior_mass: Tensor | None = None
    log_sum_sq: Tensor | None = None
    mean_logit: Tensor | None = None
    mask: Tensor | None = None

    def __repr__(self) -> str:
        present = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return (
            f"RowStats({tuple(self.max.shape)}, {self.max.dtype}, {self.max.device}, "
            f"with {', '.join(present)})"
        )

    @property
    def counted(self) -> Tensor:
        """True where the row counts, bool (…); one value expanded where all rows do."""
        if self.mask is not None:
            return self.mask
        return torch.ones((), dtype=torch.bool, device=self.max.device).expand(self.max.shape)

    @property
    def accuracy(self) -> Tensor:
        """The share of correct rows among those that count, 0-d; NaN where no row counts."""
        return self.mean("correct")

    def mean(self, name: MeanName) -> Tensor:
        """The mean of a statistic over the rows that count, differentiable where the statistics are.

        Args:
            name: an attribute with one number a row: "nll", "correct", "brier", "entropy", "confidence",
                "sum_sq", "log_probability", "lse", "max", "log_sum", "log_sum_sq", "mean_logit" or
                "at_prior".

        Returns:
            0-d, in the dtype of `log_sum`; NaN where no row counts.

        Raises:
            ValueError: an unknown name, or a statistic that these were made without.

        Cost: a pass over one number a row, and no wait for a device.
        """
        if name not in get_args(MeanName):
            raise InputError(f"name must be one of {', '.join(get_args(MeanName))}, got {name!r}")
        values: Tensor | None = getattr(self, name)
        if values is None:
            raise InputError(f"these row statistics were made without {name}")
        values = values.to(self.log_sum.dtype)
        if self.mask is None:
            return values.mean()
        return torch.where(self.mask, values, 0).sum() / self.mask.sum()

    @property
    def lse(self) -> Tensor:
        """log Σ exp z = m + ℓ, in nats."""
        return self.max + self.log_sum

    @property
    def confidence(self) -> Tensor:
        """The largest probability, exp(−ℓ), in [1/K, 1]."""
        return (-self.log_sum).exp()

    @property
    def label(self) -> Tensor:
        """The row's label, the first of `index`; `ValueError` without one."""
        if self.index is None:
            raise InputError("these row statistics have no label, as they were made without index")
        return self.index[..., 0]

    @property
    def log_probability(self) -> Tensor:
        """log p_y of the label, a_y − ℓ, in nats; `ValueError` without one."""
        if self.at_index is None:
            raise InputError("these row statistics have no label, as they were made without index")
        return self.at_index[..., 0] - self.log_sum

    @property
    def nll(self) -> Tensor:
        """The label's negative log-likelihood ℓ − a_y, in nats, unsmoothed; 0 for rows that do not count."""
        return self._counting(-self.log_probability)

    @property
    def correct(self) -> Tensor:
        """True where the label has the largest logit, bool; False for rows that do not count."""
        correct = self.argmax == self.label
        return correct if self.mask is None else correct & self.mask

    @property
    def sum_sq(self) -> Tensor:
        """Σ_k p_k², in [1/K, 1]; needs `log_sum_sq`."""
        if self.log_sum_sq is None:
            raise InputError("Σp² needs row statistics made with log_sum_sq=True")
        return (self.log_sum_sq - 2 * self.log_sum).exp()

    @property
    def brier(self) -> Tensor:
        """Brier score Σ_k (p_k − [k=y])² = 1 − 2p_y + Σp², in [0, 2]; 0 for rows that do not count.

        Needs `log_sum_sq`.
        """
        return self._counting(1 - 2 * self.log_probability.exp() + self.sum_sq)

    @property
    def entropy(self) -> Tensor:
        """Entropy of the prediction, ℓ − Σ p (z−m), in nats; needs `mean_logit`."""
        if self.mean_logit is None:
            raise InputError("the entropy needs row statistics made with mean_logit=True")
        return self.log_sum - self.mean_logit

    def _counting(self, values: Tensor) -> Tensor:
        return values if self.mask is None else torch.where(self.mask, values, 0)

    def detach(self) -> RowStats:
        """Detach the statistics from the graph that made them."""
        detached: RowStats = _pytree.tree_map(Tensor.detach, self)
        return detached

    def merge(self, other: RowStats) -> RowStats:
        """The statistics of the columns of both (column blocks, vocabulary shards); associative to rounding.

        Args:
            other: statistics of the same rows over other columns, made with the same options.

        Returns:
            `RowStats` of all the columns.

        Raises:
            ValueError: the two were made for other rows or with other options.

        Example:
            >>> z = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
            >>> left = row_stats(z[:, :2], num_classes=4)
            >>> right = row_stats(z[:, 2:], num_classes=4, first_class=2)
            >>> torch.equal(left.merge(right).lse, z.logsumexp(-1))
            True
        """
        for field in fields(self):
            if (getattr(self, field.name) is None) != (getattr(other, field.name) is None):
                raise InputError(f"only one of the two row statistics to merge has {field.name}")
        if self.max.shape != other.max.shape:
            raise InputError(
                "row statistics to merge must be of the same rows, "
                f"got {tuple(self.max.shape)} and {tuple(other.max.shape)}"
            )
        tie = self.max == other.max
        ours = (self.max > other.max) | (tie & (self.argmax <= other.argmax)) | self.max.isnan()
        new_max = torch.where(ours, self.max, other.max)
        shift, other_shift = (origin_of(old) - origin_of(new_max) for old in (self.max, other.max))
        log_sums = self.log_sum + shift, other.log_sum + other_shift
        log_sum = _logaddexp(*log_sums)

        at_index = seen = at_prior = prior_mass = log_sum_sq = mean_logit = None
        if self.at_index is not None and other.at_index is not None:
            if self.seen is None or other.seen is None:
                raise InputError("only blocks of columns merge, got row statistics of all columns")
            seen = self.seen | other.seen
            at_index = torch.where(
                self.seen,
                self.at_index + shift.unsqueeze(-1),
                other.at_index + other_shift.unsqueeze(-1),
            )
        if self.at_prior is not None and other.at_prior is not None:
            assert self.prior_mass is not None
            assert other.prior_mass is not None
            at_prior = (
                self.at_prior + self.prior_mass * shift + other.at_prior + other.prior_mass * other_shift
            )
            prior_mass = self.prior_mass + other.prior_mass
        if self.log_sum_sq is not None and other.log_sum_sq is not None:
            log_sum_sq = _logaddexp(self.log_sum_sq + 2 * shift, other.log_sum_sq + 2 * other_shift)
        if self.mean_logit is not None and other.mean_logit is not None:
            share, other_share = ((part - origin_of(log_sum)).exp() for part in log_sums)
            mean_logit = share * (self.mean_logit + shift) + other_share * (other.mean_logit + other_shift)
        return RowStats(
            max=new_max,
            argmax=torch.where(ours, self.argmax, other.argmax),
            log_sum=log_sum,
            index=self.index,
            at_index=at_index,
            seen=seen,
            at_prior=at_prior,
            prior_mass=prior_mass,
            log_sum_sq=log_sum_sq,
            mean_logit=mean_logit,
            mask=self.mask,
        )


def row_stats(
    logits: Tensor,  # (..., K)
    index: Tensor | None = None,  # (..., J)
    prior: Tensor | Literal["uniform"] | None = None,  # (K,) or (P, K)
    *,
    prior_row: Tensor | None = None,  # (...)
    counted: Tensor | None = None,  # (...)
    num_classes: int | None = None,
    first_class: int = 0,
    support: Support = "all",
    log_sum_sq: bool = False,
    mean_logit: bool = False,
    backend: BackendName = "auto",
) -> RowStats:
    """The statistics of each row of logits, differentiable to any order.

    Gradients are those of the values in `RowStats`: of max e_m, of log_sum p − e_m, of at_index e_k − e_m, of
    at_prior π − Σπ·e_m, of log_sum_sq 2(p² / Σp² − e_m), of mean_logit p(1+z−m−mean) − e_m.

    Args:
        logits: (…, K) float16, bfloat16, float32 or float64; the class axis is last.
        index: (…, J) classes in 0..K−1 to read; the first is the label that `RowStats.nll` and its like use.
        prior: "uniform", a vector (K,), or a table (P, K); None for none.
        prior_row: (…) each row's row in a table.
        counted: (…) bool; rows with False are not read, and get no gradient.
        num_classes: K where `logits` are only some of the columns; None where they are all.
        first_class: the class of `logits[..., 0]`, in a block of columns. `prior` then covers the block.
        support: "finite" leaves classes whose logit is −inf out of `at_prior` and `prior_mass`.
        log_sum_sq: True for log Σ exp 2(z−m), which Σp² needs.
        mean_logit: True for Σ p (z−m), which the entropy needs.
        backend: "auto", "reference", "cpu" or "gpu"; auto takes the reference where the kernels cannot serve.

    Returns:
        `RowStats` of shape (…), float64 for float64 logits, else float32.

    Raises:
        TypeError: a dtype that is not one of those above.
        ValueError: shapes that do not fit, or an index out of range (on a GPU the device reports it later).

    Cost: on a CPU and a GPU one read of the logits, and in the backward one more and a write of the gradient.
        On the reference about six passes and three tensors of the size of the logits, one more where rows may
        not count; two more for a prior vector, four for a table, of which it gathers a row for each row.

    Example:
        >>> stats = row_stats(torch.tensor([[2.0, 0.0, 0.0]]), index=torch.tensor([[0]]))
        >>> stats.nll, stats.confidence, stats.correct
        (tensor([0.2395]), tensor([0.7870]), tensor([True]))
    """
    logits, prior, counted = plain(logits), plain(prior), plain(counted)
    require_logits(logits, "logits")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise InputError(f"logits must have shape (…, K), got {tuple(logits.shape)}")
    rows, columns = logits.shape[:-1], logits.shape[-1]
    if num_classes is None:
        num_classes = columns
    _require_block(columns, num_classes, first_class)
    require_support(support)
    if index is not None:
        index = as_classes(index, "index")
        if index.shape[:-1] != rows or index.dim() == 0:
            raise InputError(f"index must have shape {(*rows, 'J')}, got {tuple(index.shape)}")
        require_classes(index, num_classes, "index")
    prior_row = _check_prior(prior, prior_row, rows, columns)
    if counted is not None and (counted.shape != rows or counted.dtype != torch.bool):
        raise InputError(
            f"counted must be bool of shape {tuple(rows)}, got {counted.dtype} {tuple(counted.shape)}"
        )

    for name, value in (("index", index), ("prior", prior), ("prior_row", prior_row), ("counted", counted)):
        if isinstance(value, Tensor) and value.device != logits.device:
            raise InputError(
                f"{name} must be on the device of the logits, {logits.device}, got {value.device}"
            )
    logits = logits.resolve_neg()
    chosen, _ = select(backend, logits.device, hindrance(logits, prior))
    request = Request(
        index=index,
        prior=prior,
        prior_row=prior_row,
        counted=counted,
        num_classes=num_classes,
        first_class=first_class,
        finite_support=support == "finite",
        log_sum_sq=log_sum_sq,
        mean_logit=mean_logit,
    )
    return RowStats(index=index, mask=counted, **op.row_stats(logits, request, chosen)._asdict())


def _require_block(columns: int, num_classes: int, first_class: int) -> None:
    """Raise `ValueError` unless the columns are a block of the classes."""
    require_num_classes(num_classes)
    if columns > num_classes:
        raise InputError(f"logits must have at most num_classes = {num_classes} columns, got {columns}")
    if not 0 <= first_class <= num_classes - columns:
        raise InputError(
            f"a block of {columns} of {num_classes} classes must start at 0..{num_classes - columns}, "
            f"got {first_class}"
        )


def _check_prior(
    prior: Tensor | str | None, prior_row: Tensor | None, rows: torch.Size, columns: int
) -> Tensor | None:
    """Return `prior_row` as int64, or raise `ValueError` where it or the prior does not fit the logits."""
    if isinstance(prior, Tensor):
        if prior.dim() not in (1, 2) or prior.shape[-1] != columns:
            raise InputError(f"prior must be ({columns},) or (P, {columns}), got {tuple(prior.shape)}")
    elif prior not in (None, "uniform"):
        raise InputError(f"prior must be a tensor, 'uniform' or None, got {prior!r}")
    if (isinstance(prior, Tensor) and prior.dim() == 2) != (prior_row is not None):
        raise InputError("prior_row goes with a (P, K) prior, and only with one")
    if not isinstance(prior, Tensor) or prior_row is None:
        return None
    prior_row = as_classes(prior_row, "prior_row")
    if prior_row.shape != rows:
        raise InputError(f"prior_row must have shape {tuple(rows)}, got {tuple(prior_row.shape)}")
    require_classes(prior_row, prior.shape[0], "prior_row")
    return prior_row


def require_support(support: str) -> None:
    """Raise `ValueError` unless `support` is "all" or "finite"."""
    if support not in ("all", "finite"):
        raise InputError(f"support must be 'all' or 'finite', got {support!r}")


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """Return log(exp a + exp b), with a gradient of 0 where both are −inf; torch's has NaN there."""
    nothing = (a == -torch.inf) & (b == -torch.inf)
    zero = torch.zeros_like(a)
    return torch.where(
        nothing, -torch.inf, torch.logaddexp(torch.where(nothing, zero, a), torch.where(nothing, zero, b))
    )


# RowStats go in and out of torch.func transforms and compiled functions as their tensors do.
def _flatten(stats: RowStats) -> tuple[list[Any], Any]:
    present = tuple(f.name for f in fields(stats) if getattr(stats, f.name) is not None)
    return [getattr(stats, name) for name in present], present


def _unflatten(values: Any, context: Any) -> RowStats:
    return RowStats(**dict(zip(context, values, strict=True)))


_pytree.register_pytree_node(RowStats, _flatten, _unflatten, serialized_type_name="labelsmooth.RowStats")
