"""Optimizers and schedules of the learning rate, by the settings of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
)

from labelsmooth.study.settings import TrainingSettings


def make_optimizer(network: nn.Module, settings: TrainingSettings) -> Optimizer:
    """Make the optimizer of a network; weight decay spares what the network's `is_decayed` says."""
    is_decayed: Callable[[nn.Parameter], bool] = getattr(network, "is_decayed", lambda _: True)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if is_decayed(p)]},
        {"params": [p for p in network.parameters() if not is_decayed(p)], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # fused: one pass over weights, gradients and moments, where torch would take several
    if settings.optimizer == "adamw":
        return AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    if settings.optimizer == "adam":  # Vaswani et al. 2017, "Attention Is All You Need", §5.3
        return Adam(
            groups,
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-9,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    return SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.optimizer == "nesterov",
        fused=True,
    )


def make_schedule(optimizer: Optimizer, settings: TrainingSettings, steps: int) -> LRScheduler:
    """Make the schedule of the learning rate over all steps of a training.

    With a warm-up of w steps, step t < w has the part (t + 1)/(w + 1) of the rate, and the fall to 0 takes
    the steps that are left; drops stay where they are, and an inverse square root is √((w + 1)/(t + 1)).
    """
    warm_up = round(settings.warm_up * steps)
    milestones = [round(part * steps) for part in settings.drops]
    if warm_up or settings.schedule == "inverse_sqrt":
        return LambdaLR(optimizer, lambda step: _rate(step, warm_up, steps, milestones, settings.schedule))
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if settings.schedule == "linear":
        return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    return MultiStepLR(optimizer, milestones=milestones, gamma=0.1)


def _rate(step: int, warm_up: int, steps: int, milestones: list[int], schedule: str) -> float:
    """Give the learning rate of a step as a part of the largest."""
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    if schedule == "inverse_sqrt":
        return math.sqrt((warm_up + 1) / (step + 1))
    fallen = (step - warm_up) / max(1, steps - warm_up)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * fallen)) / 2
    if schedule == "linear":
        return 1 - fallen
    return 0.1 ** sum(step >= milestone for milestone in milestones)
