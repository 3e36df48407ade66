"""Distillation against its formula written out in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls
from labelsmooth.losses import distillation_loss


def random_rows(rows=40, num_classes=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, rows, num_classes, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(num_classes, (rows,), generator=generator)


@pytest.mark.parametrize(
    ("beta", "temperature", "scale_t2"), [(0.3, 4.0, True), (0.9, 0.7, False), (0, 2.0, True), (1, 1.0, True)]
)
def test_student_loss_is_its_formula(beta, temperature, scale_t2):
    student, teacher, target = random_rows()
    student.requires_grad_()
    p_teacher = (teacher / temperature).softmax(-1)
    hard = -student.log_softmax(-1).gather(-1, target[:, None]).squeeze(-1)
    soft = -(p_teacher * (student / temperature).log_softmax(-1)).sum(-1)
    rows = (1 - beta) * hard + beta * soft * (temperature**2 if scale_t2 else 1)
    arguments = (student, teacher, target, beta, temperature, scale_t2)
    torch.testing.assert_close(distillation_loss(*arguments, reduction="none"), rows, rtol=1e-12, atol=0)
    torch.testing.assert_close(distillation_loss(*arguments, reduction="sum"), rows.sum(), rtol=1e-12, atol=0)
    loss = distillation_loss(*arguments)
    torch.testing.assert_close(loss, rows.mean(), rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(loss, student)
    (expected,) = torch.autograd.grad(rows.mean(), student)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-15)


def test_its_gradient_is_that_of_the_usual_kl_recipe():
    student, teacher, target = random_rows()
    student.requires_grad_()
    kl = F.kl_div((student / 3).log_softmax(-1), (teacher / 3).softmax(-1), reduction="batchmean") * 9
    usual = 0.4 * F.cross_entropy(student, target) + 0.6 * kl
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, target, 0.6, 3.0), student)
    torch.testing.assert_close(gradient, torch.autograd.grad(usual, student)[0], rtol=1e-10, atol=1e-15)


def test_a_teacher_of_smoothed_targets_is_label_smoothing():
    student, _, target = random_rows()
    smoothed = ls.uniform(0.2)(target, 6).dense(6).double()
    loss = distillation_loss(student, smoothed.log(), target, 1.0, 1.0)
    expected = ls.cross_entropy(student, target, label_smoothing=0.2)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_a_teacher_may_exclude_classes_and_rows_may_be_ignored():
    student, teacher, target = random_rows()
    student.requires_grad_()
    teacher[:, 5], target = -math.inf, target.clamp(max=4)
    target[3] = -100
    kept = target >= 0
    loss = distillation_loss(student, teacher, target, 0.5, 2.0)
    expected = distillation_loss(student[kept], teacher[kept], target[kept], 0.5, 2.0)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert distillation_loss(student, teacher, target, 0.5, 2.0, reduction="none")[3] == 0
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert (gradient[3] == 0).all()


def test_half_precision_students_and_any_shape():
    student, teacher, target = random_rows(24)
    expected = distillation_loss(student.bfloat16().double(), teacher, target, 0.5, 3.0)
    half = distillation_loss(
        student.bfloat16().reshape(2, 12, 6), teacher.reshape(2, 12, 6), target.reshape(2, 12), 0.5, 3.0
    )
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected.item(), rel=1e-6)
    rows = distillation_loss(
        student.reshape(2, 12, 6),
        teacher.reshape(2, 12, 6),
        target.reshape(2, 12),
        0.5,
        3.0,
        reduction="none",
    )
    assert rows.shape == (2, 12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beta": 1.5}, ValueError, r"beta must lie in \[0, 1\], got 1.5"),
        ({"beta": "x"}, TypeError, "beta must be a number, got str"),
        ({"temperature": 0}, ValueError, "temperature must be positive and finite, got 0"),
        ({"teacher_logits": torch.zeros(40, 5)}, ValueError, r"one shape .*, got \(40, 6\) and \(40, 5\)"),
        ({"student_logits": np.zeros((40, 6))}, TypeError, "student_logits must be a float16"),
        ({"target": torch.full((40,), 6)}, ValueError, "got 6"),
        ({"target": None}, ValueError, "without target must have beta = 1, got 0.5"),
        (
            {"target": torch.zeros(40)},
            ValueError,
            r"dense targets must have shape \(40, 6\), as the logits, got \(40,\)",
        ),
        (
            {"target": torch.zeros(40, dtype=torch.bool)},
            TypeError,
            "target must hold integer class indices, got torch.bool",
        ),
        ({"target": [0] * 40}, TypeError, "target must be a tensor, got list"),
    ],
)
def test_bad_distillations_are_refused(change, error, message):
    student, teacher, target = random_rows()
    arguments = {
        "student_logits": student,
        "teacher_logits": teacher,
        "target": target,
        "beta": 0.5,
        "temperature": 2.0,
    }
    with pytest.raises(error, match=message):
        distillation_loss(**(arguments | change))


def test_maps_are_their_rows_and_labels_may_be_missing():
    student, teacher, target = random_rows(24)
    weight = torch.arange(24).double() % 3
    expected = distillation_loss(
        student, teacher, target, 0.4, 3.0, row_weight=weight, reduction="none"
    ).reshape(2, 3, 4)
    maps = [rows.reshape(2, 3, 4, 6).movedim(-1, 1) for rows in (student, teacher)]
    loss = distillation_loss(
        *maps, target.reshape(2, 3, 4), 0.4, 3.0, class_axis=1,
        row_weight=weight.reshape(2, 3, 4), reduction="none",
    )  # fmt: skip
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    p = (teacher / 3).softmax(-1)
    soft = -9 * (p * (student / 3).log_softmax(-1)).sum(-1)
    torch.testing.assert_close(
        distillation_loss(student, teacher, None, 1, 3.0), soft.mean(), rtol=1e-12, atol=0
    )
    without = distillation_loss(
        *maps, None, 1, 3.0, class_axis=1, row_weight=(weight > 0).reshape(2, 3, 4).double()
    )
    torch.testing.assert_close(without, soft[weight > 0].mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
@pytest.mark.parametrize("ignore_index", [-100, -1, 255])
def test_narrow_labels_are_those_of_int64(dtype, ignore_index):
    """-100 is 156 among the values of uint8, and -1 is 255."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 256, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 156, 1, 255])
    kept = labels != ignore_index
    hard = F.cross_entropy(student[kept], labels[kept])
    soft = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)[kept].mean()
    loss = distillation_loss(student, teacher, labels.to(dtype), 0.5, 1.0, ignore_index=ignore_index)
    torch.testing.assert_close(loss, (hard + soft) / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1), (1, 2, 3)])
