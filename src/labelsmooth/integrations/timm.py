"""Mixup and CutMix of timm with mixtures as targets, which are smoothed once and never become a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.extras import needs_extra
from labelsmooth.mixture import Mixture
from labelsmooth.smoothing import mixup

with needs_extra("timm", tested="timm 1.0.31"):
    from timm.data import mixup as peer


class Mixup(peer.Mixup):  # type: ignore[misc]
    """`timm.data.Mixup` whose targets are a `Mixture` of two labels a row, for `cross_entropy`.

    The same random numbers mix the same images in the same shares as timm's. `label_smoothing` is in the
    targets, so the loss goes without: `ls.cross_entropy(logits, targets)`.

    Args:
        args, kwargs: as of timm's. `mode` is "batch", "pair" or "elem", `label_smoothing` ε of `uniform` in
            [0, 1], or a `Smoothing`.

    Raises:
        ValueError: another mode; several labels a row; no alpha above 0; an ε out of range, a prior that does
            not cover `num_classes`, or a class-conditional smoothing.

    Cost: that of timm's mixing of the images, and two numbers a row in place of its (B, K) table.

    Example:
        >>> images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
        >>> images, targets = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=10)(images, labels)
        >>> targets
        Mixture(index=int64(4, 2), weight=float64(4, 2), prior_weight=float64(4,))

    Source: timm 1.0.31, whose shares for each image have the images' precision.
    """

    _modes: tuple[str, ...] = ("batch", "pair", "elem")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.mode not in self._modes:
            raise InputError(f"mode must be one of {', '.join(self._modes)}, got {self.mode!r}")
        if self.multi_label:
            raise InputError("several labels a row are no mixture of classes, got multi_label=True")
        if not (self.mixup_alpha > 0 or self.cutmix_alpha > 0):
            raise InputError(
                f"mixup_alpha or cutmix_alpha must be above 0, got {self.mixup_alpha} and {self.cutmix_alpha}"
            )
        self._targets(torch.zeros(2, dtype=torch.int64), 1.0)  # raises what every batch would

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Mixture]:
        """Mix a batch in place, each image with its mirror in the batch.

        Args:
            x: (B, C, H, W) floats, B even.
            target: (B,) class indices.

        Returns:
            `x`, and the targets as a `Mixture` of batch shape (B,).

        Raises:
            TypeError: images or labels of another dtype.
            ValueError: B is odd, or not the number of labels; a label out of range.
        """
        if not x.is_floating_point():
            raise InputTypeError(f"images to mix must be floating-point, got {x.dtype}")
        _require_even(len(x))
        if target.shape != x.shape[:1]:
            raise InputError(f"labels must be ({len(x)},) as the images, got {tuple(target.shape)}")
        mix = {"batch": self._mix_batch, "pair": self._mix_pair, "elem": self._mix_elem}[self.mode]
        return x, self._targets(target, mix(x))

    def _targets(self, labels: Tensor, share: float | Tensor) -> Mixture:  # (B,); of the images' own labels
        if isinstance(share, Tensor):
            share = share.flatten()
        return mixup(labels, labels.flip(0), share, self.label_smoothing, self.num_classes)


class FastCollateMixup(Mixup, peer.FastCollateMixup):  # type: ignore[misc]
    """`timm.data.FastCollateMixup`, which mixes while it collates, with targets as of `Mixup`.

    Args:
        args, kwargs: as of `Mixup`; `mode` may be "half" too: the first half of the images of a batch, mixed
            with the second.

    Raises:
        ValueError: as `Mixup`.

    Cost: as `Mixup`.

    Example:
        >>> batch = [(torch.zeros(3, 8, 8, dtype=torch.uint8), label) for label in range(4)]
        >>> images, targets = FastCollateMixup(mode="half", num_classes=10)(batch)
        >>> images.shape, targets.batch_shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2]))

    Source: timm 1.0.31.
    """

    _modes = (*Mixup._modes, "half")

    def __call__(  # type: ignore[override]
        self, batch: Sequence[tuple[Tensor | np.ndarray, int]], _: object = None
    ) -> tuple[Tensor, Mixture]:
        """Collate a batch of (image, label) with images (C, H, W) of uint8, B even."""
        _require_even(len(batch))
        rows = len(batch) // 2 if self.mode == "half" else len(batch)
        images = torch.zeros((rows, *batch[0][0].shape), dtype=torch.uint8)
        if self.mode in ("elem", "half"):
            share = self._mix_elem_collate(images, batch, half=self.mode == "half")
        elif self.mode == "pair":
            share = self._mix_pair_collate(images, batch)
        else:
            share = self._mix_batch_collate(images, batch)
        return images, self._targets(default_collate([label for _, label in batch]), share)[:rows]


def _require_even(rows: int) -> None:
    if rows % 2:
        raise InputError(f"the number of images must be even, as each is mixed with its mirror, got {rows}")
