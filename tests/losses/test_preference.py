"""The loss of preferences against its definition in float64."""

import pytest
import torch

import labelsmooth as ls

MARGINS = torch.tensor([-300.0, -3.0, -0.01, 0.0, 0.5, 20.5, 300.0], dtype=torch.float64)


def definition(margin, beta, eps, kind):
    def log_sigmoid(x):
        return torch.where(x > 0, -torch.log1p(torch.exp(-x.abs())), x - torch.log1p(torch.exp(-x.abs())))

    right, wrong = -log_sigmoid(beta * margin), -log_sigmoid(-beta * margin)
    if kind == "robust":
        return ((1 - eps) * right - eps * wrong) / (1 - 2 * eps)
    return (1 - eps) * right + eps * wrong


def slope(margin, beta, eps, kind):
    right, wrong = -beta * torch.sigmoid(-beta * margin), beta * torch.sigmoid(beta * margin)
    if kind == "robust":
        return ((1 - eps) * right - eps * wrong) / (1 - 2 * eps)
    return (1 - eps) * right + eps * wrong


@pytest.mark.parametrize("kind", ["conservative", "robust"])
@pytest.mark.parametrize("eps", [0.0, 0.1, 0.45, "each"])
def test_it_is_the_definition(kind, eps):
    eps = torch.linspace(0, 0.4, 7, dtype=torch.float64) if eps == "each" else eps
    margin = MARGINS.clone().requires_grad_()
    for beta in (0.1, 1.0):
        ours = ls.preference_loss(margin, beta, eps, kind, reduction="none")
        exact = definition(MARGINS, beta, eps, kind)
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-14)
        for reduction, pairs in (("mean", len(MARGINS)), ("sum", 1)):
            loss = ls.preference_loss(margin, beta, eps, kind, reduction=reduction)
            torch.testing.assert_close(loss, exact.sum() / pairs, rtol=1e-12, atol=0)
            (gradient,) = torch.autograd.grad(loss, margin)
            torch.testing.assert_close(
                gradient, slope(MARGINS, beta, eps, kind) / pairs, rtol=1e-12, atol=1e-15
            )


def test_the_robust_loss_is_right_in_the_mean():
    """Over labels that are the wrong way round with probability ε, it is the loss of the right ones."""
    eps, noisy = 0.2, []
    for sign in (1, -1):
        noisy.append(ls.preference_loss(sign * MARGINS, 1.0, eps, "robust", reduction="none"))
    expected = definition(MARGINS, 1.0, 0.0, "conservative")
    torch.testing.assert_close((1 - eps) * noisy[0] + eps * noisy[1], expected, rtol=1e-10, atol=1e-10)


def test_half_the_width_gives_float32_and_no_pair_gives_0():
    loss = ls.preference_loss(MARGINS.bfloat16(), 1.0, 0.1)
    assert loss.dtype == torch.float32
    exact = definition(MARGINS.bfloat16().double(), 1.0, 0.1, "conservative").mean()
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    assert ls.preference_loss(torch.zeros(0)) == 0
    assert ls.preference_loss(torch.zeros(2), label_smoothing=torch.zeros(2).double()).dtype == torch.float32
    infinite = torch.tensor([torch.inf, -torch.inf])
    assert ls.preference_loss(infinite, reduction="none").tolist() == [0, torch.inf]
    assert ls.preference_loss(infinite, 1.0, 0.1, reduction="none").tolist() == [torch.inf, torch.inf]
    robust = ls.preference_loss(infinite, 1.0, 0.1, "robust", reduction="none")
    assert robust.tolist() == [-torch.inf, torch.inf]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"margin": torch.tensor([1])}, TypeError, "margin must be a float16"),
        ({"beta": 0.0}, ValueError, "beta must be positive and finite, got 0.0"),
        ({"label_smoothing": 1.5}, ValueError, r"in \[0, 1\], got 1.5"),
        ({"label_smoothing": 0.5, "kind": "robust"}, ValueError, "must be below 0.5, got 0.5"),
        ({"label_smoothing": torch.zeros(3)}, ValueError, r"must have shape \(7,\), got \(3,\)"),
        ({"kind": "brave"}, ValueError, "kind must be 'conservative' or 'robust', got 'brave'"),
        ({"reduction": "avg"}, ValueError, "reduction must be"),
    ],
)
def test_what_is_refused_is_told(arguments, error, says):
    with pytest.raises(error, match=says):
        ls.preference_loss(**{"margin": MARGINS, **arguments})
