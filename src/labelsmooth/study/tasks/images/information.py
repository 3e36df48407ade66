"""The information that training leaves in the logits of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labelsmooth.measure import mutual_information
from labelsmooth.study.tasks.classifier import first_of_classes
from labelsmooth.study.tasks.images.augment import augmented
from labelsmooth.study.tasks.images.data import Data
from labelsmooth.study.tasks.images.models import Network
from labelsmooth.study.tasks.images.predict import classified
from labelsmooth.study.tasks.images.settings import ImageSettings
from labelsmooth.study.trial import TrialConfig

# Inputs of each of two classes whose mutual information with their logits is measured, and draws of each.
INFORMATION_ROWS = 300
INFORMATION_DRAWS = 10
# Apart from the seed of the batches, so that looking does not change what is trained.
_INFORMATION_SEED = 2**30


def moments(settings: ImageSettings) -> tuple[int, ...]:
    """Choose the epochs after which the information is measured, from the first to the last."""
    number = min(settings.information, settings.epochs)
    if number < 2:
        return (settings.epochs,) * number
    return tuple(1 + round((settings.epochs - 1) * moment / (number - 1)) for moment in range(number))


def information_of(network: Network, config: TrialConfig, data: Data) -> float:
    """Measure the mutual information of augmented training images and a logit difference, in nats.

    Of the first INFORMATION_ROWS training images of each of the first two classes, with the difference of the
    logits of these two; see `measure.mutual_information`. Two clusters without structure give log 2.
    """
    assert isinstance(config.settings, ImageSettings)
    rows = first_of_classes(data.train.labels, torch.arange(2), INFORMATION_ROWS)
    images, chance = data.train.images[rows], torch.Generator().manual_seed(_INFORMATION_SEED + config.seed)
    differences: list[Tensor] = []
    for _ in range(INFORMATION_DRAWS + 1):
        _, logits = classified(network, augmented(images, config.settings, data.zero, chance))
        differences.append(logits[:, 0] - logits[:, 1])
    if not torch.stack(differences).isfinite().all():
        return math.nan  # which no sound network has
    *draws, fresh = differences
    return mutual_information(torch.stack(draws, -1), fresh)
