"""The protocol of a task of a study: its rows, networks, batches, and what is measured of a network."""

# ruff: noqa: ARG002 (what a task need not have is nothing by default, whatever it is asked of)

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelsmooth.errors import InputError
from labelsmooth.measure import PlaneProjection
from labelsmooth.measure.catalogue import QUANTITIES, Quantity
from labelsmooth.measure.protocol import Table
from labelsmooth.objectives import Criterion, Loss
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.tasks.shown import Floats, Headline, Information, Series, Texts
from labelsmooth.study.trial import TrialConfig

# numbers of a trained network by the names of the catalogue, by what they are of
Metrics: TypeAlias = Mapping[str, Mapping[str, float]]
Influence: TypeAlias = Mapping[str, Floats]  # by the set of rows, (N,)


class Summary(Protocol):
    """The facts on the data that a reader of a study has to know; a frozen dataclass of each task's own."""

    @property
    def sha256(self) -> str:
        """The hash of the rows and their split."""

    @property
    def num_classes(self) -> int:
        """The number of classes that a row can have."""


class Share(Protocol):
    """The share of each batch that this process trains on."""

    processes: int  # that train each network together

    def portion(self, values: Tensor) -> Tensor:
        """Take the rows of a batch that are those of this process, to its device."""


class Data(Protocol):
    """The rows of a study, read, checked and split."""

    @property
    def summary(self) -> Any:
        """Their `Summary`."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves of a training, with a value for each epoch."""

    train_loss: tuple[float, ...]  # the objective, averaged over the epoch as the weights moved
    train_accuracy: tuple[float, ...]  # likewise; of mixed rows by the label of the first of the two
    validation_nll: tuple[float, ...]  # after the epoch, as is the next
    validation_accuracy: tuple[float, ...]


class Task(ABC):
    """A kind of study. A task is a folder of `study/tasks` whose `__init__` holds one as `TASK`.

    The abstract methods are what training, storing and comparing networks needs. The others give what a
    report shows beside; a task that lacks one lacks these words, rows or figures, and nothing else.

    Attributes:
        recipe: the settings of its studies, which are its options on the command line.
        recipes: studies of the literature by name.
        summary, curves, arrays: the frozen dataclasses that a study stores; `arrays.check()` refuses what no
            training leaves behind. A field of the arrays is an array, or a mapping of them by name.
        help, description: for the command line.
        class_words, row_words: what the classes and the rows are, in the plural.
        accuracy: what the accuracy of the rows is, under the title that a reader sees.
        fewest_steps: of a training from nothing, below which a dry run says that hardly anything is learned.
    """

    recipe: type[BaseRecipe]
    recipes: Mapping[str, BaseRecipe]
    summary: type[Any]
    curves: type[Curves]
    arrays: type[Any]
    help: str
    description: str
    class_words: str = "classes"
    row_words: str = "rows"
    accuracy: Quantity = QUANTITIES["accuracy"]
    fewest_steps: int = 0

    @abstractmethod
    def load(self, recipe: Any) -> Data:
        """Read the data of a recipe, and split it by fixed chance.

        Raises:
            FileNotFoundError: a file is missing.
            InputError: the data cannot be used.
        """

    @abstractmethod
    def new_network(self, config: TrialConfig, summary: Any) -> nn.Module:
        """Make the network of a trial as its training begins, by the seed alone.

        A parameter group without weight decay is told by the network's method `is_decayed`, if it has one.

        Raises:
            InputError: the model cannot take this data.
        """

    @abstractmethod
    def begin(self, config: TrialConfig, data: Any, network: Any, share: Share) -> Session:
        """Begin the training of a network that `new_network` made."""

    @abstractmethod
    def data_words(self, summary: Any) -> list[str]:
        """Describe the data in a few lines, of which the first counts them: "80 training, 10 … test rows"."""

    @abstractmethod
    def rows_measured(self, config: TrialConfig, summary: Any) -> int:
        """Count the rows that go through the network of a trial without being trained on."""

    @abstractmethod
    def measure(self, config: TrialConfig, arrays: Any) -> Metrics:
        """Measure a trained network by what was kept of it, now or whenever its numbers are asked for anew.

        Args:
            config: of its trial.
            arrays: that `Session.arrays` gave.

        Returns:
            The numbers, in one order; nan for one that every sound network has. Among them is test.nll, by
            which networks are compared; the report has a row for each other one that there is, and arms with
            a temperature or a p-norm where there are the parts that `measure_classifier` names.
        """

    @abstractmethod
    def result_words(self, metrics: Metrics) -> str:
        """Name the number of a finished trial that is shown while a study runs."""

    def unit_words(self, summary: Any) -> str:
        """Name what is split and drawn as a whole, in the plural; intervals are of the chance of these."""
        return "rows"

    def own_modules(self, model: str) -> Sequence[str]:
        """Name the top-level modules, none of ours, that a model needs."""
        return ()

    def methods(self, recipe: Any, summary: Any) -> Mapping[str, tuple[str, str]]:
        """Say what was done to the rows: by keyword, words for a list and a sentence for a paragraph."""
        return {}

    def decayed_words(self, model: str) -> str:
        """Name the weights of a model that alone have weight decay; "" where all have it."""
        return ""

    def influences(self, config: TrialConfig, arrays: Any, metrics: Metrics) -> Mapping[str, Influence]:
        """Tell how each row moves the numbers of a trained network, by part and name as in test.nll.

        A number moves with its rows as number − true value ≈ mean φ_i; of a mean of rows, φ_i is the row's
        own value. Numbers whose influences are not known are left out.

        Args:
            config: of its trial.
            arrays: that were kept of it.
            metrics: of `measure`.
        """
        return {}

    def constant_guess(self, arrays: Any) -> Mapping[str, Floats]:
        """Give accuracy and nll of each test row (N,) where all are given the shares of the classes."""
        return {}

    def tables(self, arrays: Any) -> Mapping[str, Mapping[str, Table]]:
        """Give the tables for pictures of a trained network, by part of its metrics and by name.

        The report draws `reliability` and `risk_coverage` of the test rows.
        """
        return {}

    def class_names(self, summary: Any) -> Sequence[str]:
        """Name the classes (K), where each is worth a row of its own."""
        return ()

    def test_labels(self, arrays: Any) -> NDArray[np.int64] | None:
        """Give the class of each test row (N,), in the order of the influences on the test numbers."""
        return None

    def planes(self, arrays: Any) -> Mapping[str, PlaneProjection]:
        """Project features of the first three classes, by the rows that they are of: train, validation."""
        return {}

    def part_words(self, metrics: Metrics) -> Mapping[str, str]:
        """Name further parts of the metrics whose numbers a report shows.

        Words before a comma are the section that they stand in, and those behind it follow each number.
        """
        return {}

    def headlines(self, metrics: Metrics) -> Sequence[Headline]:
        """Name the numbers that networks are judged by beside the scores of their rows."""
        return ()

    def series(self, arrays: Any) -> Mapping[str, Sequence[Series]]:
        """Give numbers of a trained network along what they depend on, by its name.

        The report has figures of `temperatures`, `beams`, `coverage`, `positions` and `frequencies`.
        """
        return {}

    def texts(self, summary: Any, arrays: Any) -> Texts | None:
        """Give the texts that a trained network made of test rows."""
        return None

    def information(self, curves: Any, arrays: Any) -> Information | None:
        """Give the information that inputs of the first two classes and the logits share."""
        return None


