"""A task of a study with nothing beside what a task must have: the next character of a text."""

# ruff: noqa: ARG002 (most of what a task is asked about means nothing to this one)

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelsmooth.study import Curves
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.settings import TrainingSettings
from labelsmooth.study.tasks.base import Session, Task, batch_sizes

TEXT = Path(__file__).parents[2] / "LICENSE"


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingSettings, BaseRecipe):
    task: ClassVar[str] = "characters"
    settings_class: ClassVar[type[TrainingSettings]] = TrainingSettings

    data: str = str(TEXT)
    model: str = "bigrams"

    @staticmethod
    def model_sha256(model: str) -> str:  # noqa: ARG004
        return ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    sha256: str
    num_classes: int
    pairs: tuple[int, ...]  # of neighbours that are trained on, validated and tested


@dataclass(frozen=True, kw_only=True)
class Data:
    summary: Summary
    train: Tensor  # (N, 2), the numbers of two neighbours
    validation: Tensor
    test: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    nll: NDArray[np.float64]  # (N,) of the test rows
    correct: NDArray[np.bool_]

    def check(self) -> None:
        assert self.nll.shape == self.correct.shape


class CharactersTask(Task):
    recipe = Recipe
    recipes: ClassVar[Mapping[str, BaseRecipe]] = {}
    summary = Summary
    curves = Curves
    arrays = Arrays
    help = description = "train on the characters of a text"

    def load(self, recipe):
        text = Path(recipe.data).read_text(encoding="utf-8")
        letters = sorted(set(text))
        numbers = torch.tensor([letters.index(letter) for letter in text])
        pairs = torch.stack([numbers[:-1], numbers[1:]], -1)
        parts = pairs.split([len(pairs) - 2000, 1000, 1000])
        summary = Summary(
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            num_classes=len(letters),
            pairs=tuple(map(len, parts)),
        )
        return Data(summary=summary, train=parts[0], validation=parts[1], test=parts[2])

    def new_network(self, config, summary):
        generator = torch.Generator().manual_seed(config.seed)
        network = nn.Embedding(summary.num_classes, summary.num_classes)
        nn.init.normal_(network.weight, std=0.1, generator=generator)
        return network

    def begin(self, config, data, network, share):
        return CharactersSession(config, data, network, share)

    def data_words(self, summary):
        return ["{:,} training, {:,} validation and {:,} test characters".format(*summary.pairs)]

    def rows_measured(self, config, summary):
        return config.settings.epochs * summary.pairs[1] + summary.pairs[2]

    def measure(self, config, arrays):
        return {"test": {"accuracy": float(arrays.correct.mean()), "nll": float(arrays.nll.mean())}}

    def result_words(self, metrics):
        return f"test NLL {metrics['test']['nll']:.3f}"


class CharactersSession(Session):
    def __init__(self, config, data, network, share):
        self._data, self._network, self._share = data, network, share
        self._sizes = batch_sizes(len(data.train), config, network)
        self._chance = torch.Generator().manual_seed(config.seed)
        self.steps = len(self._sizes)
        self.class_counts = torch.bincount(data.train[:, 1], minlength=data.summary.num_classes)

    def batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self._data.train), generator=self._chance)
        for rows in order.split(self._sizes):
            yield self._data.train[rows]

    def loss(self, network, batch, criterion, teacher):
        inputs, labels = self._share.portion(batch).unbind(-1)
        return criterion(network(inputs), labels, denominator=len(batch) / self._share.processes), len(batch)

    def _told(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits = self._network(pairs[:, 0]).double()
        nll = nn.functional.cross_entropy(logits, pairs[:, 1], reduction="none")
        return nll, logits.argmax(-1) == pairs[:, 1]

    def validate(self, epoch):
        nll, correct = self._told(self._data.validation)
        return float(nll.mean()), float(correct.double().mean())

    def evaluate_some(self):
        self._told(self._data.validation)
        return len(self._data.validation)

    def curves(self, curves):
        return curves

    def arrays(self, teacher):
        nll, correct = self._told(self._data.test)
        return Arrays(nll=nll.numpy(), correct=correct.numpy())


TASK = CharactersTask()
