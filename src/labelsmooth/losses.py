"""Smoothed cross-entropies: ordinary autograd on the row statistics."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from labelsmooth.backends import op
from labelsmooth.backends.contract import Parts, Request
from labelsmooth.backends.select import Backend, hindrance, require_backend, select
from labelsmooth.checks import (
    as_classes,
    can_look,
    is_traced,
    plain,
    require,
    require_classes,
    require_factor,
    require_logits,
    require_no_nan,
    require_num_classes,
    require_tensor,
)
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.feeds.linear import CHUNK_ROWS, Layer, linear_losses
from labelsmooth.mixture import Mixture, finite_scale, take_rows
from labelsmooth.row_loss import Reduction, RowLoss, of_logits
from labelsmooth.row_stats import RowStats, Support, require_support
from labelsmooth.smoothing import Smoothing, as_eps, as_smoothing

_log = logging.getLogger(__name__)

# what a module's call runs beside its forward
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

ReductionName = Literal["none", "mean", "sum"]
Denominator = float | Tensor | Literal["rows", "valid"] | None


@overload
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    row_weight: Tensor | None = ...,
    z_loss: float | Tensor = ...,
    denominator: Denominator = ...,
    support: Support = ...,
    return_stats: Literal[False] = ...,
    inplace_backward: bool = ...,
    backend: Backend = ...,
) -> Tensor: ...
@overload
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    row_weight: Tensor | None = ...,
    z_loss: float | Tensor = ...,
    denominator: Denominator = ...,
    support: Support = ...,
    return_stats: Literal[True],
    inplace_backward: bool = ...,
    backend: Backend = ...,
) -> tuple[Tensor, RowStats]: ...
def cross_entropy(
    input: Tensor,  # (N, K, d1, ...) or (K,)
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    z_loss: float | Tensor = 0.0,
    denominator: Denominator = None,
    support: Support = "all",
    return_stats: bool = False,
    inplace_backward: bool = False,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy of logits against smoothed targets, in nats; a drop-in for `F.cross_entropy`.

    A row's loss is M·ℓ − Σ_j w_j·a_j − β·b + z_loss·lse², in the symbols of `Mixture` and `RowStats`; but for
    the last term this is Σ_k q_k·(−log p_k), with class weights c Σ_k c_k·q_k·(−log p_k).

    Args:
        input: logits, (K,), (N, K) or (N, K, d1, …), float16, bfloat16, float32 or float64.
        target: class indices in 0..K−1 (or `ignore_index`) of the shape without the class axis; dense targets
            of the shape of `input`, of any mass; or a `Mixture` of batch shape (N, d1, …), taken as it is.
        weight: (K,) class weights c.
        ignore_index: rows with this class index have no loss and no gradient. For dense targets and mixtures
            use a `row_weight` of 0.
        reduction: "none", "sum", or "mean", which divides the sum by `denominator`.
        label_smoothing: ε of `uniform` in [0, 1], or a `Smoothing`; not with a `Mixture`.
        row_weight: (N, d1, …) factors on the rows' losses; a row with 0 does not count.
        z_loss: ≥ 0, the factor on the squared log-partition lse².
        denominator: of the mean. None: torch's, Σ c_y over the rows that count, or their number for dense
            targets and mixtures. "rows": the number of rows. "valid": of those that count. Or a positive
            number or a 0-d tensor, e.g. the number of tokens over all of a step's micro-batches.
        support: "all", or "finite", which moves the smoothing mass of classes whose logit is −inf to the
            prior's other classes; where the prior has no other, the row goes without.
        return_stats: also return the detached `RowStats`, from which accuracy, NLL, Brier score, entropy and
            calibration of the batch follow with no second pass.
        inplace_backward: let the backward write the gradient over the logits, which saves memory of their
            size. Afterwards the logits hold their gradient: safe where nothing but this loss needs them. The
            layer that made them may not (a linear or convolutional one does not). A backward that does, a
            second backward and a second derivative raise. Without effect on the reference backend and in
            compiled code.
        backend: "auto", "reference", "cpu" or "gpu". "auto" takes the reference where no kernel can serve:
            under `torch.func` transforms, in forward-mode differentiation, for a prior that needs a
            gradient, and on other devices. The logger "labelsmooth" tells so at level DEBUG, and why.

    Returns:
        The loss: a scalar, or (N, d1, …) for "none", with 0 for rows that do not count. float64 for float64
        logits, else float32. With `return_stats`, (loss, stats). The loss is 0 with a zero gradient where no
        row counts.

    Raises:
        TypeError: a dtype that does not fit its meaning.
        ValueError: fewer than 2 classes, shapes that do not fit, a class or ε out of range, NaN in weights;
            `inplace_backward` for logits that are a leaf, or a view of one, or share memory among themselves;
            a backend that cannot serve.
        RuntimeError: from the backward, where `inplace_backward` took the logits from someone.

    Cost: that of `row_stats`, and a backward that reads the logits once and writes the gradient once. Class
        indices are never made into an N×K target, but on the reference a class-conditional smoothing gathers
        its N rows.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        >>> cross_entropy(logits, torch.tensor([0, 1]), label_smoothing=0.1)
        tensor(0.4773)

    Source: Szegedy et al. 2016, §7. Departs from torch: no row counts gives 0, not NaN; ε < 0 raises; half-
    precision logits give a float32 loss; 0·(−inf) is 0; ignored rows cannot leak NaN.
    """
    logits, targets = checked(
        input,
        target,
        weight,
        ignore_index,
        reduction,
        label_smoothing,
        row_weight=row_weight,
        z_loss=z_loss,
        denominator=denominator,
        support=support,
    )
    if inplace_backward and not is_traced(input):
        _require_own_storage(input)
    rows, num_classes = logits.shape[:-1], logits.shape[-1]
    request = targets.request(rows, num_classes, everything=return_stats)
    row_loss = targets.row_loss(z_loss)
    chosen, _ = select(backend, logits.device, hindrance(logits, targets.mixture.prior))
    reduce = targets.reduction(reduction, denominator, math.prod(rows))
    if chosen == "reference" or is_traced(logits) or row_loss.needs_grad or reduce.needs_grad:
        stats: Parts | None = op.row_stats(logits, request, chosen)
        assert stats is not None
        losses = reduce(row_loss.of(stats), targets.counted)
    else:
        losses, stats = of_logits(
            logits, request, row_loss, reduce, chosen, inplace=inplace_backward, keep_stats=return_stats
        )
    if not return_stats:
        return losses
    assert stats is not None
    return losses, RowStats(index=request.index, mask=request.counted, **stats._asdict()).detach()


