"""Images as a task of a study: batches of rows, and what is measured of a classifier of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelsmooth.measure import PlaneProjection, plane_projection
from labelsmooth.measure.projection import spans_plane
from labelsmooth.measure.protocol import Table
from labelsmooth.objectives import Criterion, Loss, Objective
from labelsmooth.row_stats import row_stats
from labelsmooth.study.tasks.base import Curves, Influence, Metrics, Session, Share, Task, batch_sizes
from labelsmooth.study.tasks.classifier import (
    TrialArrays,
    classifier_tables,
    constant_guess,
    measure_classifier,
)
from labelsmooth.study.tasks.images.augment import augmented, seen_shape
from labelsmooth.study.tasks.images.data import Data, DataSummary, Rows, load_data
from labelsmooth.study.tasks.images.information import (
    INFORMATION_DRAWS,
    INFORMATION_ROWS,
    information_of,
    moments,
)
from labelsmooth.study.tasks.images.measuring import ImageCurves, arrays_of_network
from labelsmooth.study.tasks.images.methods import methods
from labelsmooth.study.tasks.images.mixup import Mixing
from labelsmooth.study.tasks.images.models import (
    PARTLY_DECAYED,
    Network,
    build_network,
    own_modules,
)
from labelsmooth.study.tasks.images.noise import with_label_noise
from labelsmooth.study.tasks.images.predict import forward
from labelsmooth.study.tasks.images.recipes import RECIPES
from labelsmooth.study.tasks.images.settings import ImageSettings, Recipe
from labelsmooth.study.tasks.influences import classifier_influences
from labelsmooth.study.tasks.shown import Floats, Information
from labelsmooth.study.trial import TrialConfig

Batch: TypeAlias = tuple[Tensor, Tensor]  # images (B, ...) and labels (B,)
_TIMED_ROWS = 1000


class ImageTask(Task):
    """Classifiers of images with one last linear layer."""

    recipe = Recipe
    recipes = RECIPES
    summary = DataSummary
    curves = ImageCurves
    arrays = TrialArrays
    help = "train with and without label smoothing on real images, measure both and write a report"
    description = (
        "Train a network on real images with several amounts of label smoothing, from the same initial "
        "weights and over several seeds, measure accuracy, calibration and the last layer of each, and write "
        "one HTML report. Inputs are standardised with the mean and the standard deviation of the training "
        "rows. Run the same command again to go on with a study that was interrupted."
    )

    def load(self, recipe: Recipe) -> Data:
        return load_data(recipe.data, recipe.standardise, recipe.resize)

    def new_network(self, config: TrialConfig, summary: DataSummary) -> Network:
        shape = seen_shape(image_settings(config), summary.shape)
        return build_network(config.model, shape, summary.num_classes, config.seed)

    def begin(self, config: TrialConfig, data: Data, network: Network, share: Share) -> ImageSession:
        return ImageSession(config, data, network, share)

    def data_words(self, summary: DataSummary) -> list[str]:
        return [
            f"{summary.train_rows:,} training, {summary.validation_rows:,} validation and "
            f"{summary.test_rows:,} test rows",
            f"of shape {summary.shape} and {summary.num_classes} classes"
            + (", whose channels lay first" if summary.channels_first else ""),
        ]

    def methods(self, recipe: Recipe, summary: DataSummary) -> dict[str, tuple[str, str]]:
        return methods(recipe, summary)

    def rows_measured(self, config: TrialConfig, summary: DataSummary) -> int:
        """Count the validation rows after every epoch, all rows at the end, and those of the information."""
        settings = image_settings(config)
        looked_at = min(settings.information, settings.epochs)
        informed = 2 * INFORMATION_ROWS * (INFORMATION_DRAWS + 1) * looked_at
        all_rows = summary.train_rows + summary.validation_rows + summary.test_rows
        return settings.epochs * summary.validation_rows + all_rows + informed

    def measure(self, config: TrialConfig, arrays: TrialArrays) -> Metrics:
        return measure_classifier(arrays, None if config.teacher is None else config.temperature)

    def influences(
        self, config: TrialConfig, arrays: TrialArrays, metrics: Metrics
    ) -> Mapping[str, Influence]:
        return classifier_influences(arrays, metrics, None if config.teacher is None else config.temperature)

    def constant_guess(self, arrays: TrialArrays) -> Mapping[str, Floats]:
        return constant_guess(arrays.test_labels)

    def tables(self, arrays: TrialArrays) -> Mapping[str, Mapping[str, Table]]:
        return classifier_tables(arrays)

    def decayed_words(self, model: str) -> str:
        return "its hidden matrices" if model in PARTLY_DECAYED else ""

    def class_names(self, summary: DataSummary) -> tuple[str, ...]:
        return summary.class_names

    def test_labels(self, arrays: TrialArrays) -> NDArray[np.int64]:
        return arrays.test_labels

    def planes(self, arrays: TrialArrays) -> Mapping[str, PlaneProjection]:
        classes: list[int] = arrays.feature_classes.tolist()
        if len(classes) < 3 or not spans_plane(*arrays.classifier):
            return {}
        stored = {
            "train": (arrays.train_features, arrays.train_feature_labels),
            "validation": (arrays.validation_features, arrays.validation_feature_labels),
        }
        return {
            rows: plane_projection(*features, *arrays.classifier, classes)
            for rows, features in stored.items()
        }

    def information(self, curves: ImageCurves, arrays: TrialArrays) -> Information | None:
        if not curves.information:
            return None
        rows = np.bincount(arrays.train_feature_labels)[:2]
        return Information(
            inputs=int(np.minimum(rows, INFORMATION_ROWS).sum()),
            epochs=curves.information_epochs,
            nats=curves.information,
        )

    def result_words(self, metrics: Metrics) -> str:
        return f"test accuracy {metrics['test']['accuracy']:.2%}"

    def own_modules(self, model: str) -> list[str]:
        return own_modules(model)


class ImageSession(Session):
    """One training of a classifier of images.

    Where the settings have label noise, the wrong labels are those of the training rows everywhere, as nobody
    would know better: in the loss, in the training accuracy and in the spread of their classes.

    Args:
        config: of the trial.
        data: that the config was made for.
        network: that is trained.
        share: of this process in every batch.
    """

    def __init__(self, config: TrialConfig, data: Data, network: Network, share: Share) -> None:
        self._config = config
        self._settings = image_settings(config)
        self._data = with_label_noise(data, self._settings.label_noise)
        self._network = network
        self._share = share
        self._batches = batch_sizes(len(data.train.labels), config, network)
        self.steps = len(self._batches)
        num_classes = data.summary.num_classes
        self.class_counts = torch.bincount(self._data.train.labels, minlength=num_classes)
        alpha = Objective.parse(config.objective).mixup
        self._mixing = Mixing(alpha, num_classes, config.seed) if alpha else None
        # of the order of the batches, and of augmentation
        self._chance = torch.Generator().manual_seed(config.seed)
        self._moments = moments(self._settings)
        self._information: list[float] = []

    def batches(self) -> Iterator[Batch]:
        """Give the batches of an epoch: every process augments the whole of each, by the same chance."""
        train = self._data.train
        order = torch.randperm(len(train.labels), generator=self._chance)
        for rows in torch.split(order, self._batches):
            images = augmented(train.images[rows], self._settings, self._data.zero, self._chance)
            yield images, train.labels[rows]

    def loss(
        self, network: nn.Module, batch: Batch, criterion: Criterion, teacher: nn.Module | None
    ) -> tuple[Loss, int]:
        loss = batch_loss(network, *batch, criterion, self._share, self._mixing, teacher)
        return loss, len(batch[1])

    @torch.no_grad()
    def validate(self, epoch: int) -> tuple[float, float] | None:
        _, logits = forward(self._network, self._settings.crop, self._data.validation)
        if not (logits.isfinite().all() and (logits != logits[0]).any()):
            return None
        if epoch in self._moments:
            self._information.append(information_of(self._network, self._config, self._data))
        stats = row_stats(logits.double(), index=self._data.validation.labels.unsqueeze(-1))
        return float(stats.nll.mean()), float(stats.correct.double().mean())

    @torch.no_grad()
    def evaluate_some(self) -> int:
        validation = self._data.validation
        few = Rows(images=validation.images[:_TIMED_ROWS], labels=validation.labels[:_TIMED_ROWS])
        forward(self._network, self._settings.crop, few)
        return len(few.labels)

    def curves(self, curves: Curves) -> ImageCurves:
        return ImageCurves(
            **vars(curves), information_epochs=self._moments, information=tuple(self._information)
        )

    def arrays(self, teacher: nn.Module | None) -> TrialArrays:
        assert teacher is None or isinstance(teacher, Network)
        return arrays_of_network(self._network, self._config, self._data, teacher)


def image_settings(config: TrialConfig) -> ImageSettings:
    """Give the settings of a trial of this task."""
    assert isinstance(config.settings, ImageSettings)
    return config.settings


def batch_loss(
    network: nn.Module,
    images: Tensor,  # (B, ...)
    labels: Tensor,  # (B,)
    criterion: Criterion,
    share: Share,
    mixing: Mixing | None = None,
    teacher: nn.Module | None = None,
) -> Loss:
    """Compute the loss of a batch of images, as `Session.loss`."""
    target = None
    if mixing is not None:
        images, target = mixing(images, labels, criterion.target_smoothing, share.portion)
    images = share.portion(images)
    teacher_logits: Any = None
    if teacher is not None:
        with torch.no_grad():
            teacher_logits = teacher(images)
    return criterion(
        network(images),
        share.portion(labels),
        denominator=len(labels) / share.processes,
        target=target,
        teacher=teacher_logits,
    )
