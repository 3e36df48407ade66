"""Features and logits of a trained classifier of images."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.study.tasks.images.augment import centre
from labelsmooth.study.tasks.images.data import Rows
from labelsmooth.study.tasks.images.models import Network

# Rows in one forward pass of a measurement, so that large data sets need little memory, and convolutions find
# what they read in the cache: with 1,000 rows they take twice as long.
_CHUNK = 250


def forward(network: Network, crop: int, rows: Rows) -> tuple[Tensor, Tensor]:
    """Compute the features (N, D) and the logits (N, K) of the middle of all images."""
    return classified(network, centre(rows.images, crop))


def classified(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """Compute features and logits in float32 where the network lies, and bring them to the CPU."""
    layer = network.classifier
    features, logits = (
        torch.empty(len(images), layer.in_features),
        torch.empty(len(images), layer.out_features),
    )
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        seen = network.features(images[rows].to(layer.weight.device))
        features[rows], logits[rows] = seen, layer(seen)
    return features, logits