@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    linear_bias: Tensor | None = ...,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    row_weight: Tensor | None = ...,
    z_loss: float | Tensor = ...,
    denominator: Denominator = ...,
    chunk_rows: int | None = ...,
    return_stats: Literal[False] = ...,
    backend: Backend = ...,
) -> Tensor: ...
@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    linear_bias: Tensor | None = ...,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    row_weight: Tensor | None = ...,
    z_loss: float | Tensor = ...,
    denominator: Denominator = ...,
    chunk_rows: int | None = ...,
    return_stats: Literal[True],
    backend: Backend = ...,
) -> tuple[Tensor, RowStats]: ...
def linear_cross_entropy(
    input: Tensor,  # (..., H)
    linear_weight: Tensor | nn.Linear,  # (K, H)
    target: Tensor | Mixture,  # (...), or dense (..., K)
    *,
    linear_bias: Tensor | None = None,  # (K,)
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    row_weight: Tensor | None = None,  # (...)
    z_loss: float | Tensor = 0.0,
    denominator: Denominator = None,
    chunk_rows: int | None = None,
    return_stats: bool = False,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy of a linear layer's logits input·Wᵀ + b against smoothed targets, in nats.

    Args:
        input: (…, H) features.
        linear_weight: W, (K, H); or the layer itself, an `nn.Linear`, which brings its bias along. One whose
            forward is more than x·Wᵀ + b (a subclass with a forward of its own, an adapter such as LoRA,
            hooks) is refused.
        target: class indices (…), dense targets (…, K), or a `Mixture`; the class axis is last.
        linear_bias: b, (K,); not beside an `nn.Linear`.
        weight, ignore_index, reduction, label_smoothing, row_weight, z_loss, denominator, return_stats,
            backend: as in `cross_entropy`.
        chunk_rows: rows whose logits exist at a time, ≥ 1. None takes 512: with fewer the products lose speed
            (256 rows 3 to 8 %, 128 rows 10 to 20 %, whatever the layer's size), with more they gain little.

    Returns:
        As `cross_entropy`; "none" gives (…).

    Raises:
        TypeError, ValueError: as `cross_entropy`; or shapes or dtypes of the layer that do not fit, or a
            layer that does more than x·Wᵀ + b.

    Cost: the three products of the layer and its backward, all made in the forward, and chunk_rows·K numbers
        beside the gradients; never the full logits. Rows that do not count are dropped first (which makes a
        GPU wait once). For "none" the backward makes the logits again. The full logits are made after all in
        compiled code, under `torch.func` transforms, where more than the layer needs a gradient, and for a
        second derivative.

    Example:
        >>> x, W = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> linear_cross_entropy(x, W, torch.tensor([0, 1]), label_smoothing=0.1)
        tensor(0.3729)

    Source: as `torch.nn.functional.linear_cross_entropy` (2.13), with the class axis always last.
    """
    linear_weight, linear_bias = _weight_and_bias(linear_weight, linear_bias)
    require_logits(input, "input")
    input = plain(input)
    if linear_weight.dim() != 2 or input.dim() == 0 or input.shape[-1] != linear_weight.shape[1]:
        raise InputError(
            "input (…, H) and linear_weight (K, H) must share H, "
            f"got {tuple(input.shape)} and {tuple(linear_weight.shape)}"
        )
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:1]:
        raise InputError(
            f"linear_bias must have shape ({linear_weight.shape[0]},), got {tuple(linear_bias.shape)}"
        )
    _check_chunk_rows(chunk_rows)
    batch, num_classes = input.shape[:-1], linear_weight.shape[0]
    require_num_classes(num_classes)
    _check_settings(reduction, z_loss, denominator, ignore_index)
    _check_weight("weight", weight, (num_classes,))
    _check_weight("row_weight", row_weight, batch)
    layer_parts = {"linear_weight": linear_weight, "linear_bias": linear_bias}
    _check_device(input.device, target, weight=weight, row_weight=row_weight, **layer_parts)
    layer = _as_autocast(Layer(input.reshape(math.prod(batch), input.shape[-1]), linear_weight, linear_bias))
    dtype = torch.float64 if layer.input.dtype == torch.float64 else torch.float32
    targets = _targets(
        target, None, batch, num_classes, len(batch), weight, ignore_index, label_smoothing, row_weight, dtype
    ).flat(batch)
    row_loss = targets.row_loss(z_loss)
    num_rows = layer.input.shape[0]
    reduce = targets.reduction(reduction, denominator, num_rows)
    why_not = hindrance(input, targets.mixture.prior)
    if row_loss.needs_grad or reduce.needs_grad:
        why_not = "more than the layer needs a gradient"
    if why_not is not None or is_traced(input):
        if not torch.compiler.is_compiling():
            _log.debug("linear_cross_entropy makes the full logits: %s", why_not or "a graph is being made")
        class_axis = min(1, len(batch))
        if isinstance(target, Tensor) and target.is_floating_point():
            target = target.movedim(-1, class_axis)
        result: Tensor | tuple[Tensor, RowStats] = cross_entropy(  # type: ignore[call-overload,misc]
            nn.functional.linear(input, linear_weight, linear_bias).movedim(-1, class_axis),
            target,
            weight,
            ignore_index,
            reduction,
            label_smoothing,
            row_weight=row_weight,
            z_loss=z_loss,
            denominator=denominator,
            return_stats=return_stats,
            backend=backend,
        )
        return result
    chosen, _ = select(backend, input.device)
    request = targets.request(torch.Size((num_rows,)), num_classes, everything=return_stats)
    losses, stats = linear_losses(
        layer,
        request,
        row_loss,
        reduce,
        chosen,
        chunk_rows or CHUNK_ROWS,
        keep_stats=return_stats,
    )
    if reduction == "none":
        losses = losses.reshape(batch)
    if stats is None:
        return losses
    shaped = Parts._make(
        part if part is None or part.dim() == 0 else part.reshape(batch + part.shape[1:]) for part in stats
    )
    index = None if request.index is None else request.index.reshape(batch + request.index.shape[1:])
    counted = None if request.counted is None else request.counted.reshape(batch)
    return losses, RowStats(index=index, mask=counted, **shaped._asdict())


def checked(
    input: Tensor,  # (N, K, d1, ...) or (K,)
    target: Tensor | Mixture,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float | Smoothing,
    *,
    row_weight: Tensor | None,
    z_loss: float | Tensor = 0.0,
    denominator: Denominator,
    support: Support = "all",
) -> tuple[Tensor, Targets]:
    """The logits (N, d1, …, K) and the targets of their rows; raises where `cross_entropy` does."""
    input = plain(input)
    require_logits(input, "input")
    if input.dim() == 0:
        raise InputError("input must have shape (K,), (N, K) or (N, K, d1, …), got ()")
    class_axis = min(1, input.dim() - 1)
    logits = input.resolve_neg()
    if class_axis < input.dim() - 1:
        logits = logits.movedim(class_axis, -1)
    rows, num_classes = logits.shape[:-1], logits.shape[-1]
    require_num_classes(num_classes)
    _check_settings(reduction, z_loss, denominator, ignore_index)
    require_support(support)
    _check_weight("weight", weight, (num_classes,))
    _check_weight("row_weight", row_weight, rows)
    _check_device(input.device, target, weight=weight, row_weight=row_weight)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits, _targets(
        target,
        logits if support == "finite" else None,
        rows,
        num_classes,
        class_axis,
        weight,
        ignore_index,
        label_smoothing,
        row_weight,
        dtype,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Checked targets, whatever they were given as."""

    mixture: Mixture
    counted: Tensor | None  # (...)
    labels: Tensor | None  # (...), where the targets were class indices
    weight: Tensor | None  # (K,), class weights
    row_weight: Tensor | None  # (...)
    support: Support
    dtype: torch.dtype  # to reckon in

    def flat(self, batch: torch.Size) -> Targets:
        """The same with one batch dimension in place of those of `batch`."""
        counted, labels, row_weight = (
            None if t is None else t.reshape(-1) for t in (self.counted, self.labels, self.row_weight)
        )
        mixture = self.mixture.flat(batch)
        return replace(self, mixture=mixture, counted=counted, labels=labels, row_weight=row_weight)

    def request(self, rows: torch.Size, num_classes: int, *, everything: bool) -> Request:
        index, row = self.mixture.index, self.mixture.prior_row
        prior: Tensor | Literal["uniform"] | None = None
        if self.mixture.prior_weight is not None:
            prior = "uniform" if self.mixture.prior is None else self.mixture.prior
        if index is not None and index.dim() <= len(rows):
            index = index.expand(*rows, index.shape[-1])
        return Request(
            index,
            prior,
            None if row is None else row.expand(rows),
            self.counted,
            num_classes,
            0,
            self.support == "finite",
            everything,
            everything,
        )

    def row_loss(self, z_loss: float | Tensor) -> RowLoss:
        if isinstance(z_loss, Tensor):
            z_loss = plain(z_loss).to(self.dtype)
        whole = self.mixture.prior is None and self.support == "all"
        return RowLoss(self.mixture, z_loss, whole, self.dtype)

    def reduction(self, reduction: str, denominator: Denominator, num_rows: int) -> Reduction:
        factor: float | Tensor = 1.0
        if reduction == "mean":
            factor = self._share(denominator, num_rows)
        if self.row_weight is not None:
            factor = self.row_weight * factor
        return Reduction(factor, total=reduction != "none")

    def _share(self, denominator: Denominator, num_rows: int) -> float | Tensor:
        """What a mean multiplies the sum with: 1/denominator, or 0 where that is 0."""
        if denominator is None and self.labels is not None and self.weight is not None:
            weights = take_rows(self.weight, self.labels)
            denominator = (weights if self.counted is None else torch.where(self.counted, weights, 0)).sum()
        elif denominator is None or denominator == "valid":
            # without a row that counts the sum is 0 already
            if self.counted is None:
                denominator = max(num_rows, 1)
            elif can_look(self.counted):
                denominator = max(int(self.counted.sum()), 1)
            else:
                return 1 / self.counted.sum(dtype=self.dtype).clamp(min=1)
        elif denominator == "rows":
            denominator = max(num_rows, 1)
        if not isinstance(denominator, Tensor):
            return 1 / denominator
        denominator = plain(denominator).to(self.dtype)
        return torch.where(denominator == 0, 0, 1 / torch.where(denominator == 0, 1, denominator))


def _targets(
    target: Tensor | Mixture,
    logits: Tensor | None,  # (..., K), for support="finite"
    rows: torch.Size,
    num_classes: int,
    class_axis: int,  # of dense targets
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float | Smoothing,
    row_weight: Tensor | None,
    dtype: torch.dtype,
) -> Targets:
    target, weight, row_weight = plain(target), plain(weight), plain(row_weight)
    finite = None if logits is None else logits.detach() > -torch.inf
    support: Support = "all" if logits is None else "finite"
    counted: Tensor | None = None
    labels: Tensor | None = None
    if isinstance(target, Mixture):
        if (
            isinstance(label_smoothing, Smoothing)
            or isinstance(as_eps(label_smoothing), Tensor)
            or label_smoothing != 0
        ):
            raise InputError("a Mixture target is smoothed already, got label_smoothing as well")
        target.check(num_classes)
        if target.batch_shape not in (rows, torch.Size()):
            raise InputError(
                f"the Mixture must have batch shape {tuple(rows)}, got {tuple(target.batch_shape)}"
            )
        if finite is not None and target.prior_row is not None:
            raise InputError(
                "support='finite' cannot tell smoothing from target in a Mixture with a table of priors; "
                "give the labels and label_smoothing instead"
            )
        mixture = target if finite is None else _onto_finite(target, finite, dtype)
    else:
        require_tensor(target, "target")
        smoothing = as_smoothing(label_smoothing)
        if target.is_floating_point():
            shape = torch.Size((*rows[:class_axis], num_classes, *rows[class_axis:]))
            if target.shape != shape:
                raise InputError(
                    f"dense targets must have shape {tuple(shape)}, as the logits, got {tuple(target.shape)}"
                )
            smoothing.check_num_classes(num_classes)
            _warn_if_multi_label(target, class_axis)
            mixture = smoothing.of_rows(target.movedim(class_axis, -1), num_classes, finite)
            support = "all"  # what is in the table now is target, of which −inf classes get their share
        else:
            target = as_classes(target, "target")
            if target.shape != rows:
                raise InputError(f"class indices must have shape {tuple(rows)}, got {tuple(target.shape)}")
            labels, counted = _counting(target, ignore_index, num_classes)
            mixture = smoothing.of_classes(labels, num_classes)
            if finite is not None:
                mixture = _onto_finite(mixture, finite, dtype)
    if row_weight is not None:
        row_weight = row_weight.to(dtype)
        heavy = row_weight != 0
        counted = heavy if counted is None else counted & heavy
    if weight is not None:
        weight = weight.to(dtype)
        mixture = mixture.weighted(weight)
    return Targets(mixture, counted, labels, weight, row_weight, support, dtype)


def _warn_if_multi_label(target: Tensor, class_axis: int) -> None:
    """Warn of rows of zeros and several ones: labels that hold together, which no softmax tells apart."""
    if not can_look(target):
        return
    target = target.detach()
    if bool((target.sum(class_axis) > 1.5).any()) and bool(((target == 0) | (target == 1)).all()):
        warnings.warn(
            "dense targets with several ones in a row are taken for one distribution of classes that exclude "
            "each other; for labels that hold together use binary_cross_entropy_with_logits of "
            "torch.nn.functional, else let rows sum to 1 or give a labelsmooth.Mixture",
            stacklevel=5,
        )


def _as_autocast(layer: Layer) -> Layer:
    """What autocast would give a linear layer of these tensors."""
    device = layer.input.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        layer = Layer._make(
            None if t is None else t if t.dtype == torch.float64 else t.to(dtype) for t in layer
        )
    dtypes = {t.dtype for t in layer if t is not None}
    if len(dtypes) > 1:
        raise InputTypeError(
            f"input, linear_weight and linear_bias must have one dtype, got {sorted(map(str, dtypes))}"
        )
    return layer


def _weight_and_bias(linear: Tensor | nn.Linear, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The parts of a linear layer that is given as such or by its weight; refuses one that does more."""
    if isinstance(linear, Tensor):
        return plain(linear), plain(bias)
    kind = f"{type(linear).__module__}.{type(linear).__qualname__}"
    if not isinstance(linear, nn.Linear):
        raise InputTypeError(f"linear_weight must be a (K, H) tensor or an nn.Linear, got {kind}")
    if bias is not None:
        raise InputError("an nn.Linear brings its bias along, got linear_bias as well")
    more = None
    if type(linear).forward is not nn.Linear.forward or "forward" in linear.__dict__:
        more = "a forward of its own"
    elif any(getattr(linear, hooks) for hooks in _HOOKS):
        more = "hooks"
    if more is not None:
        raise InputError(
            f"an nn.Linear as linear_weight must be no more than x·Wᵀ + b, got a {kind} with {more}; "
            "give its logits to cross_entropy"
        )
    return linear.weight, linear.bias


def _counting(target: Tensor, ignore_index: int, num_classes: int) -> tuple[Tensor, Tensor | None]:
    """The labels in 0..num_classes−1, with 0 for ignored rows, and which rows count; None where all do."""
    if can_look(target) and target.numel():
        least, most = map(int, target.aminmax())
        if least >= 0 and most < num_classes and not least <= ignore_index <= most:
            return target, None  # a look saves a batch without ignored rows all that follows from a mask
    counted = target != ignore_index
    labels = torch.where(counted, target, 0)
    require_classes(labels, num_classes, "target")
    return labels, counted


def _onto_finite(mixture: Mixture, finite: Tensor, dtype: torch.dtype) -> Mixture:
    """The mixture with β scaled row by row, so that the prior keeps its mass on the finite classes alone."""
    if mixture.prior_weight is None:
        return mixture
    prior = None if mixture.prior is None else mixture.prior_of_rows()
    return replace(mixture, prior_weight=mixture.prior_weight * finite_scale(prior, finite, dtype))


def _require_own_storage(logits: Tensor) -> None:
    source = logits if logits._base is None else logits._base
    if source.is_leaf and source.requires_grad:
        raise InputError("inplace_backward needs logits that a layer made, got a leaf, or a view of one")
    reach = 0  # of the dimensions so far, from the smallest step on
    for step, size in sorted(zip(logits.stride(), logits.shape, strict=True)):
        if size > 1 and step <= reach:
            raise InputError("inplace_backward needs logits of their own memory each, got some that share it")
        reach += step * (size - 1)


def _check_device(device: torch.device, target: Tensor | Mixture, **weights: Tensor | None) -> None:
    parts = (
        {"target": target}
        if isinstance(target, Tensor)
        else vars(target)
        if isinstance(target, Mixture)
        else {}
    )
    for name, value in (parts | weights).items():
        # as in torch, a 0-d tensor on the CPU is as good as a number
        if isinstance(value, Tensor) and value.device != device and (value.dim() or not value.is_cpu):
            raise InputError(f"{name} must be on the device of the logits, {device}, got {value.device}")


def _check_weight(name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    if value is None:
        return
    require_tensor(value, name)
    if value.is_complex():
        raise InputTypeError(f"{name} must be real, got {value.dtype}")
    if value.shape != shape:
        raise InputError(f"{name} must have shape {tuple(shape)}, got {tuple(value.shape)}")
    if value.is_floating_point():
        require_no_nan(value, name)


def _check_chunk_rows(chunk_rows: int | None) -> None:
    if chunk_rows is not None and (isinstance(chunk_rows, bool) or not isinstance(chunk_rows, int)):
        raise InputTypeError(f"chunk_rows must be an int or None, got {type(chunk_rows).__name__}")
    if chunk_rows is not None and chunk_rows < 1:
        raise InputError(f"chunk_rows must be at least 1, got {chunk_rows}")


def _check_settings(
    reduction: str, z_loss: float | Tensor, denominator: Denominator, ignore_index: int
) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise InputError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    if not isinstance(ignore_index, int):
        raise InputTypeError(f"ignore_index must be an int, got {type(ignore_index).__name__}")
    require_factor(z_loss, "z_loss")
    if denominator is None:
        return
    if reduction != "mean":
        raise InputError(f"a denominator goes with reduction='mean', got reduction={reduction!r}")
    if isinstance(denominator, Tensor):
        if denominator.dim() != 0:
            raise InputError(f"a tensor denominator must be 0-d, got shape {tuple(denominator.shape)}")
        require(denominator >= 0, lambda: f"denominator must not be negative, got {float(denominator)}")
    elif isinstance(denominator, str):
        if denominator not in ("rows", "valid"):
            raise InputError(
                f"denominator must be a number, a 0-d tensor, 'rows', 'valid' or None, got {denominator!r}"
            )
    elif not denominator > 0:
        raise InputError(f"denominator must be positive, got {denominator}")


class _Settings(nn.Module):
    """What the two loss modules keep: the settings of the loss, checked once."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None,
        ignore_index: int,
        reduction: ReductionName,
        label_smoothing: float | Smoothing,
        z_loss: float | Tensor,
        denominator: Denominator,
        return_stats: bool,
        backend: Backend,
    ) -> None:
        super().__init__()
        _check_settings(reduction, z_loss, denominator, ignore_index)
        if weight is not None:
            require_tensor(weight, "weight")
            _check_weight("weight", weight, (weight.numel(),))
        require_backend(backend)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        as_smoothing(label_smoothing)  # raises now what would raise in every step
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
        self.denominator = denominator
        self.return_stats = return_stats
        self.backend = backend

    def extra_repr(self) -> str:
        shown = [
            f"{name}={getattr(self, name)!r}" for name in ("label_smoothing", "reduction", "ignore_index")
        ]
        for name, default in _UNSHOWN.items():
            value = getattr(self, name, default)
            if isinstance(value, Tensor):
                shown.append(f"{name}=tensor{tuple(value.shape)}")
            elif value != default:
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)


# The settings that a module's repr shows where they are not these.
_UNSHOWN = {
    "weight": None,
    "z_loss": 0.0,
    "denominator": None,
    "support": "all",
    "chunk_rows": None,
    "return_stats": False,
    "backend": "auto",
}


class CrossEntropyLoss(_Settings, nn.CrossEntropyLoss):  # type: ignore[misc]
    """`cross_entropy` as a module; a drop-in for `torch.nn.CrossEntropyLoss`, and an instance of it.

    Args:
        weight, ignore_index, reduction, label_smoothing, z_loss, denominator, support, backend: as in
            `cross_entropy`. `weight` moves with the module and is saved with it.
        return_stats: whether a call returns (loss, stats). The call's own `return_stats`, where given, goes
            before it: `criterion(logits, target, return_stats=True)`.

    Raises:
        TypeError, ValueError: as `cross_entropy`, already when the module is made.

    Example:
        >>> loss = CrossEntropyLoss(label_smoothing=0.1)
        >>> loss(torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.4773)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        *,
        z_loss: float | Tensor = 0.0,
        denominator: Denominator = None,
        support: Support = "all",
        return_stats: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            weight, ignore_index, reduction, label_smoothing, z_loss, denominator, return_stats, backend
        )
        require_support(support)
        self.support = support

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        target: Tensor | Mixture,
        row_weight: Tensor | None = None,
        *,
        return_stats: bool | None = None,
    ) -> Tensor | tuple[Tensor, RowStats]:
        result: Tensor | tuple[Tensor, RowStats] = cross_entropy(  # type: ignore[call-overload,misc]
            input,
            target,
            self.weight,
            self.ignore_index,
            self.reduction,
            self.label_smoothing,
            row_weight=row_weight,
            z_loss=self.z_loss,
            denominator=self.denominator,
            support=self.support,
            return_stats=self.return_stats if return_stats is None else return_stats,
            backend=self.backend,
        )
        return result


class LinearCrossEntropyLoss(_Settings):
    """`linear_cross_entropy` as a module that owns the layer, as `torch.nn.LinearCrossEntropyLoss` does.

    The layer is `.linear`, an `nn.Linear(in_features, num_classes)`; call it for the logits at inference.
    `from_linear` takes a layer that is there already.

    Args:
        in_features: H.
        num_classes: K ≥ 2.
        bias: whether the layer has a bias.
        device, dtype: of the layer.
        weight, ignore_index, reduction, label_smoothing, z_loss, denominator, backend: as in `cross_entropy`.
        chunk_rows: as in `linear_cross_entropy`.
        return_stats: as in `CrossEntropyLoss`.

    Raises:
        TypeError, ValueError: as `cross_entropy`, already when the module is made.

    Example:
        >>> loss = LinearCrossEntropyLoss(8, 3, label_smoothing=0.1)
        >>> loss(torch.randn(5, 8), torch.tensor([0, 1, 2, 1, 0])).shape
        torch.Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        z_loss: float | Tensor = 0.0,
        denominator: Denominator = None,
        chunk_rows: int | None = None,
        return_stats: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            weight, ignore_index, reduction, label_smoothing, z_loss, denominator, return_stats, backend
        )
        _check_chunk_rows(chunk_rows)
        self.chunk_rows = chunk_rows
        require_num_classes(num_classes)
        _check_weight("weight", weight, (num_classes,))
        as_smoothing(label_smoothing).check_num_classes(num_classes)
        self.linear = nn.Linear(in_features, num_classes, bias=bias, device=device, dtype=dtype)

    @classmethod
    def from_linear(cls, linear: nn.Linear, **settings: Any) -> LinearCrossEntropyLoss:
        """The loss of a layer that is there already, which `.linear` then is: its parameters are shared.

        Args:
            linear: the layer, e.g. a language model's head, also one whose weight is tied to an embedding.
            settings: `weight`, `label_smoothing` and the other keywords of the class.

        Raises:
            TypeError, ValueError: as the class; or a layer that does more than x·Wᵀ + b.

        Example:
            >>> head = nn.Linear(8, 3)
            >>> loss = LinearCrossEntropyLoss.from_linear(head, label_smoothing=0.1)
            >>> loss.linear is head
            True
        """
        _weight_and_bias(linear, None)
        loss = cls(linear.in_features, linear.out_features, device="meta", **settings)
        loss.linear = linear
        return loss

    def forward(
        self,
        input: Tensor,
        target: Tensor | Mixture,
        row_weight: Tensor | None = None,
        *,
        return_stats: bool | None = None,
    ) -> Tensor | tuple[Tensor, RowStats]:
        result: Tensor | tuple[Tensor, RowStats] = linear_cross_entropy(  # type: ignore[call-overload,misc]
            input,
            self.linear,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            row_weight=row_weight,
            z_loss=self.z_loss,
            denominator=self.denominator,
            chunk_rows=self.chunk_rows,
            return_stats=self.return_stats if return_stats is None else return_stats,
            backend=self.backend,
        )
        return result
