"""brier_penalty against its definition in float64."""

import itertools

import pytest
import torch
from torch.nn import functional as F

import labelsmooth as ls
from labelsmooth.backends import cpu

BACKENDS = ["reference", *(["cpu"] if cpu.INSTRUCTION_SET else [])]


def drawn(*rows):
    logits = (3 * torch.randn(*rows, 6, dtype=torch.float64)).requires_grad_()
    return logits, torch.randint(6, rows)


def score(logits, labels):
    """Σ_k (p_k − [k=y])² of each row."""
    return (logits.softmax(-1) - F.one_hot(labels, 6)).square().sum(-1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_cross_entropy_and_brier_score(backend):
    weight = torch.linspace(0.2, 2, 6, dtype=torch.float64)
    for rows, reduction, c, eps in itertools.product(
        [(7,), (2, 3, 2), ()], ["none", "sum", "mean"], [None, weight], [0.0, 0.1]
    ):
        logits, labels = drawn(*rows)
        images = logits.movedim(-1, min(1, len(rows)))
        scores = score(logits, labels)
        expected = F.cross_entropy(images, labels, c, reduction=reduction, label_smoothing=eps)
        expected = expected + 0.4 * {"none": scores, "sum": scores.sum(), "mean": scores.mean()}[reduction]
        settings = {"weight": c, "reduction": reduction, "label_smoothing": eps}
        ours = ls.brier_penalty(images, labels, lam=0.4, backend=backend, **settings)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
        slopes = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (ours, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)
        assert torch.equal(
            ls.BrierPenaltyLoss(lam=0.4, backend=backend, **settings)(images, labels).detach(), ours.detach()
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_padded_with_minus_infinity_have_no_part(backend):
    logits, _ = drawn(5)
    labels = torch.tensor([0, 1, 2, 0, -100])
    padded = logits.masked_fill(torch.arange(6) > 3, -torch.inf)
    settings = {"label_smoothing": ls.uniform(0.0), "backend": backend}
    ours = ls.brier_penalty(padded, labels, lam=2.0, **settings)
    short = logits[:4, :4]
    expected = (
        F.cross_entropy(short, labels[:4])
        + 2 * (short.softmax(-1) - F.one_hot(labels[:4], 4)).square().sum(-1).mean()
    )
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    slope, exact = (torch.autograd.grad(loss, logits)[0] for loss in (ours, expected))
    torch.testing.assert_close(slope, exact, rtol=1e-12, atol=1e-12)


def test_derivatives_of_any_order():
    logits, labels = drawn(3)
    lam = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    settings = {"label_smoothing": 0.1}
    assert torch.autograd.gradcheck(
        lambda z, w: ls.brier_penalty(z, labels, lam=w, **settings), (logits, lam)
    )
    assert torch.autograd.gradgradcheck(
        lambda z, w: ls.brier_penalty(z, labels, lam=w, **settings), (logits, lam)
    )


def test_bad_input_is_one_sentence():
    logits, labels = drawn(3)
    with pytest.raises(ValueError, match="takes class indices, got dense targets or a Mixture"):
        ls.brier_penalty(logits, torch.rand(3, 6), lam=0.1)
    with pytest.raises(ValueError, match="lam must be at least 0, got -1"):
        ls.BrierPenaltyLoss(lam=-1)
    with pytest.raises(ValueError, match="takes class indices"):
        ls.brier_penalty(logits, ls.uniform(0.1)(labels, 6), lam=0.1)
