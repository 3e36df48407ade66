"""The smoothed cross-entropy of sigmoids, for labels that hold or not each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.backends import BACKENDS, Backend, hindrance, select, statistics_dtype
from labelsmooth.checks import (
    as_classes,
    can_look,
    is_batched,
    is_traced,
    plain,
    require,
    require_classes,
    require_int,
    require_logits,
    require_number,
    require_tensor,
)
from labelsmooth.errors import InputError
from labelsmooth.losses.row_loss import Reduction, times
from labelsmooth.losses.targets import (
    Denominator,
    ReductionName,
    Settings,
    check_device,
    check_weight,
    inverse,
    number_of,
)
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats, row_stats
from labelsmooth.smoothing import BinarySmoothing, as_binary_smoothing


@overload
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    reduction: ReductionName = ...,
    pos_weight: Tensor | None = ...,
    label_smoothing: float | Tensor | BinarySmoothing = ...,
    *,
    class_axis: int = ...,
    ignore_index: float | None = ...,
    row_weight: Tensor | None = ...,
    denominator: Denominator = ...,
    return_stats: Literal[False] = ...,
) -> Tensor: ...
@overload
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    reduction: ReductionName = ...,
    pos_weight: Tensor | None = ...,
    label_smoothing: float | Tensor | BinarySmoothing = ...,
    *,
    class_axis: int = ...,
    ignore_index: float | None = ...,
    row_weight: Tensor | None = ...,
    denominator: Denominator = ...,
    return_stats: bool = ...,
) -> Tensor | tuple[Tensor, RowStats]: ...
def binary_cross_entropy_with_logits(
    input: Tensor,  # (N, K, d1, ...), (N,) or ()
    target: Tensor | Mixture,  # as input, or class indices (N, d1, ...)
    weight: Tensor | None = None,  # broadcasts to input
    reduction: ReductionName = "mean",
    pos_weight: Tensor | None = None,  # broadcasts to input
    label_smoothing: float | Tensor | BinarySmoothing = 0.0,
    *,
    class_axis: int = 1,
    ignore_index: float | None = None,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    denominator: Denominator = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy of sigmoids against smoothed labels, in nats; a drop-in for torch's function.

    The loss of a logit z with the smoothed label y′ is −p·y′·log σ(z) − (1−y′)·log σ(−z), with p its
    `pos_weight`, times its `weight`.

    Args:
        input: logits z of any shape, with the K labels of a row on `class_axis`; of (N,) and () each is a
            row. float16, bfloat16, float32 or float64.
        target: y in [0, 1] (or `ignore_index`) of the shape of `input`, also integers or bools; class indices
            of the shape without the class axis, of which that one label holds; or a `Mixture` of that batch
            shape, whose q is taken for y′ as it is.
        weight: factors that broadcast to the logits, as in torch.
        reduction: "none", "sum", or "mean", which divides the sum by `denominator`.
        pos_weight: p, factors on the part of y′ that broadcast to the logits, such as (K,).
        label_smoothing: ε of `half`, y′ = (1−ε)·y + ε/2, or a `binary_convention`; a tensor ε broadcasts to
            the logits. Not with a `Mixture`.
        class_axis: of the labels of a row: 1 as in torch, −1 for (B, T, K).
        ignore_index: logits with this label, or rows with this class index, have no loss and no gradient.
        row_weight: (N, d1, …) factors on the rows' losses; a row with 0 does not count.
        denominator: of the mean. None: the number of logits that count, as in torch. "rows": the number of
            rows. "valid": of rows with a logit that counts. Or a positive number or a 0-d tensor.
        return_stats: also return the detached `RowStats` of each logit, as a row of the two classes "does not
            hold" and "holds" with the logits 0 and z, labelled by y ≥ ½: accuracy, NLL and calibration
            follow with no second pass.

    Returns:
        The loss: a scalar, or of the shape of `input` for "none", with 0 for logits that do not count.
        float64 for float64 logits, else float32. With `return_stats`, (loss, stats). The loss is 0 with a
        zero gradient where no logit counts.

    Raises:
        TypeError: a dtype that does not fit its meaning, or a `Smoothing` of a softmax.
        ValueError: shapes that do not fit, labels outside [0, 1], a class or ε out of range, NaN in weights.

    Cost: some passes over the logits in float32, and the backward reads them and the labels once more.

    Example:
        >>> logits, labels = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1.0, 0.0, 1.0]])
        >>> binary_cross_entropy_with_logits(logits, labels, label_smoothing=0.1)
        tensor(0.3631)

    Source: Keras, `BinaryCrossentropy(label_smoothing=…)`. Departs from torch: labels outside [0, 1] raise,
    half-precision logits give a float32 loss, and the loss of a logit of ±∞ whose label agrees is 0, not NaN.
    """
    settings = Settings(reduction=reduction, row_weight=row_weight, denominator=denominator)
    settings.check()
    input = plain(input)
    require_logits(input, "input")
    require_int(class_axis, "class_axis")
    if input.dim() >= 2 and not -input.dim() <= class_axis < input.dim():
        raise InputError(f"input has no axis {class_axis}, got shape {tuple(input.shape)}")
    axis = class_axis % input.dim() if input.dim() >= 2 else None
    rows = _Rows(input.shape, axis)
    check_device(input.device, target=target, weight=weight, pos_weight=pos_weight, row_weight=row_weight)
    check_weight("row_weight", row_weight, rows.shape)
    dtype = statistics_dtype(input)
    factors = {
        name: None if value is None else _factors(name, plain(value), input.shape).to(dtype)
        for name, value in (("weight", weight), ("pos_weight", pos_weight))
    }
    labels, counted = _labels(target, rows, ignore_index, dtype)
    if isinstance(target, Mixture):
        if isinstance(label_smoothing, BinarySmoothing | Tensor) or label_smoothing != 0:
            raise InputError("a Mixture target is smoothed already, got label_smoothing as well")
        smoothed = labels
    else:
        smoothed = _smoothed(labels, rows, label_smoothing)
    if row_weight is not None:
        row_weight = rows.of_logits(plain(row_weight).to(dtype))
        nonzero = row_weight != 0
        counted = nonzero if counted is None else counted & nonzero
    logits = input.resolve_neg()
    if counted is not None:
        logits = torch.where(counted, logits, 0)  # what lies there may be NaN
    factor: float | Tensor = (
        rows.inverse_denominator(denominator, counted, dtype) if reduction == "mean" else 1.0
    )
    if row_weight is not None:
        factor = row_weight * factor
    reduce = Reduction(factor, total=reduction != "none")
    parts = (logits, smoothed, factors["pos_weight"])
    if factors["weight"] is not None:
        loss = reduce(_losses_of_logits(*parts) * factors["weight"], counted)
    elif counted is None and reduce.total and not isinstance(factor, Tensor):
        loss = factor * _losses_of_logits(*parts, total=True)
    else:
        loss = reduce(_losses_of_logits(*parts), counted)
    if not return_stats:
        return loss
    stats = row_stats(
        torch.stack([torch.zeros_like(logits), logits], -1).detach(),
        (labels >= 0.5).long().unsqueeze(-1),
        counted=counted,
        log_sum_sq=True,
        mean_logit=True,
    )
    return loss, stats


