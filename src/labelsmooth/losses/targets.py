"""The arguments that all losses share: their checks, and the targets of rows that are made of them."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from labelsmooth.backends import Request, statistics_dtype
from labelsmooth.checks import (
    as_classes,
    can_look,
    classes_last,
    plain,
    require,
    require_classes,
    require_factor,
    require_int,
    require_logits,
    require_no_dtensor,
    require_no_nan,
    require_num_classes,
    require_tensor,
    stacklevel_of_caller,
)
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.losses.row_loss import Reduction, RowLoss
from labelsmooth.mixture import Mixture, finite_scale, take_rows
from labelsmooth.row_stats import Support, require_support
from labelsmooth.smoothing import Smoothing, as_eps, as_smoothing

ReductionName = Literal["none", "mean", "sum"]
Denominator = float | Tensor | Literal["rows", "valid"] | None


class Settings(NamedTuple):
    """The settings that the losses share, as `cross_entropy` documents them."""

    weight: Tensor | None = None  # (K,)
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float | Smoothing = 0.0
    row_weight: Tensor | None = None  # (...)
    z_loss: float | Tensor = 0.0
    denominator: Denominator = None
    support: Support = "all"

    def check(self) -> None:
        """Raise `TypeError` or `ValueError` for a setting that no logits could make right."""
        if self.reduction not in ("none", "mean", "sum"):
            raise InputError(f"reduction must be 'none', 'mean' or 'sum', got {self.reduction!r}")
        require_int(self.ignore_index, "ignore_index")
        require_factor(self.z_loss, "z_loss")
        self._check_denominator()
        require_support(self.support)

    def _check_denominator(self) -> None:
        denominator = self.denominator
        if denominator is None:
            return
        if self.reduction != "mean":
            raise InputError(f"a denominator goes with reduction='mean', got reduction={self.reduction!r}")
        if isinstance(denominator, Tensor):
            if denominator.dim() != 0:
                raise InputError(f"a tensor denominator must be 0-d, got shape {tuple(denominator.shape)}")
            require(denominator >= 0, lambda: f"denominator must not be negative, got {float(denominator)}")
        elif isinstance(denominator, str):
            if denominator not in ("rows", "valid"):
                raise InputError(
                    "denominator must be a number, a 0-d tensor, 'rows', 'valid' or None, "
                    f"got {denominator!r}"
                )
        elif not denominator > 0:
            raise InputError(f"denominator must be positive, got {denominator}")


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The checked targets of rows of batch shape (…), in whichever form they were given."""

    rows: torch.Size
    num_classes: int
    mixture: Mixture
    counted: Tensor | None  # (...), bool; None where every row counts
    labels: Tensor | None  # (...), where the targets were class indices
    settings: Settings  # with the class and row weights in `dtype`
    support: Support  # of the statistics: "all" where the mixture holds the finite support already
    dtype: torch.dtype  # of the losses

    def flat(self) -> Targets:
        """Return the targets with one batch dimension (N,)."""
        counted, labels, row_weight = (
            None if part is None else part.reshape(-1)
            for part in (self.counted, self.labels, self.settings.row_weight)
        )
        return replace(
            self,
            rows=torch.Size((self.rows.numel(),)),
            mixture=self.mixture.flat(self.rows),
            counted=counted,
            labels=labels,
            settings=self.settings._replace(row_weight=row_weight),
        )

    def request(self, *, every_statistic: bool) -> Request:
        """Return the request of what the loss needs; with `every_statistic` of all that `RowStats` holds."""
        index, prior_row = self.mixture.index, self.mixture.prior_row
        prior: Tensor | Literal["uniform"] | None = None
        if self.mixture.prior_weight is not None:
            prior = "uniform" if self.mixture.prior is None else self.mixture.prior
        if index is not None and index.dim() <= len(self.rows):
            index = index.expand(*self.rows, index.shape[-1])
        return Request(
            index=index,
            prior=prior,
            prior_row=None if prior_row is None else prior_row.expand(self.rows),
            counted=self.counted,
            num_classes=self.num_classes,
            first_class=0,
            finite_support=self.support == "finite",
            log_sum_sq=every_statistic,
            mean_logit=every_statistic,
        )

    def row_loss(self) -> RowLoss:
        """Return the cross-entropy of a row as a function of its statistics."""
        z_loss = self.settings.z_loss
        if isinstance(z_loss, Tensor):
            z_loss = plain(z_loss).to(self.dtype)
        unit_prior = self.mixture.prior is None and self.support == "all"
        return RowLoss(self.mixture, z_loss, unit_prior, self.dtype)

    def reduction(self, *, class_weights: bool = True) -> Reduction:
        """Return the reduction of the losses of rows.

        Args:
            class_weights: True where class weights are in the losses, so that a mean divides by their sum.
        """
        factor: float | Tensor = 1.0
        if self.settings.reduction == "mean":
            factor = self._inverse_denominator(class_weights)
        if self.settings.row_weight is not None:
            factor = self.settings.row_weight * factor
        return Reduction(factor, total=self.settings.reduction != "none")

    def _inverse_denominator(self, class_weights: bool) -> float | Tensor:
        """Return 1/denominator, or 0 where the denominator is 0."""
        denominator, weight, num_rows = self.settings.denominator, self.settings.weight, math.prod(self.rows)
        if denominator is None and self.labels is not None and weight is not None and class_weights:
            weights = take_rows(weight, self.labels)
            denominator = (weights if self.counted is None else torch.where(self.counted, weights, 0)).sum()
        elif denominator is None or denominator == "valid":
            denominator = number_of(self.counted, num_rows, self.dtype)
        elif denominator == "rows":
            denominator = max(num_rows, 1)
        return inverse(denominator, self.dtype)


