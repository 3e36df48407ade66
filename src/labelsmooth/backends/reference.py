"""The reference backend, the definition of the row statistics: any device, differentiable to any order."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.backends.contract import Backend, Request, Statistics, origin_of
from labelsmooth.mixture import take_rows


def forward(logits: Tensor, request: Request) -> Statistics:  # (..., C)
    """Compute the statistics, of any batch dimensions, by operations that torch differentiates."""
    return _forward(logits, request, through_max=True)


def _forward(logits: Tensor, request: Request, *, through_max: bool) -> Statistics:
    z = logits if logits.dtype == torch.float64 else logits.float()
    if request.counted is not None:
        z = z.masked_fill(~request.counted.unsqueeze(-1), 0)
    top, argmax = z.max(-1)
    origin = origin_of(top)
    z = z - (origin if through_max else origin.detach()).unsqueeze(-1)
    exp_z = z.exp()
    total = exp_z.sum(-1)

    at_index = seen = at_prior = prior_mass = log_sum_sq = mean_logit = None
    if request.index is not None:
        if z.shape[-1] == request.num_classes:  # then gather itself refuses what is out of range
            at_index = z.gather(-1, request.index)
        else:
            column = request.index - request.first_class
            seen = (column >= 0) & (column < z.shape[-1])
            at_index = z.gather(-1, torch.where(seen, column, 0)).masked_fill(~seen, -torch.inf)
    if request.prior is not None:
        covered = z > -torch.inf if request.finite_support else None
        if isinstance(request.prior, Tensor):
            prior, row = request.prior, request.prior_row
            pi = (prior if row is None else take_rows(prior, row)).to(z.dtype)
            if covered is not None:
                pi = torch.where(covered, pi, 0)
            at_prior = (pi * torch.where(pi == 0, 0, z)).sum(-1)
            prior_mass = pi.sum(-1)
        elif covered is not None:
            at_prior = torch.where(covered, z, 0).sum(-1) / request.num_classes
            prior_mass = covered.sum(-1, dtype=z.dtype) / request.num_classes
        else:
            at_prior = z.sum(-1) / request.num_classes
            prior_mass = z.new_full((), z.shape[-1] / request.num_classes)
    if request.log_sum_sq:
        log_sum_sq = _log((exp_z * exp_z).sum(-1))
    if request.mean_logit:
        weighted = (exp_z * torch.where(exp_z == 0, 0, z)).sum(-1)
        mean_logit = weighted / torch.where(total == 0, 1, total)
    return Statistics(
        max=top,
        argmax=argmax + request.first_class,
        log_sum=_log(total),
        at_index=at_index,
        seen=seen,
        at_prior=at_prior,
        prior_mass=prior_mass,
        log_sum_sq=log_sum_sq,
        mean_logit=mean_logit,
    )


def backward(
    logits: Tensor,  # (N, C)
    request: Request,
    stats: Statistics,
    grads: Statistics,
    out: Tensor | None = None,
    *,
    shift_free: bool = False,
) -> Tensor:
    """Compute the gradient of the logits, which is differentiable itself where grad mode is on."""
    create_graph = torch.is_grad_enabled() and logits.requires_grad
    with torch.enable_grad():
        z = logits if create_graph else logits.detach().requires_grad_()
        recomputed = _forward(z, request, through_max=not shift_free)
        if shift_free:
            grads = grads._replace(max=None)
            if grads.log_sum is not None and logits.shape[-1] != request.num_classes:
                grads = grads._replace(log_sum=grads.log_sum * _share(recomputed, stats))
        pairs = [(output, grad) for output, grad in zip(recomputed, grads, strict=True) if grad is not None]
        if not pairs:
            return torch.zeros_like(logits)
        outputs, upstream = zip(*pairs, strict=True)
        (gradient,) = torch.autograd.grad(outputs, z, upstream, create_graph=create_graph)
    return gradient if out is None else out.copy_(gradient)


def _share(block: Statistics, whole: Statistics) -> Tensor:
    """Return the probability of a block of columns in the whole row."""
    assert block.max is not None
    assert block.log_sum is not None
    assert whole.max is not None
    assert whole.log_sum is not None
    log_share = block.log_sum - whole.log_sum + (origin_of(block.max) - origin_of(whole.max))
    return torch.where(block.log_sum == -torch.inf, 0, log_share.detach().exp())


def _log(total: Tensor) -> Tensor:
    """Return the logarithm, with −inf and no gradient at 0."""
    return torch.where(total == 0, -torch.inf, torch.where(total == 0, 1, total).log())


def unavailable(device: torch.device) -> str | None:  # noqa: ARG001
    """Return None: torch's own operations serve every device."""
    return None


BACKEND = Backend(
    forward=forward, backward=backward, unavailable=unavailable, kernels="torch's own operations"
)
