"""The smoothed cross-entropy of a linear layer's logits, which never exist all at once."""

from __future__ import annotations

import logging
import math
from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn

from labelsmooth.backends import (
    BACKENDS,
    Backend,
    BackendName,
    hindrance,
    select,
    statistics_dtype,
)
from labelsmooth.checks import is_traced, plain, require_logits, require_no_dtensor, require_positive
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.losses.cross_entropy import cross_entropy
from labelsmooth.losses.linear_chunks import CHUNK_ROWS, Cap, Layer, linear_losses
from labelsmooth.losses.row_loss import Reduction, RowLoss, row_stats_of
from labelsmooth.losses.targets import (
    Denominator,
    ReductionName,
    Settings,
    Targets,
    check_device,
    check_targets,
)
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats, Support
from labelsmooth.smoothing import Smoothing

_log = logging.getLogger(__name__)

_FLOAT32 = torch.finfo(torch.float32)
# the attributes of a module that hold functions which its call runs beside its forward
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class Options(TypedDict, total=False):
    """The keywords that the overloads of `linear_cross_entropy` share."""

    linear_bias: Tensor | None
    scale: float
    softcap: float | None
    weight: Tensor | None
    ignore_index: int
    reduction: ReductionName
    label_smoothing: float | Smoothing
    row_weight: Tensor | None
    z_loss: float | Tensor
    denominator: Denominator
    support: Support
    chunk_rows: int | None
    backend: BackendName


