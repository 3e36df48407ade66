"""What is kept of a trained classifier of images."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labelsmooth.study.tasks.base import Curves
from labelsmooth.study.tasks.classifier import Predictions, TrialArrays, arrays_of, teacher_state
from labelsmooth.study.tasks.images.data import Data, Rows
from labelsmooth.study.tasks.images.models import Network
from labelsmooth.study.tasks.images.predict import forward
from labelsmooth.study.tasks.images.settings import ImageSettings
from labelsmooth.study.trial import TrialConfig


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
    """
    assert isinstance(config.settings, ImageSettings)
    crop = config.settings.crop

    def predict(network: Network, rows: Rows) -> Predictions:
        features, logits = forward(network, crop, rows)
        return Predictions(features=features, logits=logits, labels=rows.labels)

    bias = network.classifier.bias
    arrays = arrays_of(
        predict(network, data.train),
        predict(network, data.validation),
        predict(network, data.test),
        network.classifier.weight.cpu(),
        None if bias is None else bias.cpu(),
    )
    if teacher is None:
        return arrays
    return replace(
        arrays,
        taught_by=teacher_state(predict(teacher, data.train), config.temperature),
        teacher_test_logits=predict(teacher, data.test).logits.numpy(),
    )
