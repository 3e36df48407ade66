"""Random shifts, crops and mirrors of the training images, and the crop that a network sees in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.images.settings import ImageSettings


def seen_shape(settings: ImageSettings, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one row as the network sees it: that of the data, or of a crop from it.

    Args:
        settings: whose shift, crop and flip are looked at.
        shape: of one row of the data.

    Raises:
        ValueError: rows of this shape cannot be shifted, cropped or mirrored like that.
    """
    if not (settings.shift or settings.crop or settings.flip):
        return shape
    if len(shape) != 3:
        raise InputError(f"shift, crop and flip need images, got rows of shape {shape}")
    channels, height, width = shape
    side, crop, shift = min(height, width), settings.crop, settings.shift
    if crop > side:
        raise InputError(f"crop must be at most the {side} pixels of a side, got {crop}")
    if shift >= side:
        raise InputError(f"shift must be below the {side} pixels of a side, got {shift}")
    if settings.information and not shift and settings.flip in (0, 1) and height == width == crop:
        raise InputError(f"information needs images that vary, and a crop of {crop} is all of each")
    return (channels, crop or height, crop or width)


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
    settings: ImageSettings,
    zero: Tensor,  # (C, 1, 1): what the value 0 became, which is black
    generator: torch.Generator,
) -> Tensor:  # (N, *seen_shape)
    """Each image shifted, cropped and mirrored by chance of its own.

    A shift by up to s pixels is a crop from the image with s pixels of `zero` on every side; all places
    of the crop are equally likely.
    """
    if not (settings.shift or settings.crop or settings.flip):
        return images
    rows, channels, height, width = images.shape
    _, *sides = seen_shape(settings, images.shape[1:])
    padded = zero.expand(rows, channels, height + 2 * settings.shift, width + 2 * settings.shift).clone()
    padded[:, :, settings.shift : settings.shift + height, settings.shift : settings.shift + width] = images
    top, left = (
        torch.randint(whole - side + 1, (rows,), generator=generator)
        for whole, side in zip(padded.shape[2:], sides, strict=True)
    )
    mirrored = torch.rand(rows, generator=generator) < settings.flip
    # all windows of all images, as a view: (N, rows of windows, columns of windows, C, height, width)
    windows = padded.unfold(2, sides[0], 1).unfold(3, sides[1], 1).permute(0, 2, 3, 1, 4, 5)
    seen = windows[torch.arange(rows), top, left]
    return torch.where(mirrored[:, None, None, None], seen.flip(3), seen) if settings.flip else seen
