"""`ls.identify` itself: what it refuses, what it leaves as it was, and how long it takes."""

import random
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import wrong_losses as wrong
from torch import nn

import labelsmooth as ls
from labelsmooth.errors import InputError, InputTypeError


class Smoothed(nn.Module):
    """A right loss with all kinds of state."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("mean", torch.zeros(()))
        self.history = []
        self.calls = 0

    def forward(self, logits, labels):
        loss = F.cross_entropy(self.scale * logits, labels, label_smoothing=0.1)
        self.mean.mul_(0.9).add_(0.1 * loss.detach())
        self.history.append(float(loss))
        self.calls += 1
        return loss


def test_the_state_is_left_as_it_was():
    loss = Smoothed().eval()
    loss.scale.grad = torch.tensor(3.0)
    drawn = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    found = ls.identify(loss, (3, 10))
    assert (found.convention, found.eps) == ("torch", 0.1)
    (change,) = (d for d in found.departures if d.name == "state changed")
    assert change.severity == "note"
    assert "calls, history, mean" in change.says
    assert (loss.calls, loss.history, float(loss.mean), loss.training) == (0, [], 0.0, False)
    assert (loss.scale.requires_grad, float(loss.scale.grad)) == (True, 3.0)
    assert (loss.frozen.requires_grad, loss.frozen.grad) == (False, None)
    assert random.getstate() == drawn[0]
    assert (np.random.get_state()[1] == drawn[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), drawn[2])


def test_a_closure_is_left_as_it_was():
    calls, last = [], torch.zeros(())
    count = 0

    def loss(logits, labels):
        nonlocal count
        count += 1
        calls.append(count)
        value = F.cross_entropy(logits, labels)
        last.copy_(value.detach())
        return value

    assert ls.identify(loss, 3).eps == 0
    assert (count, calls, float(last)) == (0, [], 0.0)


def test_grad_mode_and_speed():
    begun = time.process_time()
    with torch.no_grad():
        assert ls.identify(nn.CrossEntropyLoss()).right
        assert not torch.is_grad_enabled()
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda z, y: 1 / 0, "it raised ZeroDivisionError: division by zero"),
        (lambda z, y: z, r"\(7, 3\).* not finite|gradient|no cross"),
        (lambda z, y: z[:3].sum(-1), r"it returned the shape \(3,\) for 7 rows of 3 classes, expected a scalar or \(N,\)"),
        (lambda z, y: 1.0, "it returned a float, no tensor"),
        (lambda z, y: y.sum(), "it returned torch.int64, expected floats"),
        (lambda z, y, mask: z.sum(), "missing 1 required positional argument: 'mask'"),
        (lambda z, y: F.cross_entropy(z.detach(), y), "it cannot be differentiated: its value has no gradient"),
        (lambda z, y: F.cross_entropy(z, y) * torch.nan, "it gave nan, or a gradient that is not finite"),
        (wrong.drops_at_random, "the loss is random: two calls with the same input gave"),
        (wrong.draws_from_python, "the loss is random: two calls with the same input gave"),
    ],
    ids=["raises", "logits", "shape", "float", "integers", "arguments", "detached", "nan", "random", "python's random"],
)  # fmt: skip
def test_a_loss_that_cannot_be_examined(loss, says):
    if says.endswith("no cross"):
        assert not ls.identify(loss, 3).right
        return
    with pytest.raises(InputError, match=says) as raised:
        ls.identify(loss, 3)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"loss": 3}, InputTypeError, "loss must be callable, got int"),
        (
            {"loss": nn.CrossEntropyLoss},
            InputTypeError,
            "loss must be an instance, got the class CrossEntropyLoss",
        ),
        ({"num_classes": 1}, InputError, "there must be at least 2 classes, got 1"),
        ({"num_classes": ()}, InputError, "num_classes must hold at least one number of classes, got none"),
        ({"num_classes": 2.5}, InputTypeError, "num_classes must be an int, got float"),
        ({"kind": "logistic"}, InputError, "kind must be one of auto, softmax, sigmoid, got 'logistic'"),
        ({"eps": "0.1"}, InputTypeError, "eps must be a number, got str"),
        ({"eps": 2}, InputError, r"eps must lie in \[-1, 1\], got 2"),
        (
            {"dtype": torch.int64},
            InputError,
            "dtype must be a floating-point dtype of torch, got torch.int64",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_what_is_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        ls.identify(**{"loss": F.cross_entropy, **arguments})


def test_a_loss_of_one_number_of_classes():
    def loss(logits, labels, smoothing=0.1):
        assert logits.shape[-1] == 10
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)

    found = ls.identify(loss)
    assert (found.convention, found.eps, list(found.target)) == ("torch", 0.1, [10])
    assert ("fairseq", pytest.approx(0.09)) in found.also  # one K cannot tell them apart
    assert "K = 3: the loss does not run" in found.cannot


def test_the_target_is_the_formula():
    found = ls.identify(lambda z, y: ls.cross_entropy(z, y, label_smoothing=ls.others(0.2)))
    assert found.target == {
        k: (pytest.approx(0.8), pytest.approx(0.2 / (k - 1), abs=1e-9), pytest.approx(1.0))
        for k in (2, 3, 10, 1000)
    }


def test_the_page():
    page = str(ls.identify(wrong.sum_over_classes, (3, 10))).splitlines()
    assert page[0] == "softmax: no published convention, eps 0.1; 1 fault, 3 notes"
    assert "loss       sum_over_classes" in page
    assert any(line.startswith("FAULT: sum over classes. the smoothing term is a sum") for line in page)
    assert max(map(len, page)) <= 110
