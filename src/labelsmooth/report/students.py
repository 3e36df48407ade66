"""What the students of a study learned from their teachers, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from labelsmooth.report.verdict import Estimate, estimate
from labelsmooth.study import Study, Trial

_accuracy: Callable[[Trial], float] = attrgetter("metrics.test.accuracy")


@dataclass(frozen=True, kw_only=True)
class Taught:
    """The students of one teacher's objective at one temperature, over the seeds; on the test rows."""

    teacher: str
    temperature: float
    accuracy: Estimate
    gain: Estimate | None  # less the accuracy of a hard teacher's student, paired by seed; None for that one
    equivalent_smoothing: Estimate  # γ of the teacher
    agreement: Estimate
    kl: Estimate


@dataclass(frozen=True, kw_only=True)
class Untaught:
    """A teacher, or a student without one."""

    name: str
    accuracy: Estimate


@dataclass(frozen=True, kw_only=True)
class Students:
    """All of a study's distillation."""

    teachers: tuple[Untaught, ...]
    alone: tuple[Untaught, ...]  # none where they are the teachers
    taught: tuple[Taught, ...]  # by temperature, then by teacher


def students(study: Study) -> Students | None:
    """The distillation of a finished study; None where it has no students.

    The gain at T = 1 less that at a higher T is what Chandrasegaran et al. 2022, "Revisiting Label Smoothing
    and Knowledge Distillation Compatibility", find positive.
    """
    recipe = study.recipe
    if recipe.student is None:
        return None
    names = {str(objective): objective.name for objective in recipe.objectives}
    taught = []
    for temperature in recipe.temperatures:
        by_teacher = study.students(temperature)
        for objective, trials in by_teacher.items():
            differences = [
                _accuracy(one) - _accuracy(other)
                for one, other in zip(trials, by_teacher["hard"], strict=True)
            ]
            taught.append(
                Taught(
                    teacher=names[objective],
                    temperature=temperature,
                    accuracy=_over(trials, _accuracy),
                    gain=None if objective == "hard" else estimate(differences),
                    equivalent_smoothing=_over(trials, attrgetter("metrics.distilled.equivalent_smoothing")),
                    agreement=_over(trials, attrgetter("metrics.distilled.agreement")),
                    kl=_over(trials, attrgetter("metrics.distilled.kl")),
                )
            )
    return Students(
        teachers=tuple(
            Untaught(name=names[objective], accuracy=_over(trials, _accuracy))
            for objective, trials in study.arms().items()
        ),
        alone=tuple(
            Untaught(name=names[objective], accuracy=_over(trials, _accuracy))
            for objective, trials in study.students_alone().items()
        ),
        taught=tuple(taught),
    )


def _over(trials: Sequence[Trial], of: Callable[[Trial], float]) -> Estimate:
    return estimate([of(trial) for trial in trials])
