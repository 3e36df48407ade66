"""The objective of a student, which learns from a teacher beside the labels."""

from __future__ import annotations

from torch import Tensor

from labelsmooth.losses import distillation_loss
from labelsmooth.mixture import Mixture
from labelsmooth.objectives.criterion import (
    Criterion,
    LinearOutput,
    Loss,
    Number,
    Output,
    count_correct,
    sum_over_chunks,
)


class Distillation(Criterion, kind="distillation"):
    """`distillation:T:β`: the share β of the loss, times T², is of the teacher's softened predictions."""

    short = "distillation"
    phrase = "distillation"
    numbers = (
        # T² multiplies the loss, in float32
        Number("T", "lie in [0.01, 10000]", lambda temperature: 0.01 <= temperature <= 10_000),
        Number("β", "lie in (0, 1]", lambda beta: 0 < beta <= 1, default=1.0),
    )
    takes_mixtures = False
    needs_teacher = True

    def __call__(
        self,
        output: Output,
        labels: Tensor,
        *,
        denominator: float,
        target: Mixture | None = None,  # noqa: ARG002
        teacher: Output | None = None,
    ) -> Loss:
        temperature, beta = self.values

        def loss(student_logits: Tensor, teacher_logits: Tensor, rows: Tensor) -> Tensor:
            summed = distillation_loss(
                student_logits, teacher_logits, rows, beta, temperature, reduction="sum"
            )
            return summed / denominator

        if isinstance(output, LinearOutput):
            assert isinstance(teacher, LinearOutput)
            return sum_over_chunks(loss, labels, output, teacher)
        assert isinstance(teacher, Tensor)
        return Loss(loss(output, teacher, labels), count_correct(output, labels))