@pytest.mark.parametrize("class_axis", [-1, 1])
def test_targets_of_another_layout_are_refused(shape, class_axis):
    logits = torch.randn(2, 3, 5).movedim(-1, class_axis)
    with pytest.raises(ValueError, match=r"\(2, 3\), got "):
        distillation_loss(
            logits, logits, torch.zeros(shape, dtype=torch.long), 0.5, 2.0, class_axis=class_axis
        )


@pytest.mark.parametrize("denominator", ["rows", "valid", 7.0, None])
def test_the_mean_divides_by_the_denominator(denominator):
    student, teacher, target = random_rows(10)
    target[:3] = -100
    total = distillation_loss(student, teacher, target, 0.4, 2.0, reduction="sum")
    ours = distillation_loss(student, teacher, target, 0.4, 2.0, denominator=denominator)
    number = {"rows": 10, "valid": 7, None: 7}.get(denominator, denominator)
    torch.testing.assert_close(ours, total / number, rtol=1e-12, atol=0)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_targets_may_be_dense_or_mixtures(backend):
    student, teacher, target = random_rows()
    row_weight = torch.arange(40).double() % 3
    smoothed = ls.uniform(0.1)(target, 6)
    q = smoothed.dense(6, torch.float64)
    hard = -(q * student.log_softmax(-1)).sum(-1)
    soft = -4 * ((teacher / 2).softmax(-1) * (student / 2).log_softmax(-1)).sum(-1)
    rows = row_weight * (0.4 * hard + 0.6 * soft)
    for given in (smoothed, q):
        options = {"row_weight": row_weight, "backend": backend}
        ours = distillation_loss(student, teacher, given, 0.6, 2.0, reduction="none", **options)
        torch.testing.assert_close(ours, rows, rtol=1e-12, atol=0)
        ours = distillation_loss(student, teacher, given, 0.6, 2.0, **options)
        torch.testing.assert_close(ours, rows.sum() / (row_weight > 0).sum(), rtol=1e-12, atol=0)


def test_the_module_passes_on_every_setting():
    student, teacher, target = random_rows(24)
    maps = [rows.reshape(2, 3, 4, 6).movedim(-1, 1) for rows in (student, teacher)]
    target, row_weight = target.reshape(2, 3, 4), torch.rand(2, 3, 4, dtype=torch.float64)
    settings = {"class_axis": 1, "ignore_index": 2, "denominator": 5.0}
    module = ls.DistillationLoss(0.4, 3.0, False, **settings)
    expected = distillation_loss(*maps, target, 0.4, 3.0, False, row_weight=row_weight, **settings)
    assert torch.equal(module(*maps, target, row_weight), expected)
    assert torch.equal(
        ls.DistillationLoss(1.0, 3.0)(student, teacher), distillation_loss(student, teacher, None, 1.0, 3.0)
    )


@pytest.mark.parametrize(("beta", "at"), [(0.0, (0, 1)), (1.0, (0, 0))])
def test_a_part_with_no_share_leaves_nothing_even_where_it_is_infinite(beta, at):
    student, teacher = torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    target = torch.tensor([0])
    if beta:  # the label has no probability, and the teacher asks for none of it
        teacher[at] = -math.inf
    student[at] = -math.inf
    p = (teacher / 2).double().softmax(-1)
    log_p = (student / 2).double().log_softmax(-1)
    soft = 4 * -(p[p > 0] * log_p[p > 0]).sum()
    hard = -student.double().log_softmax(-1)[0, 0]
    loss = ls.losses.distillation_loss(student, teacher, target, beta, 2.0)
    assert float(loss) == pytest.approx(float(soft if beta else hard), rel=1e-6)


def test_labels_are_checked_even_where_they_have_no_share():
    with pytest.raises(ValueError, match="target must lie in 0..2, got 3"):
        ls.losses.distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 3]), 1.0, 2.0)


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1)])
def test_row_weights_of_another_layout_are_refused(shape):
    logits = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"row_weight must have shape \(2, 3\)"):
        ls.losses.distillation_loss(
            logits, logits, torch.zeros(2, 3).long(), 0.5, 2.0, class_axis=-1, row_weight=torch.ones(shape)
        )
