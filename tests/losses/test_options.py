"""What all losses have in common: the class axis, statistics, smoothing and their modules."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls

LOSSES = {
    ls.cross_entropy: (ls.CrossEntropyLoss, {}),
    ls.confidence_penalty: (ls.ConfidencePenaltyLoss, {"beta": 0.3}),
    ls.max_suppression: (ls.MaxSuppressionLoss, {"eps": 0.2}),
    ls.margin_smoothing: (ls.MarginSmoothingLoss, {"lam": 0.4, "margin": 2.5}),
}
PENALTIES = [loss for loss in LOSSES if loss is not ls.cross_entropy]
EACH = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def problem(*rows, num_classes=5):
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(*rows, num_classes, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(num_classes, rows, generator=generator)


def test_all_take_the_same_arguments_in_the_same_order():
    first = ["input", "target", "weight", "ignore_index", "reduction", "label_smoothing"]
    shared = {"class_axis", "row_weight", "denominator", "return_stats", "backend"}
    for loss, (_, own) in LOSSES.items():
        parameters = inspect.signature(loss).parameters
        positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == first
        assert shared | set(own) <= set(parameters)


@EACH
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_the_class_axis_may_be_any(loss, dense, reduction):
    own = LOSSES[loss][1]
    logits, target = problem(2, 3, 4)
    if dense:
        target = torch.rand(logits.shape, dtype=torch.float64)
    rows = logits.reshape(24, 5), target.reshape(24, 5) if dense else target.reshape(24)
    expected = loss(*rows, **own, reduction=reduction, label_smoothing=0.1)
    for axis in (-1, 3, 1, 0, -2):
        moved = (part.movedim(-1, axis) if part.dim() == 4 else part for part in (logits, target))
        ours = loss(*moved, **own, class_axis=axis, reduction=reduction, label_smoothing=0.1)
        torch.testing.assert_close(ours.reshape(expected.shape), expected, rtol=1e-13, atol=0)
    by_default = loss(*(p.movedim(-1, 1) if p.dim() == 4 else p for p in (logits, target)), **own)
    torch.testing.assert_close(by_default, loss(*rows, **own), rtol=1e-13, atol=0)


@EACH
def test_one_row_has_its_classes_alone(loss):
    logits, target = problem()
    own = LOSSES[loss][1]
    expected = loss(logits[None], target[None], **own)
    for axis in ({}, {"class_axis": 0}, {"class_axis": -1}):
        torch.testing.assert_close(loss(logits, target, **own, **axis), expected, rtol=1e-13, atol=0)


@EACH
@pytest.mark.parametrize(
    ("axis", "error", "says"),
    [
        (3, ValueError, "input must have shape .* an axis 3, got"),
        (True, TypeError, "class_axis must be an int, got bool"),
    ],
)
def test_axes_that_are_not_there_are_refused(loss, axis, error, says):
    with pytest.raises(error, match=says):
        loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), **LOSSES[loss][1], class_axis=axis)


@EACH
@pytest.mark.parametrize(
    "smoothing", [0.0, 0.1, ls.others(0.2), ls.prior(0.3, torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]))]
)
def test_statistics_are_those_of_the_batch(loss, smoothing):
    logits, target = problem(9)
    target[2] = -100
    own = LOSSES[loss][1] | {"label_smoothing": smoothing}
    value, stats = loss(logits, target, **own, return_stats=True)
    torch.testing.assert_close(value, loss(logits, target, **own), rtol=1e-13, atol=0)
    kept = target >= 0
    p = logits.detach()[kept].softmax(-1)
    hard = F.one_hot(target[kept], 5)
    torch.testing.assert_close(
        stats.mean("nll"), F.cross_entropy(logits.detach(), target), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(stats.mean("brier"), (p - hard).square().sum(-1).mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        stats.mean("entropy"), torch.special.entr(p).sum(-1).mean(), rtol=1e-12, atol=0
    )
    assert not stats.log_sum.requires_grad
    assert value.requires_grad


@pytest.mark.parametrize("loss", PENALTIES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("smoothing", [0.1, ls.others(0.2), ls.uniform(-0.4, signed=True)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_penalty_stands_beside_a_smoothed_cross_entropy(loss, smoothing, weighted):
    logits, target = problem(8)
    weight = torch.linspace(0.2, 2, 5, dtype=torch.float64) if weighted else None
    own = LOSSES[loss][1]
    penalty = loss(logits, target, **own) - F.cross_entropy(logits, target)
    expected = ls.cross_entropy(logits, target, weight, label_smoothing=smoothing) + penalty
    ours = loss(logits, target, weight, label_smoothing=smoothing, **own)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@EACH
def test_modules_pass_on_every_setting(loss):
    make, own = LOSSES[loss]
    logits, target = problem(3, 4)
    settings = {
        "weight": torch.rand(5, dtype=torch.float64),
        "ignore_index": int(target[0, 0]),
        "label_smoothing": ls.others(0.2),
        "class_axis": -1,
        "denominator": 7,
    }
    row_weight = torch.rand(3, 4, dtype=torch.float64)
    module = make(**settings, **own)
    expected, stats = loss(logits, target, row_weight=row_weight, return_stats=True, **settings, **own)
    assert torch.equal(
        module(logits, target, row_weight), loss(logits, target, row_weight=row_weight, **settings, **own)
    )
    assert torch.equal(module(logits, target, row_weight, return_stats=True)[1].nll, stats.nll)
    assert torch.equal(make(**settings, **own, return_stats=True)(logits, target, row_weight)[0], expected)
    assert torch.equal(copy.deepcopy(module)(logits, target), module(logits, target))
    assert list(module.state_dict()) == ["weight"]
    shown = repr(module)
    for name, value in own.items():
        assert f"{name}={value}" in shown
        setattr(module, name, 2 * value)  # as a schedule does
    doubled = {name: 2 * value for name, value in own.items()}
    assert torch.equal(module(logits, target), loss(logits, target, **settings, **doubled))
    summed = make(reduction="sum", **own)
    assert torch.equal(
        summed(logits.reshape(-1, 5), target.reshape(-1)),
        loss(logits.reshape(-1, 5), target.reshape(-1), reduction="sum", **own),
    )


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ls.ConfidencePenaltyLoss(beta=-1), ValueError, "beta must be at least 0, got -1"),
        (lambda: ls.MaxSuppressionLoss(eps="x"), TypeError, "eps must be a number or a tensor, got str"),
        (lambda: ls.MarginSmoothingLoss(margin=-1), ValueError, "margin must be at least 0, got -1"),
        (lambda: ls.MarginSmoothingLoss(lam=-1), ValueError, "lam must be at least 0, got -1"),
        (lambda: ls.MarginSmoothingLoss(label_smoothing=2), ValueError, r"in \[0, 1\], got 2"),
        (lambda: ls.MarginSmoothingLoss(reduction="avg"), ValueError, "reduction must be"),
        (lambda: ls.MarginSmoothingLoss(backend="tpu"), ValueError, "backend must be"),
        (lambda: ls.MarginSmoothingLoss(class_axis=1.0), TypeError, "class_axis must be an int, got float"),
        (lambda: ls.MarginSmoothingLoss(z_loss=1.0), TypeError, "MarginSmoothingLoss takes .*, got z_loss"),
        (
            lambda: ls.LinearCrossEntropyLoss(3, 4, margin=1.0),
            TypeError,
            "LinearCrossEntropyLoss takes .*, got margin",
        ),
        (lambda: ls.LinearCrossEntropyLoss(3, 4, support="some"), ValueError, "support must be"),
        (lambda: ls.DistillationLoss(2.0, 1.0), ValueError, r"beta must lie in \[0, 1\], got 2.0"),
        (lambda: ls.DistillationLoss(0.5, 0.0), ValueError, "temperature must be positive"),
    ],
)
def test_modules_refuse_when_they_are_made(make, error, says):
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("dense", [False, True])
def test_the_linear_loss_keeps_smoothing_mass_on_finite_logits(dense):
    """A class that the bias rules out, as a vocabulary's unused entries are."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    layer = torch.nn.Linear(3, 5, dtype=torch.float64)
    with torch.no_grad():
        layer.bias[4] = -torch.inf
    target = torch.randint(4, (6,), generator=generator)
    left = x @ layer.weight[:4].T + layer.bias[:4]
    expected = F.cross_entropy(left, target, label_smoothing=0.1)
    given = F.one_hot(target, 5).double() if dense else target
    ours = ls.linear_cross_entropy(x, layer, given, label_smoothing=0.1, support="finite")
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(ours, x)[0], torch.autograd.grad(expected, x)[0], rtol=1e-12, atol=1e-15
    )
    module = ls.LinearCrossEntropyLoss.from_linear(layer, label_smoothing=0.1, support="finite")
    torch.testing.assert_close(module(x, given), expected, rtol=1e-12, atol=0)


def test_the_full_logits_of_a_linear_loss_are_scaled_and_capped_too():
    """Where they are made after all: what is finite is asked, or more than the layer needs a gradient."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    layer = torch.nn.Linear(3, 5, dtype=torch.float64)
    target, row_weight = torch.randint(5, (6,), generator=generator), torch.rand(6, dtype=torch.float64)
    logits = 2 * (1.5 * layer(x) / 2).tanh()
    expected = F.cross_entropy(logits, target, label_smoothing=0.1, reduction="none") @ row_weight
    for support, factors in (("finite", row_weight), ("all", row_weight.clone().requires_grad_())):
        module = ls.LinearCrossEntropyLoss.from_linear(
            layer, scale=1.5, softcap=2.0, label_smoothing=0.1, reduction="sum", support=support
        )
        ours = module(x, target, factors)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
        for leaf in (x, layer.weight):
            mine, its = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (ours, expected))
            torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-15)
