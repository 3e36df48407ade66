"""A trial: its settings, its name, and what its training leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.objectives import Objective
from labelsmooth.study.settings import TrainingSettings
from labelsmooth.study.versions import Versions

Weights: TypeAlias = dict[str, NDArray[Any]]  # by the names of a network's `state_dict`


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The trial whose network teaches a student."""

    id: str
    objective: str  # as `Objective.parse` reads it


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """The settings, data and seed that the numbers of a trial depend on."""

    task: str  # as `study.tasks` names it
    data_sha256: str  # of the rows and their split, so that another file under the same name is another trial
    model: str
    model_sha256: str  # of the file of a network of the user's own, so that another one is another trial
    objective: str  # as `Objective.parse` reads it
    seed: int
    settings: TrainingSettings  # of the task's own class
    teacher: Teacher | None = None  # of a student, whose objective is distillation

    @property
    def id(self) -> str:
        """The name of the trial's folder: readable, and different for any other settings.

        It does not depend on settings that have their default, so that a new one changes no name.
        """
        settings = {
            setting.name: getattr(self.settings, setting.name)
            for setting in fields(self.settings)
            if getattr(self.settings, setting.name) != setting.default
        }
        digest = hashlib.sha256(json.dumps({**asdict(self), "settings": settings}, sort_keys=True).encode())
        name = self.arm if self.teacher is None else f"{self.arm}-student-T{self.temperature:g}"
        return f"{name.replace(':', '=')}-seed{self.seed}-{digest.hexdigest()[:8]}"

    @property
    def words(self) -> str:
        """The trial in words: its network, what that is trained on, and its seed."""
        if self.teacher is not None:
            return f"student at T = {self.temperature:g} of {self.teacher.objective}, seed {self.seed}"
        return f"{self.model} on {self.objective}, seed {self.seed}"

    @property
    def arm(self) -> str:
        """The objective, or that of a student's teacher."""
        return self.objective if self.teacher is None else self.teacher.objective

    @property
    def temperature(self) -> float:
        """The temperature of a student's distillation."""
        return Objective.parse(self.objective).numbers[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """The network of a finished trial."""

    config: TrialConfig
    weights: Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialResult:
    """A finished trial, in memory; its curves and arrays are of the task's own classes."""

    config: TrialConfig
    curves: Any
    metrics: Mapping[str, Mapping[str, float]]  # as `Task.measure` gives them
    arrays: Any  # None where another process writes the trial
    weights: Weights
    versions: Versions


@dataclass(frozen=True, kw_only=True)
class DivergedTrial:
    """A trial whose network broke down in training, so that there is nothing to measure."""

    config: TrialConfig
    reason: str  # one sentence
    versions: Versions


class Diverged(InputError):
    """A network broke down in training, or cannot be measured after it."""


Outcome: TypeAlias = TrialResult | DivergedTrial
