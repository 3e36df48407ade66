"""Mixing the images of a batch with one another (mixup)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from labelsmooth.mixture import Mixture
from labelsmooth.smoothing import Smoothing, mixup


class Mixing:
    """Mixes each batch with a permutation of it, by shares that depend on the seed alone.

    Args:
        alpha: α of the Beta(α, α) that the share of each batch is drawn from; above 0.
        num_classes: K.
        seed: of all draws.

    Source: Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization.
    """

    def __init__(self, alpha: float, num_classes: int, seed: int) -> None:
        self._alpha = alpha
        self._num_classes = num_classes
        self._shares = np.random.default_rng(seed)
        self._partners = torch.Generator().manual_seed(seed)

    def __call__(
        self,
        images: Tensor,  # (B, ...)
        labels: Tensor,  # (B,)
        smoothing: Smoothing | float,
        portion: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Mixture]:
        """Mix the images of a whole batch, and make the smoothed targets of a portion of its rows."""
        share = float(self._shares.beta(self._alpha, self._alpha))
        partner = torch.randperm(len(labels), generator=self._partners)
        target = mixup(portion(labels), portion(labels[partner]), share, smoothing, self._num_classes)
        return share * images + (1 - share) * images[partner], target
