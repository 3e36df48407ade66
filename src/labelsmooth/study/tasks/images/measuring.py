"""What is measured of a trained classifier of images."""

from __future__ import annotations

from dataclasses import dataclass

from labelsmooth.study.tasks.base import Curves
from labelsmooth.study.tasks.classifier import (
    Metrics,
    Predictions,
    TrialArrays,
    measure_classifier,
    measure_student,
)
from labelsmooth.study.tasks.images.data import Data, Rows
from labelsmooth.study.tasks.images.models import Network
from labelsmooth.study.tasks.images.predict import forward
from labelsmooth.study.tasks.images.settings import ImageSettings
from labelsmooth.study.trial import TrialConfig


@dataclass(frozen=True, kw_only=True)
class ImageCurves(Curves):
    """One value for each epoch, and the information at some of them."""

    information_epochs: tuple[int, ...]  # after which the next was measured
    information: tuple[float, ...]  # nats; see `information_of`


@dataclass(frozen=True, kw_only=True)
class ImageMetrics(Metrics):
    """What was measured of one trained network, and while it was trained."""

    curves: ImageCurves


def measure_network(
    network: Network, config: TrialConfig, data: Data, curves: ImageCurves, teacher: Network | None
) -> tuple[ImageMetrics, TrialArrays]:
    """Measure a trained network in evaluation mode, and keep what pictures need of it.

    Args:
        network: that was trained.
        config: of its trial.
        data: that the config was made for.
        curves: of its training.
        teacher: the network that taught it, in evaluation mode.
    """
    assert isinstance(config.settings, ImageSettings)
    crop = config.settings.crop

    def predict(network: Network, rows: Rows) -> Predictions:
        features, logits = forward(network, crop, rows)
        return Predictions(features=features, logits=logits, labels=rows.labels)

    test = predict(network, data.test)
    distilled = None
    if teacher is not None:
        taught_on = predict(teacher, data.train)
        distilled = measure_student(test, taught_on, predict(teacher, data.test).logits, config.temperature)
    bias = network.classifier.bias
    metrics, arrays = measure_classifier(
        predict(network, data.train),
        predict(network, data.validation),
        test,
        network.classifier.weight.cpu(),
        None if bias is None else bias.cpu(),
        curves,
        distilled,
    )
    return ImageMetrics(**vars(metrics)), arrays
