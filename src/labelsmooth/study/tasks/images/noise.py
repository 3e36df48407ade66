"""Wrong labels on purpose: symmetric noise on the training rows of a study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from labelsmooth.study.tasks.images.data import Data, Rows

# Fixed, and apart from the seeds of the trials: every trial of every study has the same wrong labels.
NOISE_SEED = 0


def with_label_noise(data: Data, rate: float) -> Data:
    """The data with symmetric noise on its training labels; validation and test rows stay as they are.

    Each label is wrong with probability `rate`, on its own, and is then any of the other K − 1 classes with
    the same probability. The draw is fixed, and one of a higher rate has the wrong labels of a lower one
    among its own.

    Args:
        data: K classes.
        rate: in [0, 1).

    Returns:
        Data that shares all but the training labels; the same data at rate 0.

    Source: the transition matrix of Wei et al. 2022, "To Smooth or Not? When Label Smoothing Meets Noisy
    Labels", as their code draws it; their random numbers are others.
    """
    if not rate:
        return data
    labels, num_classes = data.train.labels, data.summary.num_classes
    chance = np.random.default_rng(NOISE_SEED)
    wrong = torch.from_numpy(chance.random(len(labels)) < rate)
    steps = torch.from_numpy(chance.integers(1, num_classes, len(labels)))  # to one of the other classes
    noisy = torch.where(wrong, (labels + steps) % num_classes, labels)
    return replace(data, train=Rows(images=data.train.images, labels=noisy))
