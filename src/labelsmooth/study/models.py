"""The networks that a study trains, each a body that makes features and a linear classifier on top."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Penultimate `features` of a body, and one `classifier` whose rows are the class templates."""

    def __init__(self, body: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.classifier = classifier

    def features(
        self,
        images: Tensor,  # (N, C, H, W) or (N, D)
    ) -> Tensor:  # (N, F)
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:  # (N, K)
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _mlp(shape: tuple[int, ...], num_classes: int) -> Network:
    # the MNIST network of Hinton et al. 2015 and of Müller et al. 2019
    body = nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU()
    )
    return Network(body, nn.Linear(1200, num_classes))


def _cnn(shape: tuple[int, ...], num_classes: int) -> Network:
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise ValueError(f"the model cnn needs images of at least 4×4 pixels, got rows of shape {shape}")
    channels, height, width = shape
    body = nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
    )
    return Network(body, nn.Linear(128, num_classes))


MODELS: dict[str, Callable[[tuple[int, ...], int], Network]] = {"mlp": _mlp, "cnn": _cnn}


def build_network(model: str, shape: tuple[int, ...], num_classes: int, seed: int) -> Network:
    """A freshly initialised network whose weights depend on the seed alone.

    Args:
        model: a name in `MODELS`.
        shape: of one row: (channels, height, width) or (values,).
        num_classes: at least 2.
        seed: of the initial weights; torch's global random state is left as it was.

    Returns:
        The network, on the CPU and in training mode.

    Raises:
        ValueError: the model cannot take rows of this shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return MODELS[model](shape, num_classes)
