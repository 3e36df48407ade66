"""What a study trains: the settings that every task has, and the trials that they plan."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, fields
from typing import ClassVar

from labelsmooth.errors import InputError
from labelsmooth.objectives import FORMS, Objective
from labelsmooth.study.settings import Settings, TrainingSettings, check_whole, listed
from labelsmooth.study.trial import TrialConfig

MOST_SEEDS = 10_000  # each is a trial of every objective, all of which are planned before the first
# as they are written, those that a trial of every task can have
FURTHER = [
    form
    for kind, form in FORMS.items()
    if kind not in ("hard", "uniform", "temporal", "distillation", "mixup")
]


@dataclass(frozen=True, kw_only=True)
class BaseRecipe(Settings):
    """A study: every objective is trained with every seed, from the same initial weights on the same data.

    A task's recipe derives from its settings and from this class, so that all fields are its options.

    Raises:
        InputError: a setting is outside its range.
    """

    task: ClassVar[str]
    settings_class: ClassVar[type[TrainingSettings]]  # whose fields are those of a trial
    mixes_inputs: ClassVar[bool] = False  # whether its sessions mix inputs where the objective says so
    has_order: ClassVar[bool] = False  # whether its rows stand in sequences, which its sessions tell
    # what may change when a study is run again, as trials are then kept or added
    growing: ClassVar[tuple[str, ...]] = ("eps", "also", "seeds")
    # what means nothing without another setting, and so tells no studies apart
    dependent: ClassVar[tuple[str, ...]] = ("drops",)

    data: str
    model: str
    eps: tuple[float, ...] = field(
        default=(0.0, 0.05, 0.1),
        metadata={
            "help": "amounts of uniform label smoothing in [0, 1]; 0 is the hard arm and must be among them",
            "metavar": "EPS",
        },
    )
    also: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": f"further objectives beside the amounts of --eps: {', '.join(FURTHER)}",
            "metavar": "OBJECTIVE",
        },
    )
    seeds: int = field(
        default=3,
        metadata={"help": "number of repetitions of every arm, with the seeds 0 .. N-1", "metavar": "N"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for eps in self.eps:
            if not 0 <= eps <= 1:
                raise InputError(f"eps must lie in [0, 1], got {eps:g}")
        if len(set(self.eps)) != len(self.eps):
            raise InputError(f"eps must not name a value twice, got {listed(self.eps)}")
        if 0 not in self.eps:
            raise InputError(
                f"eps must include 0, the hard arm that the others are compared with, got {listed(self.eps)}"
            )
        known = [form.partition(":")[0] for form in FURTHER]
        known += ["temporal"] * self.has_order + ["mixup"] * self.mixes_inputs
        for text in self.also:
            if (kind := re.split("[:+]", text)[0]) not in FORMS:
                nearest = difflib.get_close_matches(kind, known, n=1)
                meant = f", did you mean {nearest[0]}?" if nearest else ""
                raise InputError(f"an objective must be one of {', '.join(known)}, got {text!r}{meant}")
        for objective in self.objectives:  # which parses them
            if self.objectives.count(objective) > 1:
                raise InputError(f"the objectives must not name {objective} twice")
            if objective.mixup and not self.mixes_inputs:
                raise InputError(f"the objectives of {self.task} must mix no inputs, got {objective}")
            if objective.needs_order and not self.has_order:
                raise InputError(f"the objectives of {self.task} must need no neighbours, got {objective}")
            if objective.needs_teacher:
                raise InputError(f"the objectives must need no teacher, as students have, got {objective}")
        check_whole("seeds", self.seeds, at_least=1)
        if self.seeds > MOST_SEEDS:
            raise InputError(f"seeds must be at most {MOST_SEEDS:,}, got {self.seeds:,}")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives of the trials: uniform smoothing by ascending ε, then others as they were named."""
        return (*map(Objective.uniform, sorted(self.eps)), *map(Objective.parse, self.also))

    def settings(self) -> TrainingSettings:
        """Give the settings of a trial, which are fields of the recipe."""
        kind = self.settings_class
        return kind(**{f.name: getattr(self, f.name) for f in fields(kind)}).effective()

    @property
    def student(self) -> str | None:
        """The network that learns from the others; None where no study of the task has one."""
        return None

    @property
    def trains_student_alone(self) -> bool:
        """Whether students train without a teacher too."""
        return False

    @staticmethod
    def model_sha256(model: str) -> str:
        """Hash the file that a network of the user's own comes from; "" for a network of ours."""
        raise NotImplementedError

    def trials(self, data_sha256: str) -> tuple[TrialConfig, ...]:
        """Plan the trials: by objective and then by seed.

        Args:
            data_sha256: of the rows and their split.

        Raises:
            InputError: there is no module of the name that a network of the user's own has.
        """
        return self.arms(self.model, data_sha256, self.settings())

    @property
    def number_of_trials(self) -> int:
        """The number of trials of the study."""
        return len(self.objectives) * self.seeds

    def arms(self, model: str, data_sha256: str, settings: TrainingSettings) -> tuple[TrialConfig, ...]:
        """Plan the trials of a network without a teacher, by objective and then by seed."""
        sha256 = self.model_sha256(model)
        return tuple(
            TrialConfig(
                task=self.task,
                data_sha256=data_sha256,
                model=model,
                model_sha256=sha256,
                objective=str(objective),
                seed=seed,
                settings=settings,
            )
            for objective in self.objectives
            for seed in range(self.seeds)
        )
