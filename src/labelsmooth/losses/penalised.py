"""What the penalties share: the reduced sum of a cross-entropy and a multiple of a penalty on its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

from torch import Tensor

from labelsmooth.backends import BackendName, hindrance, op, select
from labelsmooth.losses.row_loss import times
from labelsmooth.losses.targets import Denominator, Targets
from labelsmooth.row_stats import RowStats


class Options(TypedDict, total=False):
    """The keywords that the overloads of the penalties share."""

    class_axis: int
    row_weight: Tensor | None
    denominator: Denominator
    backend: BackendName


def penalised(
    logits: Tensor,  # (..., K)
    targets: Targets,
    factor: float | Tensor,
    penalty: Callable[[RowStats], Tensor],  # of rows, (...)
    return_stats: bool,
    backend: BackendName,
    *,
    needs_prior: bool = False,  # `at_prior`, of the uniform prior where the targets have none
    mean_logit: bool = False,
    log_sum_sq: bool = False,
) -> Tensor | tuple[Tensor, RowStats]:
    """Return the reduced cross-entropy plus factor·penalty, both of one pass over the logits."""
    request = targets.request(every_statistic=return_stats)
    if mean_logit or log_sum_sq:
        request = replace(
            request,
            mean_logit=mean_logit or request.mean_logit,
            log_sum_sq=log_sum_sq or request.log_sum_sq,
        )
    if needs_prior and request.prior is None:
        request = replace(request, prior="uniform")
    chosen, _ = select(backend, logits.device, hindrance(logits, targets.mixture.prior))
    statistics = op.row_stats(logits, request, chosen)
    stats = RowStats(index=request.index, mask=request.counted, **statistics._asdict())
    # class weights are the cross-entropy's only, so each of the two is averaged by itself
    cross_entropy = targets.reduction()(targets.row_loss()(statistics), targets.counted)
    penalties = targets.reduction(class_weights=False)(times(factor, penalty(stats)), targets.counted)
    loss = cross_entropy + penalties
    return (loss, stats.detach()) if return_stats else loss