def _losses_of_logits(
    logits: Tensor, labels: Tensor, pos_weight: Tensor | None, *, total: bool = False
) -> Tensor:
    """Compute −p·y·log σ(z) − (1−y)·log σ(−z) of each logit, or their sum, where 0·∞ is 0."""
    if is_traced(logits) or hindrance(logits, None):
        losses = _losses(logits, labels, pos_weight)
        return losses.sum() if total else losses
    chosen, _ = select("auto", logits.device)
    result: Tensor = _SigmoidLoss.apply(logits, labels, pos_weight, total, BACKENDS[chosen])  # type: ignore[no-untyped-call]
    return result


class _SigmoidLoss(torch.autograd.Function):
    """`_losses` in one step of autograd, which keeps the logits and the labels and nothing else."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, pos_weight: Tensor | None, total: bool, backend: Backend
    ) -> Tensor:
        ctx.save_for_backward(logits, labels, pos_weight)
        ctx.kernel = backend.sigmoid_gradient
        if backend.sigmoid_losses is not None:
            return backend.sigmoid_losses(logits, labels, pos_weight, total=total)
        losses = _losses(logits, labels, pos_weight)
        return losses.sum() if total else losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad
        of_logits_once = needed[:3] == (True, False, False) and not torch.is_grad_enabled()
        if ctx.kernel is not None and of_logits_once and not is_batched(upstream):
            return ctx.kernel(*inputs, upstream), *(None,) * 4
        slopes = _slopes(*inputs, needed=needed)
        logits = inputs[0]
        gradients = [None if slope is None else upstream * slope for slope in slopes]
        if gradients[0] is not None:
            gradients[0] = gradients[0].to(logits.dtype)
        return *gradients, None, None


def _losses(logits: Tensor, labels: Tensor, pos_weight: Tensor | None) -> Tensor:
    logits = logits.to(labels.dtype)
    holds, fails = _parts(labels, pos_weight)
    return -times(holds, F.logsigmoid(logits)) - times(fails, F.logsigmoid(-logits))


def _parts(labels: Tensor, pos_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the factors of −log σ(z) and of −log σ(−z)."""
    return labels if pos_weight is None else pos_weight * labels, 1 - labels