class Session(ABC):
    """One training of one network: its batches, their losses, and what is looked at on the way.

    Attributes:
        steps: of an epoch.
        class_counts: (K,) rows of each class in the training data.
    """

    steps: int
    class_counts: Tensor

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Give the batches of an epoch, in an order and with augmentation that the seed decides."""

    @abstractmethod
    def loss(
        self, network: nn.Module, batch: Any, criterion: Criterion, teacher: nn.Module | None
    ) -> tuple[Loss, int]:
        """Compute the loss of a batch, and count its rows.

        Of several processes the mean of their losses is that of the batch, and each counts the rows of its
        share that are right; the rows are those of the whole batch.

        Args:
            network: that is trained, as the placement prepared it.
            batch: of `batches`.
            criterion: of the objective.
            teacher: of a student.
        """

    @abstractmethod
    def validate(self, epoch: int) -> tuple[float, float] | None:
        """Measure the NLL and the accuracy of the validation rows after an epoch; None after a breakdown."""

    @abstractmethod
    def evaluate_some(self) -> int:
        """Put some rows through the network in evaluation mode, for their time, and count them."""

    @abstractmethod
    def curves(self, curves: Curves) -> Curves:
        """Add what was looked at on the way to the curves of the training."""

    @abstractmethod
    def arrays(self, teacher: nn.Module | None) -> Any:
        """Give the arrays that the numbers and pictures of the trained network are computed from.

        Raises:
            Diverged: it gives some row no finite numbers.
        """


def batch_sizes(rows: int, config: TrialConfig, network: nn.Module) -> list[int]:
    """Count the rows of the batches of an epoch: all of the config's size, and the rest in a last one.

    A last batch of one row joins the one before it where the network normalises over batches, since one row
    has no deviation.

    Raises:
        InputError: the config asks for batches of one row for such a network.
    """
    size = config.settings.batch_size
    sizes = [size] * (rows // size)
    if rest := rows % size:
        sizes.append(rest)
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        if size == 1:
            raise InputError(
                f"batch_size must be at least 2 for the batch normalisation of {config.model}, got 1"
            )
        if sizes[-1] == 1:
            sizes[-2:] = [size + 1]
    return sizes


def with_unit_temperature(metrics: Metrics) -> Metrics:
    """Fill in the temperature T = 1 and what follows where the validation rows could not tell one.

    A task that fits nothing has no part `fitted`, and nothing is filled in.
    """
    fitted = metrics.get("fitted")
    if fitted is None or "temperature" in fitted:
        return metrics
    scaled = {f"{rows}_with_temperature": metrics[rows] for rows in ("test", "validation") if rows in metrics}
    return {**metrics, **scaled, "fitted": {**fitted, "temperature": 1.0}}
