"""Distillation against its formulas written out in float64, and on networks really trained."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import labelsmooth as ls
from labelsmooth.measure import Teacher, equivalent_smoothing, teacher_agreement


def random_rows(rows=40, num_classes=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, rows, num_classes, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(num_classes, (rows,), generator=generator)


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
