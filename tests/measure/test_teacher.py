"""Distillation against its formulas written out in float64, and on networks really trained."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import labelsmooth as ls
from labelsmooth.measure import Teacher, distillation_loss, equivalent_smoothing, teacher_agreement


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
        ({"target": torch.zeros(40)}, TypeError, "target must hold integer class indices, got torch.float32"),
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


def test_weights_of_a_teacher_are_rows_that_many_times():
    _, logits, target = random_rows(24)
    weight = torch.arange(24) % 3
    ignored = torch.where(weight > 0, target, 9)
    teacher, expected = Teacher(), Teacher()
    teacher.update(
        logits.reshape(2, 12, 6).movedim(-1, 1),
        ignored.reshape(2, 12),
        weight.reshape(2, 12),
        ignore_index=9,
        class_axis=1,
    )
    expected.update(logits.repeat_interleave(weight, 0), target.repeat_interleave(weight))
    for name in ("equivalent_smoothing", "wrong_information", "wrong_sd", "logit_gap"):
        assert getattr(teacher.compute(), name) == pytest.approx(getattr(expected.compute(), name), rel=1e-12)
    assert teacher.compute().rows == int((weight > 0).sum())


@pytest.mark.parametrize("eps", [0.0, 1e-12, 0.1, 0.5])
@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_smoothed_targets_have_their_own_eps(eps, num_classes):
    target = torch.arange(num_classes)
    q = eps / num_classes + (1 - eps) * torch.eye(num_classes, dtype=torch.float64)
    assert equivalent_smoothing(q.log(), target) == pytest.approx(eps, rel=1e-9, abs=0)
    # softened by T, a target is the smoothed one of another ε
    softened = q.log() / 2
    assert equivalent_smoothing(q.log(), target, 2.0) == pytest.approx(
        equivalent_smoothing(softened, target), rel=1e-12
    )


def test_teacher_is_its_definition():
    _, logits, target = random_rows()
    teacher = Teacher(2.0)
    teacher.update(logits + 1e6, target)
    result = teacher.compute()
    smoothing, information, sd, gap = [], [], [], []
    for z, y in zip(logits.numpy(), target.tolist(), strict=True):
        p = np.exp(z / 2) / np.exp(z / 2).sum()
        wrong, r = np.delete(z, y), np.delete(p, y) / np.delete(p, y).sum()
        smoothing.append((1 - p[y]) * 6 / 5)
        information.append(math.log(5) + (r * np.log(r)).sum())
        sd.append(wrong.std())
        gap.append(z[y] - wrong.mean())
    assert result.rows == 40
    assert result.equivalent_smoothing == pytest.approx(np.mean(smoothing), rel=1e-8)
    assert result.wrong_information == pytest.approx(np.mean(information), rel=1e-8)
    assert result.wrong_sd == pytest.approx(np.mean(sd), rel=1e-8)
    assert result.logit_gap == pytest.approx(np.mean(gap), rel=1e-8)


def test_a_teacher_in_parts_is_the_same():
    _, logits, target = random_rows()
    whole, first, second = Teacher(), Teacher(), Teacher()
    whole.update(logits, target)
    first.update(logits[:7].numpy(), target[:7].numpy())
    second.update(logits[7:].reshape(3, 11, 6), target[7:].reshape(3, 11))
    first.merge(second)
    for name, value in vars(whole.compute()).items():
        assert getattr(first.compute(), name) == pytest.approx(value, rel=1e-12), name
    with pytest.raises(ValueError, match="same options.*got temperature=1 and temperature=2"):
        first.merge(Teacher(2.0))
    first.reset()
    with pytest.raises(ValueError, match="at least one row, got none"):
        first.compute()


def test_probabilities_of_zero_and_one_teach_nothing():
    teacher = Teacher()
    teacher.update(
        np.log(np.array([[1.0, 0, 0]]), where=[[True, False, False]], out=np.full((1, 3), -np.inf)),
        np.array([0]),
    )
    result = teacher.compute()
    assert (result.equivalent_smoothing, result.wrong_information) == (0, 0)
    assert result.wrong_sd == result.logit_gap == math.inf
    with pytest.raises(ValueError, match=r"neither NaN nor \+inf, got 1 of 1 rows"):
        teacher.update(torch.tensor([[math.nan, 0]]), torch.tensor([0]))


def test_agreement_is_its_definition():
    student, teacher, _ = random_rows()
    result = teacher_agreement(student, teacher.numpy(), 3.0)
    p, q = (teacher / 3).softmax(-1), (student / 3).softmax(-1)
    assert result.rows == 40
    assert result.agreement == (student.argmax(-1) == teacher.argmax(-1)).double().mean().item()
    assert result.kl == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-12)
    assert teacher_agreement(teacher, teacher).kl == 0


def test_agreement_of_impossible_classes():
    one, other = torch.tensor([[0.0, 0, -math.inf]]), torch.tensor([[0.0, -math.inf, -math.inf]])
    assert teacher_agreement(one, other).kl == pytest.approx(math.log(2))
    assert teacher_agreement(other, one).kl == math.inf
    with pytest.raises(ValueError, match=r"one shape \(…, K\) with K ≥ 2, got \(1, 3\) and \(1, 2\)"):
        teacher_agreement(one, other[:, :2])
    with pytest.raises(ValueError, match="at least one row"):
        teacher_agreement(one[:0], other[:0])


def trained(x, y, eps):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        ls.cross_entropy(network(x), y, label_smoothing=eps).backward()
        optimizer.step()
    return network


def test_a_smoothed_network_says_less_about_the_wrong_classes():
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16).float(), torch.tensor(labels)
    results = {}
    for eps in (0.0, 0.1):
        network = trained(x[:1200], y[:1200], eps)
        with torch.no_grad():
            logits = network(x[1200:])
        teacher = Teacher()
        teacher.update(logits, y[1200:])
        results[eps] = teacher.compute()
    hard, smoothed = results[0.0], results[0.1]
    assert smoothed.wrong_information < hard.wrong_information / 3
    assert smoothed.wrong_sd / smoothed.logit_gap < hard.wrong_sd / hard.logit_gap / 1.5
    assert smoothed.equivalent_smoothing > hard.equivalent_smoothing
