"""What is kept of a trained classifier of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from labelsmooth.study.tasks.base import Curves
from labelsmooth.study.tasks.classifier import Predictions, TrialArrays, arrays_of, teacher_state
from labelsmooth.study.tasks.images.data import Data, Rows
from labelsmooth.study.tasks.images.models import Network
from labelsmooth.study.tasks.images.predict import forward
from labelsmooth.study.tasks.images.settings import ImageSettings
from labelsmooth.study.trial import Diverged, TrialConfig

# Training rows whose features and logits are held together: whole chunks of a forward pass, and so many that
# the table of class means is seldom gone through.
_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class ImageCurves(Curves):
    """Curves of a training, with the information at some epochs."""

    information_epochs: tuple[int, ...]  # after which the next was measured
    information: tuple[float, ...]  # nats; see `information_of`


def arrays_of_network(
    network: Network, config: TrialConfig, data: Data, teacher: Network | None
) -> TrialArrays:
    """Keep of a trained network what its numbers and pictures are computed from.

    Args:
        network: that was trained, in evaluation mode.
        config: of its trial.
        data: that the config was made for.
        teacher: the network that taught it, in evaluation mode.

    Raises:
        Diverged: a feature or a logit is not finite.
    """
    assert isinstance(config.settings, ImageSettings)
    crop = config.settings.crop

    def predict(network: Network, rows: Rows) -> Predictions:
        features, logits = forward(network, crop, rows)
        if not (features.isfinite().all() and logits.isfinite().all()):
            raise Diverged(
                f"the network of {config.words} cannot be measured: it broke down, as its features or logits "
                "of some rows are infinite"
            )
        return Predictions(features=features, logits=logits, labels=rows.labels)

    def trained(network: Network) -> Iterator[Predictions]:
        parts = (torch.split(part, _ROWS) for part in (data.train.images, data.train.labels))
        for images, labels in zip(*parts, strict=True):
            yield predict(network, Rows(images=images, labels=labels))

    bias = network.classifier.bias
    arrays = arrays_of(
        trained(network),
        predict(network, data.validation),
        predict(network, data.test),
        network.classifier.weight.cpu(),
        None if bias is None else bias.cpu(),
    )
    if teacher is None:
        return arrays
    return replace(
        arrays,
        taught_by=teacher_state(trained(teacher), config.temperature),
        teacher_test_logits=predict(teacher, data.test).logits.numpy(),
    )
