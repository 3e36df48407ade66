"""What the students of a study learned from their teachers, in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelsmooth.report.study.estimate import Estimate, estimate
from labelsmooth.report.study.numbers import Networks
from labelsmooth.study import Study, Trial


@dataclass(frozen=True, kw_only=True)
class Taught:
    """The students of one teacher's objective at one temperature, over the seeds; on the test rows."""

    teacher: str
    temperature: float
    accuracy: Estimate
    # less the accuracy of a hard teacher's student, paired by seed and row; None for that one, or without it
    gain: Estimate | None
    equivalent_smoothing: Estimate  # γ of the teacher, over seeds alone: training rows are not stored
    agreement: Estimate
    kl: Estimate


@dataclass(frozen=True, kw_only=True)
class Students:
    """The networks that taught, learned and learned alone in a study."""

    teachers: Mapping[str, Estimate]  # the accuracy of each, by the name of its arm
    alone: Mapping[str, Estimate]  # likewise of students without one; none where they are the teachers
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
        by_teacher = {
            objective: Networks(trials) for objective, trials in study.students(temperature).items()
        }
        for objective, networks in by_teacher.items():
            hard = None if objective == "hard" else by_teacher.get("hard")
            accuracy = networks.get("test.accuracy")
            taught.append(
                Taught(
                    teacher=names[objective],
                    temperature=temperature,
                    accuracy=estimate(accuracy),
                    gain=None if hard is None else estimate(accuracy - hard.get("test.accuracy")),
                    equivalent_smoothing=estimate(networks.get("distilled.equivalent_smoothing")),
                    agreement=estimate(networks.get("distilled.agreement")),
                    kl=estimate(networks.get("distilled.kl")),
                )
            )

    def accuracies(arms: Mapping[str, Sequence[Trial]]) -> dict[str, Estimate]:
        return {names[arm]: estimate(Networks(trials).get("test.accuracy")) for arm, trials in arms.items()}

    return Students(
        teachers=accuracies(study.arms()),
        alone=accuracies(study.students_alone()),
        taught=tuple(taught),
    )
