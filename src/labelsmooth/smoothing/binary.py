"""Smoothing of labels that hold or not each by itself, the targets of sigmoids."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from labelsmooth.checks import PerRow, require
from labelsmooth.conventions import BinaryConvention, binary_conventions
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.smoothing.rule import Smoothing
from labelsmooth.smoothing.values import as_eps, at_least_float32, first_value, show_eps


@dataclass(frozen=True, eq=False, kw_only=True)
class BinarySmoothing:
    """A rule that smooths labels of sigmoids; `binary_convention` makes it, and a plain ε means `half`.

    Example:
        >>> import torch
        >>> binary_convention("full", 0.1)(torch.tensor([1.0, 0.0, 0.5]), 3)
        tensor([0.9000, 0.1000, 0.5000])
    """

    convention: BinaryConvention
    eps: float | Tensor

    def __repr__(self) -> str:
        return f"binary_convention({self.convention.same_as!r}, {show_eps(self.eps)})"

    def __call__(self, target: Tensor, num_labels: int) -> Tensor:
        """Smooth the labels.

        Args:
            target: y in [0, 1], 1 where a label holds, of any shape to which that of ε broadcasts.
            num_labels: K, how many labels share a row.

        Returns:
            off + (on − off)·y, of the shape of `target` and in at least float32.

        Raises:
            ValueError: one label a row in a convention that spreads over the others.
        """
        if self.convention.half_eps is None and num_labels < 2:
            raise InputError(
                f"{self} spreads over the labels of a row, which must be at least 2, got {num_labels}"
            )
        eps = self.eps.to(target.device) if isinstance(self.eps, Tensor) else self.eps
        off = self.convention.off_label(eps, num_labels)
        target = at_least_float32(target) if target.is_floating_point() else target.float()
        smoothed: Tensor = target * (self.convention.on_label(eps, num_labels) - off) + off
        return smoothed


def binary_convention(name: str, eps: PerRow) -> BinarySmoothing:
    """The smoothing that a published implementation applies to the labels of sigmoids, at its ε.

    Args:
        name: one of `binary_conventions()`.
        eps: ε as that implementation takes it, in [0, 1], of `full` and its like in [0, ½]; a number, or a
            tensor that broadcasts to the logits, such as one for each label (K,) or each row (N, 1).

    Returns:
        A `BinarySmoothing`, the `label_smoothing` of `binary_cross_entropy_with_logits`.

    Raises:
        TypeError: `eps` is neither a number nor a floating-point tensor.
        ValueError: an unknown name, or ε outside its range.

    Example:
        >>> import torch
        >>> binary_convention("keras", 0.1)(torch.tensor([1.0, 0.0]), 2)
        tensor([0.9500, 0.0500])

    Source: the implementations of these names.
    """
    known = binary_conventions()
    if name not in known:
        raise InputError(
            f"unknown convention of sigmoids {name!r}, expected one of {', '.join(sorted(known))}"
        )
    checked = as_eps(eps)
    half = known[name].half_eps
    if half is not None:  # beyond, a label that holds would have the lower target
        widest = half(checked)
        if isinstance(widest, Tensor):
            beyond = widest > 1
            require(
                ~beyond, lambda: f"eps of {name} must be in [0, 0.5], got {first_value(widest[beyond]) / 2}"
            )
        elif widest > 1:
            raise InputError(f"eps of {name} must be in [0, 0.5], got {checked}")
    return BinarySmoothing(convention=known[name], eps=checked)


def as_binary_smoothing(label_smoothing: PerRow | BinarySmoothing) -> BinarySmoothing:
    """Return a `label_smoothing` argument as a `BinarySmoothing`; a plain ε means `half`."""
    if isinstance(label_smoothing, Smoothing):
        raise InputTypeError(
            f"{label_smoothing} smooths classes that exclude each other; labels of sigmoids take a number, a "
            "binary_convention, or its mixture as the target"
        )
    if isinstance(label_smoothing, BinarySmoothing):
        return label_smoothing
    return binary_convention("half", label_smoothing)
