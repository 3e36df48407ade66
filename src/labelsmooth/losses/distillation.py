"""The loss of a student that learns from labels and from a teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.backends import BackendName
from labelsmooth.checks import (
    as_classes,
    classes_last,
    require_classes,
    require_logits,
    require_number,
    require_positive,
    require_tensor,
)
from labelsmooth.errors import InputError
from labelsmooth.losses.cross_entropy import cross_entropy
from labelsmooth.losses.targets import Denominator, ReductionName, check_weight
from labelsmooth.mixture import Mixture


def distillation_loss(
    student_logits: Tensor,  # (..., K)
    teacher_logits: Tensor,  # (..., K)
    target: Tensor | Mixture | None,  # (...), or dense as the logits
    beta: float,
    temperature: float,
    scale_t2: bool = True,
    *,
    ignore_index: int = -100,
    class_axis: int = -1,
    row_weight: Tensor | None = None,  # (...)
    reduction: ReductionName = "mean",
    denominator: Denominator = None,
    backend: BackendName = "auto",
) -> Tensor:
    """Cross-entropy of a student against labels and against a teacher's softened prediction, in nats.

    (1−β)·H(y, p) + β·T²·H(pᵗ(T), p(T)) with p(T) = softmax(z/T) and pᵗ the teacher's. The gradient of the
    second term is that of T²·KL(pᵗ(T)‖p(T)), and T² keeps its size while T changes.

    Args:
        student_logits: (…, K) floats, K ≥ 2.
        teacher_logits: (…, K) floats; −inf is a class of probability 0. No gradient goes to the teacher.
        target: (…) class indices in 0..K−1 or `ignore_index`, dense targets of the shape of the logits, or a
            `Mixture`; None where β = 1 needs no labels.
        beta: the teacher's share β in [0, 1].
        temperature: T > 0.
        scale_t2: False leaves the factor T² out.
        ignore_index: rows with this target have no loss and no gradient.
        class_axis: of the logits and of dense targets; 1 in maps (N, K, H, W) with targets (N, H, W).
        row_weight: (…) factors on the rows' losses; a row with 0 does not count.
        reduction: "none", "sum", or "mean", which divides the sum by `denominator`.
        denominator: of the mean, as in `cross_entropy`; None is the number of rows that count.
        backend: as in `cross_entropy`.

    Returns:
        A scalar, or (…) for "none", with 0 for ignored rows; float64 for float64 logits, else float32.

    Raises:
        TypeError: logits that are no floats, or a number that is none.
        ValueError: logits of two shapes, a target of another layout, a β or T out of range, no target with
            β < 1, or what `cross_entropy` refuses.

    Cost: two cross-entropies, and three tensors of the size of the logits.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[3.0, 2.0, 0.0]])
        >>> distillation_loss(student, teacher, torch.tensor([0]), beta=0.9, temperature=2.0)
        tensor(3.6416)

    Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", §2; Müller, Kornblith
    & Hinton 2019, "When Does Label Smoothing Help?", §4, which writes it without T².
    """
    require_logits(student_logits, "student_logits")
    require_logits(teacher_logits, "teacher_logits")
    if student_logits.shape != teacher_logits.shape or student_logits.dim() == 0:
        raise InputError(
            "student_logits and teacher_logits must have one shape (…, K), "
            f"got {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    check_mix(beta, temperature)
    if target is None and beta != 1:
        raise InputError(f"a loss without target must have beta = 1, got {beta}")
    rows = classes_last(student_logits, class_axis, "student_logits").shape[:-1]
    check_weight("row_weight", row_weight, rows)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    teacher_row_weight = student_logits.new_ones(rows, dtype=dtype) if row_weight is None else row_weight
    if target is not None and not isinstance(target, Mixture):
        require_tensor(target, "target")
        if not target.is_floating_point():
            target = as_classes(target, "target")
            ignored = _ignored_rows(target, ignore_index, rows, student_logits.shape[class_axis])
            teacher_row_weight = torch.where(ignored, 0, teacher_row_weight)
    # a weight of 0 leaves its term out, which may be infinite
    terms: list[Tensor] = []
    if target is not None and beta < 1:
        label_loss = cross_entropy(
            student_logits,
            target,
            class_axis=class_axis,
            ignore_index=ignore_index,
            row_weight=row_weight,
            reduction=reduction,
            denominator=denominator,
            backend=backend,
        )
        terms.append((1 - beta) * label_loss)
    if beta > 0:
        teacher_loss = cross_entropy(
            student_logits.to(dtype) / temperature,
            (teacher_logits.detach().to(dtype) / temperature).softmax(class_axis),
            class_axis=class_axis,
            row_weight=teacher_row_weight,
            reduction=reduction,
            denominator=denominator,
            backend=backend,
        )
        terms.append(beta * (temperature**2 if scale_t2 else 1) * teacher_loss)
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _ignored_rows(target: Tensor, ignore_index: int, rows: torch.Size, num_classes: int) -> Tensor:
    """Return True for ignored rows, (…), or raise `ValueError` for targets that do not fit the logits."""
    if target.shape != rows:
        raise InputError(
            f"target must have the shape of the logits without their classes, {tuple(rows)}, "
            f"got {tuple(target.shape)}"
        )
    ignored = target == ignore_index
    require_classes(torch.where(ignored, 0, target), num_classes, "target")
    return ignored


def check_mix(beta: float, temperature: float) -> None:
    """Raise `TypeError` or `ValueError` unless β is in [0, 1] and T is positive and finite."""
    require_number(beta, "beta")
    if not 0 <= beta <= 1:
        raise InputError(f"beta must lie in [0, 1], got {beta}")
    require_positive(temperature, "temperature")
