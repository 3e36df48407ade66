"""The smoothed cross-entropy of sigmoids against its definition in float64, torch and timm."""

import itertools
import re

import pytest
import torch
from timm_apart import timm
from torch import nn
from torch.nn import functional as F

import labelsmooth as ls

EACH = torch.tensor([0.1, 0.2, 0.0], dtype=torch.float64)
bce = ls.binary_cross_entropy_with_logits


def drawn(*shape):
    logits = 3 * torch.randn(shape, dtype=torch.float64)
    return logits.requires_grad_(), torch.rand(shape, dtype=torch.float64).round(decimals=1)


def definition(logits, smoothed, pos_weight=1.0):
    """−p·y′·log σ(z) − (1−y′)·log σ(−z) of each logit."""
    return pos_weight * smoothed * torch.log1p(torch.exp(-logits)) + (1 - smoothed) * torch.log1p(
        torch.exp(logits)
    )


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (4, 3, 2, 2), (0, 3)])
def test_it_is_a_drop_in(shape):
    logits, labels = drawn(*shape)
    weights = {"none": None, "each": torch.rand(shape, dtype=torch.float64)}
    if len(shape) == 2:
        weights |= {"labels": torch.rand(3), "rows": torch.rand(shape[0], 1)}
    for (_, weight), (_, pos), reduction in itertools.product(
        weights.items(), weights.items(), ["none", "mean", "sum"]
    ):
        if reduction == "mean" and not logits.numel():
            continue  # of nothing it is NaN in torch
        settings = {"weight": weight, "reduction": reduction, "pos_weight": pos}
        exact = F.binary_cross_entropy_with_logits(logits, labels, **settings)
        ours = bce(logits, labels, **settings)
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-15)
        upstream = torch.rand_like(exact)
        for module in (ls.BCEWithLogitsLoss(**settings), nn.BCEWithLogitsLoss(**settings)):
            slope = torch.autograd.grad(module(logits, labels), logits, upstream)[0]
            torch.testing.assert_close(
                torch.autograd.grad(bce(logits, labels, **settings), logits, upstream)[0],
                slope,
                rtol=1e-12,
                atol=1e-15,
            )
    assert isinstance(ls.BCEWithLogitsLoss(), nn.BCEWithLogitsLoss)


@pytest.mark.parametrize(
    ("smoothing", "on", "off"),
    [
        (0.1, 0.95, 0.05),
        (ls.binary_convention("keras", 0.1), 0.95, 0.05),
        (ls.binary_convention("full", 0.1), 0.9, 0.1),
        (ls.binary_convention("timm", 0.3), 0.8, 0.1),
        (EACH, 1 - EACH / 2, EACH / 2),
    ],
    ids=str,
)
def test_conventions_are_what_they_publish(smoothing, on, off):
    logits, labels = drawn(6, 3)
    exact = definition(logits, labels * on + (1 - labels) * off, 2.0)
    ours = bce(logits, labels, reduction="none", pos_weight=torch.tensor(2.0), label_smoothing=smoothing)
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        gradient(ours.sum(), logits), gradient(exact.sum(), logits), rtol=1e-12, atol=1e-14
    )


def test_the_page_of_conventions_is_the_table():
    names = {name: (c.on_label(0.1, 4), c.off_label(0.1, 4)) for name, c in ls.binary_conventions().items()}
    assert names["ultralytics"] == names["half"] == (0.95, 0.05)
    assert names["segmentation_models_pytorch"] == names["full"] == (0.9, 0.1)
    assert names["timm"] == (0.925, 0.025)
    for convention in ls.binary_conventions().values():
        if convention.half_eps is not None:
            half = ls.binary_conventions()["half"]
            assert half.on_label(convention.half_eps(0.1), 4) == convention.on_label(0.1, 4)


def test_timm_s_own():
    logits, _ = drawn(6, 5)
    labels = torch.randint(5, (6,))
    for summed in (False, True):
        theirs = timm.loss.BinaryCrossEntropy(smoothing=0.1, sum_classes=summed)(logits, labels)
        ours = bce(
            logits,
            labels,
            label_smoothing=ls.binary_convention("timm", 0.1),
            denominator="rows" if summed else None,
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)  # its targets are float32
        torch.testing.assert_close(bce(logits, ls.uniform(0.1)(labels, 5)), bce(
            logits, labels, label_smoothing=ls.binary_convention("timm", 0.1)
        ), rtol=1e-12, atol=0)  # fmt: skip