def _slopes(
    logits: Tensor, labels: Tensor, pos_weight: Tensor | None, *, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the derivatives of the losses in z, y and p, by operations that torch differentiates."""
    of_logits = of_labels = of_pos_weight = None
    logits = logits.to(labels.dtype)
    if needed[0]:
        holds, fails = _parts(labels, pos_weight)
        of_logits = fails * logits.sigmoid() - holds * (-logits).sigmoid()
    if needed[1]:
        right = F.logsigmoid(logits)
        of_labels = F.logsigmoid(-logits) - (right if pos_weight is None else pos_weight * right)
    if needed[2]:
        of_pos_weight = -labels * F.logsigmoid(logits)
    return of_logits, of_labels, of_pos_weight


@dataclass(frozen=True)
class _Rows:
    """Which logits are of one row: those along an axis, or each by itself."""

    logits: torch.Size
    axis: int | None

    @property
    def shape(self) -> torch.Size:
        if self.axis is None:
            return self.logits
        return torch.Size(self.logits[: self.axis] + self.logits[self.axis + 1 :])

    @property
    def num_labels(self) -> int:
        return 1 if self.axis is None else self.logits[self.axis]

    def of_logits(self, value: Tensor) -> Tensor:
        """Return a value per row as one that broadcasts to the logits."""
        return value if self.axis is None else value.unsqueeze(self.axis)

    def inverse_denominator(
        self, denominator: Denominator, counted: Tensor | None, dtype: torch.dtype
    ) -> float | Tensor:
        """Return 1/denominator of a mean, or 0 where the denominator is 0."""
        if denominator == "rows":
            counted, total = None, self.shape.numel()
        elif denominator == "valid":
            total = self.shape.numel()
            if counted is not None and self.axis is not None:
                counted = counted.expand(self.logits).any(self.axis)
        elif denominator is None:
            total = self.logits.numel()
            counted = None if counted is None else counted.expand(self.logits)
        else:
            return inverse(denominator, dtype)
        return inverse(number_of(counted, total, dtype), dtype)


def _labels(
    target: Tensor | Mixture, rows: _Rows, ignore_index: float | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return the labels of the logits, 0 where they do not count, and which do; None where all do."""
    if ignore_index is not None:
        require_number(ignore_index, "ignore_index")
    if isinstance(target, Mixture):
        if rows.axis is None:
            raise InputError(f"a Mixture needs logits with an axis of labels, got shape {tuple(rows.logits)}")
        target.check(rows.num_labels)
        if target.batch_shape not in (rows.shape, torch.Size()):
            raise InputError(
                f"the Mixture must have batch shape {tuple(rows.shape)}, got {tuple(target.batch_shape)}"
            )
        dense = target.dense(rows.num_labels, dtype).movedim(-1, rows.axis)
        return dense.expand(rows.logits), None
    require_tensor(target, "target")
    target = plain(target)
    if target.shape == rows.logits:
        counted = None
        labels = target.to(dtype)
        if ignore_index is not None:
            counted = target != ignore_index
            labels = torch.where(counted, labels, 0)
        _require_shares(labels)
        return labels, counted
    if rows.axis is None or target.shape != rows.shape or target.is_floating_point():
        indices = "" if rows.axis is None else f", or {tuple(rows.shape)} for class indices"
        raise InputError(
            f"target must have shape {tuple(rows.logits)}{indices}, got {target.dtype} {tuple(target.shape)}"
        )
    index, counted = as_classes(target, "target"), None
    if ignore_index is not None:
        counted = rows.of_logits(index != ignore_index)
        index = torch.where(index == ignore_index, 0, index)
    require_classes(index, rows.num_labels, "target")
    labels = torch.zeros(rows.logits, dtype=dtype, device=target.device)
    return labels.scatter(rows.axis, rows.of_logits(index), 1.0), counted


def _smoothed(labels: Tensor, rows: _Rows, label_smoothing: float | Tensor | BinarySmoothing) -> Tensor:
    smoothing = as_binary_smoothing(label_smoothing)
    if isinstance(smoothing.eps, Tensor):
        _factors("eps", smoothing.eps, rows.logits)
    elif smoothing.eps == 0:
        return labels
    return smoothing(labels, rows.num_labels)


def _require_shares(labels: Tensor) -> None:
    """Raise `ValueError` for labels outside [0, 1]."""
    if can_look(labels) and labels.numel():
        least, most = labels.detach().aminmax()
        for extreme in (float(least), float(most)):
            if not 0 <= extreme <= 1:
                raise InputError(
                    f"labels must lie in [0, 1], got {extreme:g}; ignore_index= leaves out those of one value"
                )
        return
    require((labels >= 0) & (labels <= 1), lambda: "labels must lie in [0, 1]")


def _factors(name: str, value: Tensor, logits: torch.Size) -> Tensor:
    """Return factors expanded to the logits, or raise `ValueError` where they do not broadcast to them."""
    try:
        expanded = value.expand(logits)
    except RuntimeError:
        raise InputError(
            f"{name} must broadcast to the logits {tuple(logits)}, got shape {tuple(value.shape)}"
        ) from None
    check_weight(name, value, value.shape)
    return expanded
