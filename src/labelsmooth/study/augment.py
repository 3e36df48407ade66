"""Random shifts, crops and mirrors of the training images, and the crop that a network sees in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.study.data import Data
from labelsmooth.study.recipe import TrialConfig


def seen_shape(config: TrialConfig, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one row as the network sees it: that of the data, or of a crop from it.

    Args:
        config: its shift, crop and flip are looked at.
        shape: of one row of the data.

    Raises:
        ValueError: rows of this shape cannot be shifted, cropped or mirrored like that.
    """
    if not (config.shift or config.crop or config.flip):
        return shape
    if len(shape) != 3:
        raise InputError(f"shift, crop and flip need images, got rows of shape {shape}")
    channels, height, width = shape
    if config.crop > min(height, width):
        raise InputError(f"crop must be at most the {min(height, width)} pixels of a side, got {config.crop}")
    if config.shift >= min(height, width):
        raise InputError(f"shift must be below the {min(height, width)} pixels of a side, got {config.shift}")
    if config.information and not config.shift and config.flip in (0, 1) and height == width == config.crop:
        raise InputError(f"information needs images that vary, and a crop of {config.crop} is all of each")
    return (channels, config.crop or height, config.crop or width)


def centre(
    images: Tensor,  # (N, C, H, W) or (N, D)
    crop: int,
) -> Tensor:  # (N, C, crop, crop), or as it was where crop is 0
    """The middle of every image, as a view; of an odd border the larger half is behind."""
    if not crop:
        return images
    top, left = ((side - crop) // 2 for side in images.shape[2:])
    return images[:, :, top : top + crop, left : left + crop]


def augmented(
    images: Tensor,  # (N, C, H, W) or (N, D)
    config: TrialConfig,
    data: Data,
    generator: torch.Generator,
) -> Tensor:  # (N, *seen_shape)
    """Each image shifted, cropped and mirrored by chance of its own.

    A shift by up to s pixels is a crop from the image with s pixels of `data.zero` on every side; all places
    of the crop are equally likely.
    """
    if not (config.shift or config.crop or config.flip):
        return images
    rows, channels, height, width = images.shape
    _, *sides = seen_shape(config, images.shape[1:])
    padded = data.zero.expand(rows, channels, height + 2 * config.shift, width + 2 * config.shift).clone()
    padded[:, :, config.shift : config.shift + height, config.shift : config.shift + width] = images
    top, left = (
        torch.randint(whole - side + 1, (rows,), generator=generator)
        for whole, side in zip(padded.shape[2:], sides, strict=True)
    )
    mirrored = torch.rand(rows, generator=generator) < config.flip
    # all windows of all images, as a view: (N, rows of windows, columns of windows, C, height, width)
    windows = padded.unfold(2, sides[0], 1).unfold(3, sides[1], 1).permute(0, 2, 3, 1, 4, 5)
    seen = windows[torch.arange(rows), top, left]
    return torch.where(mirrored[:, None, None, None], seen.flip(3), seen) if config.flip else seen