def test_derivatives_of_any_order_and_in_everything():
    logits, labels = drawn(3, 2)
    labels.requires_grad_()
    pos = torch.rand(2, dtype=torch.float64, requires_grad=True)
    eps = torch.rand(3, 1, dtype=torch.float64, requires_grad=True)

    def loss(z, y, p, e):
        return bce(z, y.clamp(0, 1), pos_weight=p, label_smoothing=e.clamp(0, 1))

    labels = (0.2 + 0.6 * labels).detach().requires_grad_()
    eps = (0.1 + 0.8 * eps).detach().requires_grad_()
    arguments = (logits, labels, pos, eps)
    assert torch.autograd.gradcheck(loss, arguments, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, arguments)
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # where |z| has a kink
    assert torch.autograd.gradcheck(lambda z: bce(z, torch.tensor([1.0, 0.0]), label_smoothing=0.2), zero)
    rows = torch.func.vmap(lambda z, y: bce(z, y, label_smoothing=0.1))(logits, labels)
    torch.testing.assert_close(rows, bce(logits, labels, reduction="none", label_smoothing=0.1).mean(1))


def test_what_does_not_count():
    logits, labels = drawn(4, 3)
    with torch.no_grad():
        logits[1, 2] = torch.nan
    labels[1, 2] = labels[3, 0] = -1
    counts = labels != -1
    exact = definition(logits[counts], 0.9 * labels[counts] + 0.05)
    loss = bce(logits, labels, label_smoothing=0.1, ignore_index=-1)
    torch.testing.assert_close(loss, exact.mean(), rtol=1e-12, atol=0)
    slope = gradient(loss, logits)
    torch.testing.assert_close(slope[counts], gradient(exact.mean(), logits)[counts], rtol=1e-12, atol=0)
    assert (slope[~counts] == 0).all()
    settings = {"label_smoothing": 0.1, "ignore_index": -1}
    torch.testing.assert_close(bce(logits, labels, denominator="rows", **settings), exact.sum() / 4)
    torch.testing.assert_close(bce(logits, labels, denominator=7, **settings), exact.sum() / 7)
    row_weight = torch.tensor([2.0, 0.0, 1.0, 1.0])
    each = bce(logits, labels, reduction="none", **settings)
    weighted = bce(logits, labels, row_weight=row_weight, denominator="valid", **settings)
    torch.testing.assert_close(weighted, (each * row_weight.unsqueeze(1)).sum() / 3)
    nothing = bce(logits, torch.full_like(labels, -1), ignore_index=-1)
    assert nothing == 0
    assert (gradient(nothing, logits) == 0).all()


@pytest.mark.parametrize("axis", [1, -1])
def test_class_indices_are_one_hot_labels(axis):
    logits, _ = drawn(2, 4, 4)
    index = torch.tensor([[0, 3, -100, 1], [2, 2, 1, -100]])
    hot = F.one_hot(index.clamp(min=0), 4).double().movedim(-1, axis)
    counted = (index != -100).unsqueeze(axis).expand(logits.shape)
    exact = definition(logits, 0.9 * hot + 0.05)[counted].mean()
    loss = bce(logits, index, label_smoothing=0.1, class_axis=axis, ignore_index=-100)
    torch.testing.assert_close(loss, exact, rtol=1e-12, atol=0)


def test_far_logits_and_half_precision():
    logits = torch.tensor([-torch.inf, torch.inf, -1e4, 1e4, -1e4, 80.0], requires_grad=True)
    labels = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    losses = bce(logits, labels, reduction="none")
    torch.testing.assert_close(losses, torch.tensor([0.0, 0.0, 0.0, 0.0, 1e4, 80.0]))
    torch.testing.assert_close(gradient(losses.sum(), logits), torch.tensor([0.0, 0.0, 0.0, 0.0, -1.0, 1.0]))
    half = torch.randn(1000).bfloat16()
    ones = torch.ones(1000, dtype=torch.bool)
    loss = bce(half, ones, label_smoothing=0.1)
    assert loss.dtype == torch.float32
    exact = definition(half.double(), torch.full((1000,), 0.95, dtype=torch.float64)).mean()
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)


