"""Studies whose networks can teach others."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

from labelsmooth.errors import InputError
from labelsmooth.objectives import Objective
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.settings import TrainingSettings, listed, setting_words
from labelsmooth.study.trial import Teacher, TrialConfig


@dataclass(frozen=True, kw_only=True)
class TeachingRecipe(BaseRecipe):
    """A study that can have a student, another network than that of its arms.

    It learns at every temperature from each of these as its teacher, and, as what to compare with, from every
    objective without one.

    Raises:
        InputError: a setting is outside its range, or means nothing without a student.
    """

    of_students: ClassVar[tuple[str, ...]] = ("temperatures", "beta")  # what means nothing without one
    growing: ClassVar[tuple[str, ...]] = (*BaseRecipe.growing, "student", *of_students)
    dependent: ClassVar[tuple[str, ...]] = (*BaseRecipe.dependent, *of_students)

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

    @property
    def idle(self) -> set[str]:
        """The names of the settings that mean nothing beside the others."""
        return super().idle | (set(self.of_students) if self.student is None else set())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperatures or len(set(self.temperatures)) != len(self.temperatures):
            raise InputError(
                f"temperatures must name at least one value, and none twice, got {listed(self.temperatures)}"
            )
        for value in self.temperatures:
            if not 0.01 <= value <= 10_000:
                raise InputError(f"temperatures must lie in [0.01, 10000], got {value:g}")
        if not 0 < self.beta <= 1:
            raise InputError(f"beta must lie in (0, 1], got {self.beta:g}")
        for setting in fields(self):
            value = getattr(self, setting.name)
            if self.student is None and setting.name in self.of_students and value != setting.default:
                raise InputError(
                    f"{setting.name} must go with a student, got {setting_words(value)} without one"
                )

    def student_settings(self) -> TrainingSettings:
        """Give the settings of a student's trial."""
        return self.settings()

    @property
    def student_words(self) -> str:
        """Words for how students are trained otherwise than their teachers, behind "in the same way"."""
        return ""

    def trials(self, data_sha256: str) -> tuple[TrialConfig, ...]:
        """Plan the trials as `BaseRecipe.trials` does, the students after all of their teachers."""
        first = super().trials(data_sha256)
        if self.student is None:
            return first
        alone = self.arms(self.student, data_sha256, self.student_settings())
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