@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    return_stats: Literal[False] = ...,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    return_stats: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, RowStats]: ...
@overload
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor | nn.Linear,
    target: Tensor | Mixture,
    *,
    return_stats: bool = ...,
    **options: Unpack[Options],
) -> Tensor | tuple[Tensor, RowStats]: ...
def linear_cross_entropy(
    input: Tensor,  # (..., H)
    linear_weight: Tensor | nn.Linear,  # (K, H)
    target: Tensor | Mixture,  # (...), or dense (..., K)
    *,
    linear_bias: Tensor | None = None,  # (K,)
    scale: float = 1.0,
    softcap: float | None = None,
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    row_weight: Tensor | None = None,  # (...)
    z_loss: float | Tensor = 0.0,
    denominator: Denominator = None,
    support: Support = "all",
    chunk_rows: int | None = None,
    return_stats: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy of a linear layer's logits scale·(input·Wᵀ + b) against smoothed targets, in nats.

    Args:
        input: (…, H) features.
        linear_weight: W, (K, H); or the layer itself, an `nn.Linear`, which brings its bias along. One whose
            forward is more than x·Wᵀ + b (a subclass with a forward of its own, an adapter such as LoRA,
            hooks) is refused, and so is a DTensor: its `to_local()` is for
            `vocab_parallel_linear_cross_entropy`.
        target: class indices (…), dense targets (…, K), or a `Mixture`; the class axis is last.
        linear_bias: b, (K,); not beside an `nn.Linear`.
        scale: > 0, of the layer's outputs; the `logit_scale` of Cohere, 1 / `logits_scaling` of Granite.
        softcap: > 0, c, where the logits are c·tanh(scale·(x·Wᵀ + b) / c), as `final_logit_softcapping` of
            Gemma; None for none. What either makes of float16 outputs is float32, whose range it needs. That
            range is the one of scale, c and scale / c too.
        weight, ignore_index, reduction, label_smoothing, row_weight, z_loss, denominator, support,
            return_stats, backend: as in `cross_entropy`.
        chunk_rows: rows whose logits exist at a time, ≥ 1. None takes 512: with fewer the products lose speed
            (256 rows 3 to 8 %, 128 rows 10 to 20 %, whatever the layer's size), with more they gain little.

    Returns:
        As `cross_entropy`; "none" gives (…).

    Raises:
        TypeError, ValueError: as `cross_entropy`; or shapes or dtypes of the layer that do not fit, or a
            layer that does more than x·Wᵀ + b.

    Cost: the three products of the layer and its backward, all made in the forward, and chunk_rows·K numbers
        beside the gradients, twice as many with a softcap or in scaled float16; never the full logits. Rows
        that do not count are dropped first (which makes a GPU wait once). For "none" the backward makes the
        logits again. The full logits are made after all in compiled code, under `torch.func` transforms,
        where more than the layer needs a gradient, with support="finite", and for a second derivative.

    Example:
        >>> x, W = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> linear_cross_entropy(x, W, torch.tensor([0, 1]), label_smoothing=0.1)
        tensor(0.3729)

    Source: as `torch.nn.functional.linear_cross_entropy` (2.13), with the class axis always last.
    """
    layer = check_layer(input, linear_weight, linear_bias)
    cap = check_cap(scale, softcap)
    check_chunk_rows(chunk_rows)
    settings = Settings(
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        row_weight=row_weight,
        z_loss=z_loss,
        denominator=denominator,
        support=support,
    )
    rows = layer.input.shape[:-1]
    cast = as_autocast(layer)
    targets = check_targets(
        target,
        settings,
        rows=rows,
        num_classes=layer.weight.shape[0],
        class_axis=len(rows),
        device=layer.input.device,
        dtype=statistics_dtype(cast.input),
        finite=None,
    ).flat()
    row_loss, reduce = targets.row_loss(), targets.reduction()
    if _needs_full_logits(layer, targets, row_loss, reduce):
        return cross_entropy(
            cap(nn.functional.linear(*layer)),
            target,
            **settings._asdict(),
            class_axis=-1,
            return_stats=return_stats,
            backend=backend,
        )
    chosen, _ = select(backend, layer.input.device)
    return in_chunks(cast, cap, targets, rows, BACKENDS[chosen], chunk_rows, return_stats=return_stats)


def in_chunks(
    layer: Layer,  # input (…, H)
    cap: Cap,
    targets: Targets,
    rows: torch.Size,
    backend: Backend,
    chunk_rows: int | None,
    *,
    return_stats: bool,
) -> Tensor | tuple[Tensor, RowStats]:
    """Compute the reduced loss of rows (…) by chunks, with their detached statistics where wanted."""
    request = targets.request(every_statistic=return_stats)
    reduction = targets.reduction()
    flat = layer._replace(input=layer.input.reshape(math.prod(rows), layer.input.shape[-1]))
    losses, stats = linear_losses(
        flat,
        cap,
        request,
        targets.row_loss(),
        reduction,
        backend,
        chunk_rows or CHUNK_ROWS,
        keep_stats=return_stats,
    )
    if not reduction.total:
        losses = losses.reshape(rows)
    return losses if stats is None else (losses, row_stats_of(stats, request, rows))


def _needs_full_logits(layer: Layer, targets: Targets, loss: RowLoss, reduction: Reduction) -> bool:
    """Return True where the loss cannot be made in chunks of rows, and log the reason at level DEBUG."""
    reason = hindrance(layer.input, targets.mixture.prior)
    if loss.needs_grad or reduction.needs_grad:
        reason = "more than the layer needs a gradient"
    elif targets.settings.support == "finite":
        reason = "support='finite' asks which logits are finite"
    elif reason is None and is_traced(layer.input):
        reason = "a graph is being made"
    if reason is not None and not torch.compiler.is_compiling():
        _log.debug("linear_cross_entropy makes the full logits: %s", reason)
    return reason is not None


def check_layer(input: Tensor, linear: Tensor | nn.Linear, bias: Tensor | None) -> Layer:
    """Return a checked linear layer with its input, given as a module or by its weight.

    Raises:
        TypeError, ValueError: parts that do not fit each other, or a layer that does more than x·Wᵀ + b.
    """
    weight, bias = weight_and_bias(linear, bias)
    require_no_dtensor(input, "input")
    require_logits(input, "input")
    input = plain(input)
    check_device(input.device, linear_weight=weight, linear_bias=bias)
    if weight.dim() != 2 or input.dim() == 0 or input.shape[-1] != weight.shape[1]:
        raise InputError(
            "input (…, H) and linear_weight (K, H) must share H, "
            f"got {tuple(input.shape)} and {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(f"linear_bias must have shape ({weight.shape[0]},), got {tuple(bias.shape)}")
    return Layer(input, weight, bias)


def weight_and_bias(linear: Tensor | nn.Linear, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the weight and the bias of a linear layer, or refuse one that does more than x·Wᵀ + b."""
    if isinstance(linear, Tensor):
        return plain(linear), plain(bias)
    kind = f"{type(linear).__module__}.{type(linear).__qualname__}"
    if not isinstance(linear, nn.Linear):
        raise InputTypeError(f"linear_weight must be a (K, H) tensor or an nn.Linear, got {kind}")
    if bias is not None:
        raise InputError("an nn.Linear brings its bias along, got linear_bias as well")
    extra = None
    if type(linear).forward is not nn.Linear.forward or "forward" in linear.__dict__:
        extra = "a forward of its own"
    elif any(getattr(linear, hooks) for hooks in _HOOKS):
        extra = "hooks"
    if extra is not None:
        raise InputError(
            f"an nn.Linear as linear_weight must be no more than x·Wᵀ + b, got a {kind} with {extra}; "
            "give its logits to cross_entropy"
        )
    return linear.weight, linear.bias


def check_cap(scale: float, softcap: float | None) -> Cap:
    """Return what becomes of the outputs of a layer, or raise `TypeError` or `ValueError`."""
    require_positive(scale, "scale")
    if softcap is not None:
        require_positive(softcap, "softcap")
    cap = Cap(float(scale), None if softcap is None else float(softcap))
    divisor = cap.softcap or 1
    for name, factor in (
        ("scale", cap.scale),
        ("softcap", divisor),
        ("scale / softcap", cap.scale / divisor),
    ):
        if not _FLOAT32.tiny <= factor <= _FLOAT32.max:
            raise InputError(f"{name} must lie in 1.2e-38..3.4e+38, as float32 has it, got {factor}")
    return cap


def check_chunk_rows(chunk_rows: int | None) -> None:
    """Raise `TypeError` or `ValueError` unless `chunk_rows` is a positive int or None."""
    if chunk_rows is not None and (isinstance(chunk_rows, bool) or not isinstance(chunk_rows, int)):
        raise InputTypeError(f"chunk_rows must be an int or None, got {type(chunk_rows).__name__}")
    if chunk_rows is not None and chunk_rows < 1:
        raise InputError(f"chunk_rows must be at least 1, got {chunk_rows}")


def as_autocast(layer: Layer) -> Layer:
    """Cast the layer as autocast would, and raise `TypeError` where its dtypes differ."""
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