def test_statistics_are_those_of_two_classes():
    logits, labels = drawn(50, 3)
    labels[0, 0] = -1
    loss, stats = bce(logits, labels, label_smoothing=0.1, ignore_index=-1, return_stats=True)
    counts, holds = labels != -1, labels >= 0.5
    assert stats.accuracy == ((logits > 0) == holds)[counts].double().mean()
    plain = F.binary_cross_entropy_with_logits(logits[counts], holds[counts].double())
    torch.testing.assert_close(stats.mean("nll"), plain.detach(), rtol=1e-12, atol=0)
    calibration = ls.measure.Calibration()
    calibration.update_stats(stats)
    probabilities = logits.detach().sigmoid()
    confidence = torch.maximum(probabilities, 1 - probabilities)[counts]
    torch.testing.assert_close(stats.mean("confidence"), confidence.mean(), rtol=1e-12, atol=0)
    assert calibration.compute().accuracy == pytest.approx(float(stats.accuracy))
    assert loss > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.full((4, 3), 2.0)}, "labels must lie in [0, 1], got 2"),
        ({"target": torch.full((4, 3), torch.nan)}, "labels must lie in [0, 1], got nan"),
        ({"target": torch.zeros(4)}, "target must have shape (4, 3), or (4,) for class indices, got torch.float32 (4,)"),
        ({"target": torch.full((4,), 3)}, "target must lie in 0..2, got 3"),
        ({"target": ls.uniform(0.1)(torch.zeros(4, dtype=torch.long), 3), "label_smoothing": 0.1}, "smoothed already"),
        ({"weight": torch.ones(4)}, "weight must broadcast to the logits (4, 3), got shape (4,)"),
        ({"pos_weight": torch.tensor(torch.nan)}, "pos_weight must not contain NaN"),
        ({"row_weight": torch.ones(3)}, "row_weight must have shape (4,), got (3,)"),
        ({"label_smoothing": 1.5}, "eps must be in [0, 1], got 1.5"),
        ({"label_smoothing": torch.ones(4)}, "eps must broadcast to the logits (4, 3), got shape (4,)"),
        ({"class_axis": 2}, "input has no axis 2, got shape (4, 3)"),
        ({"reduction": "batchmean"}, "reduction must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_bad_input_is_one_sentence(change, message):
    given = {"input": torch.zeros(4, 3), "target": torch.zeros(4, 3)} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        bce(**given)


def test_bad_conventions():
    with pytest.raises(ValueError, match=r"eps of full must be in \[0, 0.5\], got 0.6"):
        ls.binary_convention("full", 0.6)
    with pytest.raises(ValueError, match="unknown convention of sigmoids 'torch'"):
        ls.binary_convention("torch", 0.1)
    with pytest.raises(TypeError, match="smooths classes that exclude each other"):
        ls.BCEWithLogitsLoss(label_smoothing=ls.uniform(0.1))
    with pytest.raises(ValueError, match="which must be at least 2, got 1"):
        bce(torch.zeros(3), torch.zeros(3), label_smoothing=ls.binary_convention("timm", 0.1))


def test_the_module_keeps_what_it_is_given():
    module = ls.BCEWithLogitsLoss(torch.ones(3), pos_weight=torch.ones(3), label_smoothing=0.1)
    assert list(module.state_dict()) == ["weight", "pos_weight"]
    assert repr(module) == "BCEWithLogitsLoss(label_smoothing=0.1, reduction='mean', ignore_index=None, weight=tensor(3,), pos_weight=tensor(3,))"  # fmt: skip
    loss, stats = module(torch.zeros(4, 3), torch.ones(4, 3), return_stats=True)
    assert loss == pytest.approx(0.6931472)
    assert stats.accuracy == 0  # a tie goes to the first class, "does not hold"


def test_compiled():
    compiled = torch.compile(lambda z, y: bce(z, y, label_smoothing=0.1), backend="aot_eager", fullgraph=True)
    logits, labels = drawn(5, 3)
    torch.testing.assert_close(compiled(logits, labels), bce(logits, labels, label_smoothing=0.1))
    torch.testing.assert_close(
        gradient(compiled(logits, labels), logits),
        gradient(bce(logits, labels, label_smoothing=0.1), logits),
    )
