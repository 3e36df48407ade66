"""The closed forms of sigmoids and of preferences against minima of the losses themselves."""

import itertools
import math

import pytest
import torch

import labelsmooth as ls
from labelsmooth import theory

CASES = [("half", 0.1, None), ("full", 0.2, None), ("timm", 0.3, 4), ("keras", 1.0, None)]


@pytest.mark.parametrize(("convention", "eps", "labels"), CASES)
def test_the_optimum_is_where_the_loss_is_smallest(convention, eps, labels):
    """The derivative of the loss is 0 there, and its value the floor."""
    target = torch.zeros(1, labels or 1, dtype=torch.float64)
    target[0, 0] = 1
    smoothing = ls.binary_convention(convention, eps)
    logit = theory.binary_optimal_logit(eps, convention, labels)
    floor = theory.binary_entropy_floor(eps, convention, labels)
    for y, at, least in ((1, logit.on_label, floor.on_label), (0, logit.off_label, floor.off_label)):
        z = torch.full(target.shape, at, dtype=torch.float64, requires_grad=True)
        losses = ls.binary_cross_entropy_with_logits(
            z, torch.full_like(target, y), reduction="none", label_smoothing=smoothing
        )
        torch.testing.assert_close(losses.detach(), torch.full_like(losses, least), rtol=1e-12, atol=1e-14)
        (slope,) = torch.autograd.grad(losses.sum(), z)
        assert slope.abs().max() < 1e-15
    share = theory.binary_target(eps, convention, labels)
    assert share.on_label == pytest.approx(1 / (1 + math.exp(-logit.on_label)), rel=1e-12)


def test_the_ends():
    assert theory.binary_optimal_logit(0.0) == theory.BinaryLevels(on_label=math.inf, off_label=-math.inf)
    assert theory.binary_entropy_floor(0.0) == theory.BinaryLevels(on_label=0.0, off_label=0.0)
    assert theory.binary_optimal_logit(0.1).on_label == pytest.approx(math.log((2 - 0.1) / 0.1), rel=1e-12)


def test_conversions_give_equal_labels():
    y = torch.tensor([[1.0, 0.0, 0.3]], dtype=torch.float64)
    names = ["half", "full", "timm", "ultralytics"]
    for source, to in itertools.product(names, names):
        if (source == "timm") != (to == "timm"):
            with pytest.raises(ValueError, match=f"no eps of {to} gives the labels of {source} at 0.2"):
                theory.binary_convert(0.2, source, to, 3)
            continue
        eps = theory.binary_convert(0.2, source, to, 3)
        ours, theirs = (ls.binary_convention(n, e)(y, 3) for n, e in ((to, eps), (source, 0.2)))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert theory.binary_convert(0.2, "timm", "half", 2) == pytest.approx(0.2)  # two labels: ε/K is ε/2


def test_the_margin_of_preferences():
    for eps, beta in ((0.1, 0.1), (0.3, 2.0)):
        at = theory.preference_optimum(eps, beta)
        h = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        loss = ls.preference_loss(h, beta, eps)
        (slope,) = torch.autograd.grad(loss, h)
        assert abs(float(slope)) < 1e-15
        assert float(loss.detach()) == pytest.approx(theory.preference_floor(eps), rel=1e-12)
    assert theory.preference_optimum(0.0) == theory.preference_optimum(0.2, kind="robust") == math.inf
    assert theory.preference_floor(0.2, "robust") == -math.inf
    far = ls.preference_loss(
        torch.tensor([1e4, 1e5], dtype=torch.float64), 1.0, 0.2, "robust", reduction="none"
    )
    assert far[1] < 5 * far[0] < 0  # it falls without end


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.binary_target(1.1), r"eps must lie in \[0, 1\], got 1.1"),
        (lambda: theory.binary_target(0.6, "full"), r"eps of full must be in \[0, 0.5\], got 0.6"),
        (lambda: theory.binary_target(0.1, "timm"), "the convention timm needs num_labels, got None"),
        (lambda: theory.binary_target(0.1, "torch"), "unknown convention of sigmoids 'torch'"),
        (lambda: theory.preference_optimum(0.5, kind="robust"), "must be below 0.5, got 0.5"),
        (lambda: theory.preference_floor(0.5, "soft"), "kind must be 'conservative' or 'robust', got 'soft'"),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