def check_logits(
    input: Tensor,  # (N, K, d1, ...) or (K,), or with the classes on `class_axis`
    target: Tensor | Mixture,
    class_axis: int,
    settings: Settings,
) -> tuple[Tensor, Targets]:
    """Return the logits (…, K) and the targets of their rows, or raise what `cross_entropy` documents."""
    input = plain(input)
    require_no_dtensor(input, "input")
    require_logits(input, "input")
    if input.dim() == 0:
        raise InputError("input must have shape (K,), (N, K) or (N, K, d1, …), got ()")
    if class_axis == 1 and input.dim() == 1:
        class_axis = 0  # as in torch, one row has only its classes
    logits = classes_last(input.resolve_neg(), class_axis, "input")
    return logits, check_targets(
        target,
        settings,
        rows=logits.shape[:-1],
        num_classes=logits.shape[-1],
        class_axis=class_axis % input.dim(),
        device=input.device,
        dtype=statistics_dtype(logits),
        finite=logits.detach() > -torch.inf if settings.support == "finite" else None,
    )


def check_targets(
    target: Tensor | Mixture,
    settings: Settings,
    *,
    rows: torch.Size,
    num_classes: int,
    class_axis: int,  # of dense targets
    device: torch.device,
    dtype: torch.dtype,
    finite: Tensor | None,  # (..., K) bool, which logits are finite; None without support="finite"
) -> Targets:
    """Return the targets of rows of logits, or raise what `cross_entropy` documents."""
    require_num_classes(num_classes)
    settings.check()
    check_device(device, target=target, weight=settings.weight, row_weight=settings.row_weight)
    check_weight("weight", settings.weight, (num_classes,))
    check_weight("row_weight", settings.row_weight, rows)
    target, weight, row_weight = plain(target), plain(settings.weight), plain(settings.row_weight)
    support: Support = "all" if finite is None else "finite"
    counted: Tensor | None = None
    labels: Tensor | None = None
    if isinstance(target, Mixture):
        mixture = _check_mixture(target, settings, rows, num_classes)
        if finite is not None:
            mixture = _onto_finite(mixture, finite, dtype)
    else:
        require_tensor(target, "target")
        smoothing = as_smoothing(settings.label_smoothing)
        if target.is_floating_point():
            shape = torch.Size((*rows[:class_axis], num_classes, *rows[class_axis:]))
            if target.shape != shape:
                raise InputError(
                    f"dense targets must have shape {tuple(shape)}, as the logits, got {tuple(target.shape)}"
                )
            smoothing.check_num_classes(num_classes)
            _warn_if_multi_label(target, class_axis)
            mixture = smoothing.smooth_dense(target.movedim(class_axis, -1), num_classes, finite)
            support = "all"  # what is in the table now is target, of which −inf classes get their share
        else:
            target = as_classes(target, "target")
            if target.shape != rows:
                raise InputError(f"class indices must have shape {tuple(rows)}, got {tuple(target.shape)}")
            labels, counted = _counted_labels(target, settings.ignore_index, num_classes)
            mixture = smoothing.smooth_labels(labels, num_classes)
            if finite is not None:
                mixture = _onto_finite(mixture, finite, dtype)
    if row_weight is not None:
        row_weight = row_weight.to(dtype)
        nonzero = row_weight != 0
        counted = nonzero if counted is None else counted & nonzero
    if weight is not None:
        weight = weight.to(dtype)
        mixture = mixture.weighted(weight)
    settings = settings._replace(weight=weight, row_weight=row_weight)
    return Targets(rows, num_classes, mixture, counted, labels, settings, support, dtype)


