"""A smoothed target is a mixture: weights on a few classes plus a weight on a prior over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils.data._utils.collate import default_collate_fn_map

from labelsmooth.checks import require_classes, require_no_nan, require_tensor
from labelsmooth.errors import InputError, InputTypeError


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Mixture:
    """Targets of a batch of rows, q = Σ_j w_j·δ(k_j) + β·π, without the (…, K) table.

    The mass M = Σ_j w_j + β·Σ_k π_k need not be 1. Weights may be numbers, or tensors that broadcast to the
    shapes below. Rows share one prior, or each names its row in a table of priors: class-conditional
    smoothing is a table indexed by the label, a dense target is a table with one row per sample.

    It travels in batches as a tensor does: `.to`, `.pin_memory`, `mixture[rows]`, `len`, and `stack`, which a
    `DataLoader` collates mixtures with.

    Args:
        index: (…, J) int64 in 0..K−1; None for no such part.
        weight: the w_j, broadcasting to (…, J); given exactly when `index` is.
        prior: None (uniform over all K classes), a vector (K,), or a table (P, K).
        prior_weight: (…), the β; None for no prior part.
        prior_row: (…) int64 in 0..P−1, given exactly when `prior` is a table.

    Raises:
        TypeError: `index` or `prior_row` is not int64.
        ValueError: a part is missing its partner, or the shapes do not fit together.

    Example:
        >>> mixture = Mixture(index=torch.tensor([[2], [0]]), weight=0.9, prior_weight=0.1)
        >>> mixture.dense(4)
        tensor([[0.0250, 0.0250, 0.9250, 0.0250],
                [0.9250, 0.0250, 0.0250, 0.0250]])
    """

    index: Tensor | None = None  # (..., J)
    weight: Tensor | float | None = None  # (..., J)
    prior: Tensor | None = None  # None, (K,) or (P, K)
    prior_weight: Tensor | float | None = None  # (...)
    prior_row: Tensor | None = None  # (...)

    def __post_init__(self) -> None:
        if (self.index is None) != (self.weight is None):
            raise InputError("a Mixture takes index and weight together, got only one of them")
        if self.index is None and self.prior_weight is None:
            raise InputError("a Mixture needs index and weight, or prior_weight, or both; got neither")
        if self.prior is not None and self.prior_weight is None:
            raise InputError("a Mixture with a prior needs a prior_weight, got none")
        for name, value in (("index", self.index), ("prior", self.prior), ("prior_row", self.prior_row)):
            if value is not None:
                require_tensor(value, f"Mixture {name}")
            if value is not None and name != "prior" and value.dtype != torch.int64:
                raise InputTypeError(f"Mixture {name} must be int64, got {value.dtype}")
        if self.index is not None and self.index.dim() == 0:
            raise InputError("Mixture index must have shape (…, J), got a 0-d tensor")
        if self.prior is not None and self.prior.dim() not in (1, 2):
            raise InputError(f"Mixture prior must be (K,) or (P, K), got {tuple(self.prior.shape)}")
        if (self.prior is not None and self.prior.dim() == 2) != (self.prior_row is not None):
            raise InputError("Mixture prior_row goes with a (P, K) prior, and only with one")
        try:
            shape = self.batch_shape
            if isinstance(self.weight, Tensor) and self.index is not None:
                fits = _broadcast(self.weight.shape, self.index.shape) == self.index.shape
            else:
                fits = True
        except RuntimeError:  # torch's word for shapes that do not broadcast
            fits = False
        if not fits:
            raise InputError(
                "the parts of a Mixture must have the same batch shape, got "
                + ", ".join(
                    f"{name} {tuple(value.shape)}"
                    for name in ("index", "weight", "prior_weight", "prior_row")
                    if isinstance(value := getattr(self, name), Tensor)
                )
            )
        if self.index is not None and self.index.shape[:-1] != shape:
            raise InputError(f"Mixture index must have shape {(*shape, 'J')}, got {tuple(self.index.shape)}")

    def __repr__(self) -> str:
        parts = [f"{name}={_show(value)}" for name, value in vars(self).items() if value is not None]
        return f"Mixture({', '.join(parts)})"

    @property
    def device(self) -> torch.device | None:
        """The device of the tensors; None where all parts are numbers."""
        parts = (self.index, self.prior_row, self.prior, self.weight, self.prior_weight)
        return next((part.device for part in parts if isinstance(part, Tensor)), None)

    @property
    def batch_shape(self) -> torch.Size:
        """The shape (…) of the rows; () where every row has the same target."""
        shapes: list[torch.Size] = []
        if self.index is not None:
            shapes.append(self.index.shape[:-1])
        if isinstance(self.prior_weight, Tensor):
            shapes.append(self.prior_weight.shape)
        if self.prior_row is not None:
            shapes.append(self.prior_row.shape)
        return _broadcast(*shapes)

    def __len__(self) -> int:
        if not self.batch_shape:
            raise InputTypeError("a Mixture of a single row has no length")
        return self.batch_shape[0]

    def __getitem__(self, rows: Any) -> Mixture:
        """Return some of the rows.

        Args:
            rows: any index into a tensor of the batch shape (…).

        Example:
            >>> mixture = Mixture(index=torch.tensor([[2], [0], [1]]), weight=0.9, prior_weight=0.1)
            >>> mixture[1:].batch_shape, mixture[torch.tensor([True, False, False])].dense(3)
            (torch.Size([2]), tensor([[0.0333, 0.0333, 0.9333]]))
        """
        shape = self.batch_shape
        if not shape:
            raise IndexError("a Mixture of a single row cannot be indexed")
        positions = torch.arange(shape.numel(), device=self.device).reshape(shape)
        return self.flat(shape).rows(positions[rows])

    def to(self, *args: Any, **kwargs: Any) -> Mixture:
        """Move the tensors to another device, and the floating-point ones to another dtype.

        Takes what `torch.nn.Module.to` takes: `device`, `dtype`, `non_blocking`, or a tensor.

        Example:
            >>> Mixture(index=torch.tensor([[2]]), weight=torch.tensor([[1.0]])).to(torch.float64)
            Mixture(index=int64(1, 1), weight=float64(1, 1))
        """
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        if dtype is not None and not dtype.is_floating_point:
            raise InputTypeError(f"a Mixture has floating-point weights, got the dtype {dtype} for them")
        return self._map(
            lambda part: part.to(device, dtype if part.is_floating_point() else None, non_blocking)
        )

    def pin_memory(self) -> Mixture:
        """Copy the tensors to pinned memory, for a `DataLoader`."""
        return self._map(lambda part: part.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Mixture:
        """Return the mixture with `change` applied to each tensor."""
        changed: Mixture = _pytree.tree_map_only(Tensor, change, self)
        return changed

    @staticmethod
    def stack(mixtures: Sequence[Mixture]) -> Mixture:
        """Stack the mixtures of several rows, or of batches of equal shape (…), to batch shape (N, …).

        Args:
            mixtures: N ≥ 1, each with the same parts and the same J. A prior that all of them share is kept
                as it is, other priors become a table.

        Raises:
            ValueError: none given, or mixtures of different shapes or parts.

        Cost: the tensors of rows, and a comparison of the priors.

        Example:
            >>> rows = [Mixture(index=torch.tensor([k]), weight=0.9, prior_weight=0.1) for k in (2, 0)]
            >>> Mixture.stack(rows)
            Mixture(index=int64(2, 1), weight=0.9, prior_weight=0.1)
        """
        if not mixtures:
            raise InputError("there must be at least one Mixture to stack, got none")
        first = mixtures[0]
        for mixture in mixtures:
            if _layout(mixture) != _layout(first):
                raise InputError(
                    f"mixtures to stack must have equal parts and shapes, got {first} and {mixture}"
                )
        shape = first.batch_shape
        index_shape = shape if first.index is None else first.index.shape
        prior, prior_row = _stacked_priors(
            [m.prior for m in mixtures], [m.prior_row for m in mixtures], shape
        )
        return Mixture(
            index=None
            if first.index is None
            else torch.stack([m.index for m in mixtures if m.index is not None]),
            weight=_stacked_weights([m.weight for m in mixtures], index_shape, first.device),
            prior=prior,
            prior_weight=_stacked_weights([m.prior_weight for m in mixtures], shape, first.device),
            prior_row=prior_row,
        )

    def check(self, num_classes: int) -> None:
        """Raise `ValueError` unless the mixture is over `num_classes` classes."""
        if self.index is not None:
            require_classes(self.index, num_classes, "Mixture index")
        if self.prior is not None and self.prior.shape[-1] != num_classes:
            raise InputError(
                f"the prior must cover the {num_classes} classes, got one over {self.prior.shape[-1]}"
            )
        if self.prior is not None and self.prior_row is not None:
            require_classes(self.prior_row, self.prior.shape[0], "Mixture prior_row")
        for name, value in (("weight", self.weight), ("prior_weight", self.prior_weight)):
            if isinstance(value, Tensor):
                require_no_nan(value, f"Mixture {name}")

    def prior_of_rows(self) -> Tensor:
        """Return the prior, which is a tensor: (K,), or (…, K) where rows have different ones."""
        assert self.prior is not None
        return self.prior if self.prior_row is None else take_rows(self.prior, self.prior_row)

    def weighted(self, class_weight: Tensor) -> Mixture:  # (K,)
        """Multiply each class's share of the target by the weight of the class."""
        index, prior, prior_weight = self.index, self.prior, self.prior_weight
        if prior_weight is not None:
            prior = class_weight / class_weight.shape[0] if prior is None else prior * class_weight
        weight = None
        if index is not None and self.weight is not None:
            weight = self.weight * take_rows(class_weight, index)
        return replace(self, weight=weight, prior=prior)

    def flat(self, batch: torch.Size) -> Mixture:
        """Flatten the dimensions of `batch` to one; numbers stay numbers."""
        index_shape = batch if self.index is None else batch + self.index.shape[-1:]

        def flatten(value: Tensor, per_index: bool) -> Tensor:
            shape = index_shape if per_index else batch
            return value.expand(shape).reshape(-1, *shape[len(batch) :])

        return self._map_rows(flatten)

    def rows(self, chosen: slice | Tensor) -> Mixture:
        """Return some rows of a mixture with one batch dimension, as `flat` makes it."""
        return self._map_rows(lambda value, _: value[chosen])

    def _map_rows(self, change: Callable[[Tensor, bool], Tensor]) -> Mixture:
        """Return the mixture with `change` applied to each tensor of rows.

        Args:
            change: takes the tensor, and True where it is (…, J), False where it is (…).
        """
        parts = {"index": True, "weight": True, "prior_weight": False, "prior_row": False}
        values = {name: getattr(self, name) for name in parts}
        changed = {
            name: change(value, parts[name]) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)

    def dense(self, num_classes: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return the targets q as a table, to look at and for tests.

        Args:
            num_classes: K ≥ 2.
            dtype: the dtype of the table; None takes the widest among the parts, or torch's default dtype.

        Returns:
            (…, K).

        Raises:
            ValueError: an index or the prior does not fit `num_classes`.

        Cost: the table itself; the losses never make it.
        """
        self.check(num_classes)
        parts = [part for part in (self.weight, self.prior, self.prior_weight) if isinstance(part, Tensor)]
        if dtype is None:
            dtype = torch.get_default_dtype() if not parts else parts[0].dtype
            for part in parts:
                dtype = torch.promote_types(dtype, part.dtype)
        device = self.device
        q = torch.zeros((*self.batch_shape, num_classes), dtype=dtype, device=device)
        if self.index is not None:
            weight = torch.as_tensor(self.weight, dtype=dtype, device=device).expand(self.index.shape)
            q = q.scatter_add(-1, self.index, weight)
        if self.prior_weight is not None:
            if self.prior is None:
                prior = torch.full((num_classes,), 1 / num_classes, dtype=dtype, device=device)
            else:
                prior = self.prior_of_rows().to(dtype)
            q = q + torch.as_tensor(self.prior_weight, dtype=dtype, device=device).unsqueeze(-1) * prior
        return q


def finite_scale(prior: Tensor | None, finite: Tensor, dtype: torch.dtype) -> Tensor:
    """Return each row's factor that restores the mass of a prior which is cut to the finite classes.

    Args:
        prior: (K,) or (…, K); None for the uniform prior.
        finite: (…, K) bool, False where a class has the logit −inf.
        dtype: the dtype of the result, and of the sums.

    Returns:
        (…); 0 for rows that can reach no class with mass.
    """
    if prior is None:
        prior = torch.ones((), dtype=dtype, device=finite.device).expand(finite.shape[-1])
    prior = prior.to(dtype)
    left = torch.where(finite, prior, 0).sum(-1)
    return torch.where(left > 0, prior.sum(-1) / torch.where(left > 0, left, 1), 0)


def take_rows(table: Tensor, row: Tensor) -> Tensor:
    """Return `table[row]`, also for a single row under `torch.func.vmap`."""
    return table.index_select(0, row.reshape(-1)).reshape(row.shape + table.shape[1:])


def _broadcast(*shapes: torch.Size) -> torch.Size:
    if all(shape == shapes[0] for shape in shapes[1:]):
        return shapes[0] if shapes else torch.Size()
    shape: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return shape


def _show(part: Tensor | float) -> str:
    if not isinstance(part, Tensor):
        return f"{part:g}"
    return f"{str(part.dtype).removeprefix('torch.')}{tuple(part.shape)}"


def _layout(mixture: Mixture) -> tuple[Any, ...]:
    """Return what must be equal in mixtures that stack: the shapes of rows, and which parts are present."""
    index_shape = None if mixture.index is None else mixture.index.shape
    return (
        mixture.batch_shape,
        index_shape,
        [name for name, value in vars(mixture).items() if value is not None],
    )


def _stacked_weights(
    values: list[Tensor | float | None], shape: torch.Size, device: torch.device | None
) -> Tensor | float | None:
    """Stack weights to one tensor (N, *shape), or return the number that all of them are."""
    first = values[0]
    if all(not isinstance(value, Tensor) and value == first for value in values):
        return first
    dtype = next((value.dtype for value in values if isinstance(value, Tensor)), torch.float64)
    return torch.stack([torch.as_tensor(v, dtype=dtype, device=device).expand(shape) for v in values])


def _stacked_priors(
    priors: list[Tensor | None], rows: list[Tensor | None], shape: torch.Size
) -> tuple[Tensor | None, Tensor | None]:
    """Return the prior that all share, or a table of all of them, and each row's row in a table."""
    given = [prior for prior in priors if prior is not None]
    if not given:
        return None, None
    first = given[0]
    if all(prior is first or torch.equal(prior, first) for prior in given):
        return first, None if first.dim() == 1 else torch.stack([row for row in rows if row is not None])
    tables = [prior.reshape(-1, prior.shape[-1]) for prior in given]
    starts = accumulate((len(table) for table in tables[:-1]), initial=0)
    zero = torch.zeros(shape, dtype=torch.int64, device=first.device)
    return torch.cat(tables), torch.stack(
        [start + (zero if row is None else row) for start, row in zip(starts, rows, strict=True)]
    )


# Mixtures go in and out of torch.func transforms and compiled functions as their parts do.
def _flatten(mixture: Mixture) -> tuple[list[Any], Any]:
    present = {name: value for name, value in vars(mixture).items() if value is not None}
    absent = tuple((name, None) for name in vars(mixture) if name not in present)
    return list(present.values()), (tuple(present), absent)


def _unflatten(leaves: Any, context: Any) -> Mixture:
    present, absent = context
    mixture = object.__new__(Mixture)  # no checks: the leaves may be anything
    vars(mixture).update(zip(present, leaves, strict=True), **dict(absent))
    return mixture


def _collate(mixtures: list[Mixture], *, collate_fn_map: object = None) -> Mixture:  # noqa: ARG001
    return Mixture.stack(mixtures)


_pytree.register_pytree_node(Mixture, _flatten, _unflatten, serialized_type_name="labelsmooth.Mixture")
default_collate_fn_map[Mixture] = _collate
