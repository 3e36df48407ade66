"""The base class of smoothings, rules that turn labels into mixtures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from labelsmooth.checks import as_classes, plain, require_classes, require_num_classes, require_tensor
from labelsmooth.errors import InputError
from labelsmooth.mixture import Mixture, finite_scale
from labelsmooth.smoothing.values import at_least_float32


class Smoothing(ABC):
    """A rule that turns targets into mixtures; `uniform`, `others`, `prior` and their kin make them.

    A rule of one's own is a subclass with two methods: `mixture` for labels, and `smooth_rows` for dense
    targets. The losses take it as `label_smoothing` like any other.

    Example:
        >>> class Neighbours(Smoothing):  # ordered classes: ε/2 for each neighbour, at an end ε for the one
        ...     def __init__(self, eps: float) -> None:
        ...         self.eps = eps
        ...
        ...     def mixture(self, target: Tensor, num_classes: int) -> Mixture:
        ...         below = torch.where(target > 0, target - 1, 1)
        ...         above = torch.where(target < num_classes - 1, target + 1, num_classes - 2)
        ...         weight = torch.tensor([1 - self.eps, self.eps / 2, self.eps / 2])
        ...         return Mixture(index=torch.stack([target, below, above], -1), weight=weight)
        ...
        ...     def smooth_rows(self, rows: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        ...         table = self.mixture(torch.arange(num_classes), num_classes).dense(num_classes)
        ...         table = table - (1 - self.eps) * torch.eye(num_classes)
        ...         return (1 - self.eps) * rows, rows @ table.to(rows)
        >>> Neighbours(0.2)(torch.tensor([2, 0]), 4).dense(4)
        tensor([[0.0000, 0.1000, 0.8000, 0.1000],
                [0.8000, 0.2000, 0.0000, 0.0000]])
        >>> Neighbours(0.2)(torch.tensor([[0.5, 0.5, 0.0, 0.0]]), 4).dense(4)
        tensor([[0.4500, 0.5000, 0.0500, 0.0000]])
    """

    def __call__(self, target: Tensor, num_classes: int) -> Mixture:
        """Smooth the targets.

        Args:
            target: class indices (…,) in 0..K−1, or dense rows (…, K) of any mass.
            num_classes: K ≥ 2.

        Returns:
            A `Mixture` of batch shape (…). A dense row d becomes (1−ε)·d + ε·π, as in torch.

        Raises:
            TypeError: `target` holds neither integers nor floating-point rows.
            ValueError: a class out of range, rows of the wrong length, or a prior of another length than K.
        """
        require_num_classes(num_classes)
        self.check_num_classes(num_classes)
        require_tensor(target, "target")
        if target.is_floating_point():
            return self.smooth_dense(target, num_classes)
        index = as_classes(target, "target")
        require_classes(index, num_classes, "target")
        return self.smooth_labels(index, num_classes)

    def smooth_labels(self, target: Tensor, num_classes: int) -> Mixture:
        """Smooth int64 class indices (…,) that were checked already."""
        self.check_num_classes(num_classes)
        return self.for_rows(target.shape).mixture(target, num_classes)

    def smooth_dense(self, target: Tensor, num_classes: int, finite: Tensor | None = None) -> Mixture:
        """Smooth dense rows (…, K), with the smoothing mass on the `finite` classes only."""
        if target.dim() == 0 or target.shape[-1] != num_classes:
            raise InputError(f"dense targets must have shape (…, {num_classes}), got {tuple(target.shape)}")
        rows = target.shape[:-1]
        target = at_least_float32(plain(target))
        kept, spread = self.for_rows(rows).smooth_rows(target, num_classes)
        if finite is not None:
            spread = spread.expand(target.shape)
            scale = finite_scale(spread, finite, target.dtype).unsqueeze(-1)
            spread = torch.where(finite, spread * scale, 0)
        return Mixture(
            prior=(kept + spread).reshape(-1, num_classes),
            prior_weight=1.0,
            prior_row=torch.arange(rows.numel(), device=target.device).reshape(rows),
        )

    @abstractmethod
    def mixture(self, target: Tensor, num_classes: int) -> Mixture:
        """Make the mixture of checked labels.

        Args:
            target: (…,) int64 in 0..K−1.
            num_classes: K, for which `check_num_classes` raised nothing.

        Returns:
            A `Mixture` of batch shape (…).
        """

    @abstractmethod
    def smooth_rows(self, rows: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Smooth dense targets.

        Args:
            rows: (…, K) in at least float32.
            num_classes: K.

        Returns:
            What the targets keep of themselves, and the smoothing mass, whose sum is the smoothed target. The
            mass has the shape of `rows` or broadcasts to it; with support="finite" it alone is moved to the
            finite classes.
        """

    def check_num_classes(self, num_classes: int) -> None:  # noqa: B027
        """Raise `ValueError` where the rule itself does not fit K classes; by default it fits all."""

    def for_rows(self, rows: torch.Size) -> Smoothing:  # noqa: ARG002
        """Return the rule for rows (…): by default itself.

        Raises:
            ValueError: the rule has values for each row, and these are other rows.
        """
        return self

    def exclude(self, classes: Iterable[int]) -> Smoothing:  # noqa: ARG002
        """Return the same smoothing with no smoothing mass on `classes`, the rest renormalised.

        The excluded classes stay in the softmax, and a row labelled with one keeps its share of the target.

        Args:
            classes: class indices ≥ 0, e.g. a padding token's.

        Raises:
            ValueError: a negative class, no class left to carry the mass, or a rule that cannot exclude.
        """
        raise InputError(f"{self} cannot exclude classes")

    def to_uniform(self, num_classes: int) -> float | Tensor:  # noqa: ARG002
        """Return the ε′ for which `uniform(ε′)` gives the same targets.

        Args:
            num_classes: K ≥ 2.

        Returns:
            ε′, at most 1, and at least 0 but for a signed `uniform`; a number or a tensor as `eps` is.

        Raises:
            ValueError: no uniform smoothing gives these targets.
        """
        raise InputError(f"no uniform smoothing is known to give the targets of {self}")