def number_of(counted: Tensor | None, total: int, dtype: torch.dtype) -> int | Tensor:
    """Return how many count, at least 1: without one the sum is 0 already."""
    if counted is None:
        return max(total, 1)
    if can_look(counted):
        return max(int(counted.sum()), 1)
    return counted.sum(dtype=dtype).clamp(min=1)


def inverse(denominator: float | Tensor, dtype: torch.dtype) -> float | Tensor:
    """Return 1/denominator, or 0 where the denominator is 0."""
    if not isinstance(denominator, Tensor):
        return 1 / denominator
    denominator = plain(denominator).to(dtype)
    return torch.where(denominator == 0, 0, 1 / torch.where(denominator == 0, 1, denominator))


def check_weight(name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raise `TypeError` or `ValueError` unless the weights are real, of this shape and without NaN."""
    if value is None:
        return
    require_tensor(value, name)
    if value.is_complex():
        raise InputTypeError(f"{name} must be real, got {value.dtype}")
    if value.shape != shape:
        raise InputError(f"{name} must have shape {tuple(shape)}, got {tuple(value.shape)}")
    if value.is_floating_point():
        require_no_nan(value, name)


def check_device(device: torch.device, **arguments: Tensor | Mixture | None) -> None:
    """Raise unless the tensors are on the device of the logits, or 0-d ones on the CPU, and no DTensor."""
    for name, argument in arguments.items():
        parts = vars(argument) if isinstance(argument, Mixture) else {name: argument}
        for part, value in parts.items():
            require_no_dtensor(value, part)
            # as in torch, a 0-d tensor on the CPU is as good as a number
            if isinstance(value, Tensor) and value.device != device and (value.dim() or not value.is_cpu):
                raise InputError(f"{part} must be on the device of the logits, {device}, got {value.device}")


def _check_mixture(target: Mixture, settings: Settings, rows: torch.Size, num_classes: int) -> Mixture:
    """Return the mixture, or raise `ValueError` where it does not fit the rows or the other arguments."""
    label_smoothing = settings.label_smoothing
    if (
        isinstance(label_smoothing, Smoothing)
        or isinstance(as_eps(label_smoothing), Tensor)
        or label_smoothing != 0
    ):
        raise InputError("a Mixture target is smoothed already, got label_smoothing as well")
    target.check(num_classes)
    if target.batch_shape not in (rows, torch.Size()):
        raise InputError(f"the Mixture must have batch shape {tuple(rows)}, got {tuple(target.batch_shape)}")
    if settings.support == "finite" and target.prior_row is not None:
        raise InputError(
            "support='finite' cannot tell smoothing from target in a Mixture with a table of priors; "
            "give the labels and label_smoothing instead"
        )
    return target


def _warn_if_multi_label(target: Tensor, class_axis: int) -> None:
    """Warn of rows of zeros and several ones: labels that hold together, which no softmax tells apart.

    It looks at the first of a batch, since a pass over all would cost a tenth to a quarter of the loss.
    """
    if not can_look(target) or target.numel() == 0:
        return
    first = target.detach()[:32] if target.dim() > 1 else target.detach()
    if float(first.sum(class_axis).max()) > 1.5 and bool(((first == 0) | (first == 1)).all()):
        warnings.warn(
            "dense targets with several ones in a row are taken for one distribution of classes that exclude "
            "each other; for labels that hold together use binary_cross_entropy_with_logits, "
            "else let rows sum to 1 or give a labelsmooth.Mixture",
            stacklevel=stacklevel_of_caller(),
        )


def _counted_labels(target: Tensor, ignore_index: int, num_classes: int) -> tuple[Tensor, Tensor | None]:
    """Return the labels in 0..num_classes−1, 0 for ignored rows, and which rows count; None where all do."""
    if can_look(target) and target.numel():
        least, most = map(int, target.aminmax())
        if least >= 0 and most < num_classes and not least <= ignore_index <= most:
            return target, None  # a look saves a batch without ignored rows all that follows from a mask
    counted = target != ignore_index
    labels = torch.where(counted, target, 0)
    require_classes(labels, num_classes, "target")
    return labels, counted


def _onto_finite(mixture: Mixture, finite: Tensor, dtype: torch.dtype) -> Mixture:
    """Scale β row by row, so that the prior keeps its mass on the finite classes alone."""
    if mixture.prior_weight is None:
        return mixture
    prior = None if mixture.prior is None else mixture.prior_of_rows()
    return replace(mixture, prior_weight=mixture.prior_weight * finite_scale(prior, finite, dtype))
