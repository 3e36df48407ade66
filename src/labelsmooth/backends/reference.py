"""The reference backend, the definition of the row statistics.

Any device, any dtype, differentiable to any order. The contract of a backend is the function `row_stats`
below; its arguments are checked already. All statistics are relative to the row maximum (to 0 where every
logit is −inf), and 0·(−inf) is 0 in value and gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labelsmooth.mixture import take_rows


def row_stats(
    logits: Tensor,  # (..., C): the columns first_class..first_class+C−1 of num_classes
    index: Tensor | None,  # (..., J)
    prior: Tensor | str | None,  # "uniform", (C,) or (P, C)
    prior_row: Tensor | None,  # (...)
    counted: Tensor | None,  # (...)
    *,
    num_classes: int,
    first_class: int,
    finite_support: bool,
    log_sum_sq: bool,
    mean_logit: bool,
) -> dict[str, Any]:
    z = logits if logits.dtype == torch.float64 else logits.float()
    if counted is not None:
        z = z.masked_fill(~counted.unsqueeze(-1), 0)
    top, argmax = z.max(-1)
    z = z - torch.where(top == -torch.inf, 0, top).unsqueeze(-1)
    exp_z = z.exp()
    total = exp_z.sum(-1)
    stats: dict[str, Any] = {"max": top, "argmax": argmax + first_class, "log_sum": _log(total)}

    if index is not None:
        if z.shape[-1] == num_classes:  # then gather itself refuses what is out of range, also when traced
            stats["at_index"] = z.gather(-1, index)
        else:
            column = index - first_class
            inside = (column >= 0) & (column < z.shape[-1])
            at_column = z.gather(-1, torch.where(inside, column, 0))
            stats["at_index"] = at_column.masked_fill(~inside, -torch.inf)
            stats["seen"] = inside

    if prior is not None:
        covered = z > -torch.inf if finite_support else None
        if isinstance(prior, Tensor):
            pi = (prior if prior_row is None else take_rows(prior, prior_row)).to(z.dtype)
            if covered is not None:
                pi = torch.where(covered, pi, 0)
            stats["at_prior"] = (pi * torch.where(pi == 0, 0, z)).sum(-1)
            stats["prior_mass"] = pi.sum(-1)
        elif covered is not None:
            stats["at_prior"] = torch.where(covered, z, 0).sum(-1) / num_classes
            stats["prior_mass"] = covered.sum(-1, dtype=z.dtype) / num_classes
        else:
            stats["at_prior"] = z.sum(-1) / num_classes
            stats["prior_mass"] = z.new_full((), z.shape[-1] / num_classes)

    if log_sum_sq:
        stats["log_sum_sq"] = _log((exp_z * exp_z).sum(-1))
    if mean_logit:
        weighted = (exp_z * torch.where(exp_z == 0, 0, z)).sum(-1)
        stats["mean_logit"] = weighted / torch.where(total == 0, 1, total)
    return stats


def _log(total: Tensor) -> Tensor:
    """log, with −inf and no gradient at 0."""
    return torch.where(total == 0, -torch.inf, torch.where(total == 0, 1, total).log())
