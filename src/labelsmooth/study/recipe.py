"""What a study trains: the settings that every task has, and the trials that they plan."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

from labelsmooth.errors import InputError
from labelsmooth.objectives import FORMS, Objective
from labelsmooth.study.settings import Settings, TrainingSettings, check_whole, listed
from labelsmooth.study.trial import Teacher, TrialConfig

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

    With a student, another network learns at every temperature from each of these as its teacher, and, as
    what to compare with, from every objective without one.

    A task's recipe derives from its settings and from this class, so that all fields are its options.

    Raises:
        InputError: a setting is outside its range.
    """

    task: ClassVar[str]
    settings_class: ClassVar[type[TrainingSettings]]  # whose fields are those of a trial
    mixes_inputs: ClassVar[bool] = False  # whether its sessions mix inputs where the objective says so
    has_order: ClassVar[bool] = False  # whether its rows stand in sequences, which its sessions tell
    # what may change when a study is run again, as trials are then kept or added
    growing: ClassVar[tuple[str, ...]] = ("eps", "also", "seeds", "student", "temperatures", "beta")
    # what means nothing without another setting, and so tells no studies apart
    dependent: ClassVar[tuple[str, ...]] = ("drops", "temperatures", "beta")

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
    student: str | None = field(
        default=None,
        metadata={
            "help": "network that is to learn from each of the others as its teacher, named as for --model",
            "metavar": "MODEL",
        },
    )
    temperatures: tuple[float, ...] = field(
        default=(1.0, 2.0, 4.0),
        metadata={"help": "temperatures T of teacher and student, above 0", "metavar": "T"},
    )
    beta: float = field(
        default=1.0,
        metadata={
            "help": "share of the teacher in a student's loss, in (0, 1]; the rest is of the labels",
            "metavar": "X",
        },
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
        for objective in self.objectives:  # which parses them
            if self.objectives.count(objective) > 1:
                raise InputError(f"the objectives must not name {objective} twice")
            if objective.mixup and not self.mixes_inputs:
                raise InputError(f"the objectives of {self.task} must mix no inputs, got {objective}")
            if objective.needs_order and not self.has_order:
                raise InputError(f"the objectives of {self.task} must need no neighbours, got {objective}")
            if objective.needs_teacher:
                raise InputError(f"the objectives must need no teacher, as students have, got {objective}")
        if not self.temperatures or len(set(self.temperatures)) != len(self.temperatures):
            raise InputError(
                f"temperatures must name at least one value, and none twice, got {listed(self.temperatures)}"
            )
        for value in self.temperatures:
            if not 0.01 <= value <= 10_000:
                raise InputError(f"temperatures must lie in [0.01, 10000], got {value:g}")
        if not 0 < self.beta <= 1:
            raise InputError(f"beta must lie in (0, 1], got {self.beta:g}")
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

    def student_settings(self) -> TrainingSettings:
        """Give the settings of a student's trial."""
        return self.settings()

    @property
    def student_words(self) -> str:
        """Words for how students are trained otherwise than their teachers, behind "in the same way"."""
        return ""

    def model_sha256(self, model: str) -> str:
        """Hash the file that a network of the user's own comes from; "" for a network of ours."""
        raise NotImplementedError

    def trials(self, data_sha256: str) -> tuple[TrialConfig, ...]:
        """Plan the trials: by objective and then by seed, the students after all of their teachers.

        Args:
            data_sha256: of the rows and their split.

        Raises:
            InputError: there is no module of the name that a network of the user's own has.
        """
        first = self._arms(self.model, data_sha256, self.settings())
        if self.student is None:
            return first
        alone = self._arms(self.student, data_sha256, self.student_settings())
        taught = tuple(
            replace(
                student,
                objective=str(Objective("distillation", (temperature, self.beta))),
                teacher=Teacher(id=teacher.id, objective=teacher.objective),
            )
            for temperature in self.temperatures
            for teacher, student in zip(first, alone, strict=True)
        )
        return (*first, *(alone if self.trains_student_alone else ()), *taught)

    @property
    def trains_student_alone(self) -> bool:
        """Whether students train without a teacher too: one that is as its teacher is there already."""
        student, teacher = (self.student, self.student_settings()), (self.model, self.settings())
        return self.student is not None and student != teacher

    @property
    def number_of_trials(self) -> int:
        """The number of trials of the study."""
        taught = 0 if self.student is None else len(self.temperatures)
        return len(self.objectives) * self.seeds * (1 + self.trains_student_alone + taught)

    def _arms(self, model: str, data_sha256: str, settings: TrainingSettings) -> tuple[TrialConfig, ...]:
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
