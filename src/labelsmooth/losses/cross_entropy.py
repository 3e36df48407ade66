"""The smoothed cross-entropy of logits."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack, overload

from torch import Tensor

from labelsmooth.backends import BACKENDS, BackendName, Statistics, hindrance, op, select
from labelsmooth.checks import is_dtensor, is_traced
from labelsmooth.errors import InputError
from labelsmooth.losses.dtensor import cross_entropy_of_dtensor
from labelsmooth.losses.row_loss import losses_of_logits
from labelsmooth.losses.targets import Denominator, ReductionName, Settings, check_logits
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats, Support
from labelsmooth.smoothing import Smoothing


class Options(TypedDict, total=False):
    """The keywords that the overloads of `cross_entropy` share."""

    class_axis: int
    row_weight: Tensor | None
    z_loss: float | Tensor
    denominator: Denominator
    support: Support
    inplace_backward: bool
    backend: BackendName


@overload
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    return_stats: Literal[False] = ...,
    **options: Unpack[Options],
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
    return_stats: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, RowStats]: ...
@overload
def cross_entropy(
    input: Tensor,
    target: Tensor | Mixture,
    weight: Tensor | None = ...,
    ignore_index: int = ...,
    reduction: ReductionName = ...,
    label_smoothing: float | Smoothing = ...,
    *,
    return_stats: bool = ...,
    **options: Unpack[Options],
) -> Tensor | tuple[Tensor, RowStats]: ...
def cross_entropy(
    input: Tensor,  # (N, K, d1, ...) or (K,), or the classes on class_axis
    target: Tensor | Mixture,  # (N, d1, ...) or (), or dense as input
    weight: Tensor | None = None,  # (K,)
    ignore_index: int = -100,
    reduction: ReductionName = "mean",
    label_smoothing: float | Smoothing = 0.0,
    *,
    class_axis: int = 1,
    row_weight: Tensor | None = None,  # (N, d1, ...)
    z_loss: float | Tensor = 0.0,
    denominator: Denominator = None,
    support: Support = "all",
    return_stats: bool = False,
    inplace_backward: bool = False,
    backend: BackendName = "auto",
) -> Tensor | tuple[Tensor, RowStats]:
    """Cross-entropy of logits against smoothed targets, in nats; a drop-in for `F.cross_entropy`.

    A row's loss is M·ℓ − Σ_j w_j·a_j − β·b + z_loss·lse², in the symbols of `Mixture` and `RowStats`; but for
    the last term this is Σ_k q_k·(−log p_k), with class weights c Σ_k c_k·q_k·(−log p_k).

    Args:
        input: logits, (K,), (N, K) or (N, K, d1, …), or with the classes on another `class_axis`; float16,
            bfloat16, float32 or float64. A DTensor sharded on its classes, and on no other axis, is
            taken as by `vocab_parallel_cross_entropy`; the loss is one too.
        target: class indices in 0..K−1 (or `ignore_index`) of the shape without the class axis; dense targets
            of the shape of `input`, of any mass; or a `Mixture` of batch shape (N, d1, …), taken as it is.
        weight: (K,) class weights c.
        ignore_index: rows with this class index have no loss and no gradient. For dense targets and mixtures
            use a `row_weight` of 0.
        reduction: "none", "sum", or "mean", which divides the sum by `denominator`.
        label_smoothing: ε of `uniform` in [0, 1], or a `Smoothing`; not with a `Mixture`.
        class_axis: of `input` and of dense targets: 1 as in torch, −1 for a language model's (B, T, V).
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
    if is_dtensor(input):
        if support == "finite" or inplace_backward:
            raise InputError(
                "logits sharded on their classes go without support='finite' and inplace_backward"
            )
        options = {name: value for name, value in settings._asdict().items() if name != "support"}
        return cross_entropy_of_dtensor(
            input, target, class_axis, options | {"return_stats": return_stats, "backend": backend}
        )
    logits, targets = check_logits(input, target, class_axis, settings)
    if inplace_backward and not is_traced(input):
        _require_own_storage(input)
    request = targets.request(every_statistic=return_stats)
    row_loss, reduce = targets.row_loss(), targets.reduction()
    chosen, _ = select(backend, logits.device, hindrance(logits, targets.mixture.prior))
    if chosen == "reference" or is_traced(logits) or row_loss.needs_grad or reduce.needs_grad:
        stats: Statistics | None = op.row_stats(logits, request, chosen)
        assert stats is not None
        losses = reduce(row_loss(stats), targets.counted)
    else:
        losses, stats = losses_of_logits(
            logits,
            request,
            row_loss,
            reduce,
            BACKENDS[chosen],
            inplace=inplace_backward,
            keep_stats=return_stats,
        )
    if not return_stats:
        return losses
    assert stats is not None
    return losses, RowStats(index=request.index, mask=request.counted, **stats._asdict()).detach()


def _require_own_storage(logits: Tensor) -> None:
    """Raise `ValueError` for logits whose memory a gradient must not overwrite."""
    source = logits if logits._base is None else logits._base
    if source.is_leaf and source.requires_grad:
        raise InputError("inplace_backward needs logits that a layer made, got a leaf, or a view of one")
    span = 0  # between the first and the last element in the dimensions so far, from the smallest stride on
    for stride, size in sorted(zip(logits.stride(), logits.shape, strict=True)):
        if size > 1 and stride <= span:
            raise InputError("inplace_backward needs logits of their own memory each, got some that share it")
        span += stride * (size - 1)
