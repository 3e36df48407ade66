"""The optimum of unconstrained features against what minimisation finds, and the gradient against autograd."""

import math

import numpy as np
import pytest
import torch

import labelsmooth as ls
from labelsmooth import theory


def minimised(eps, num_classes, rows, weight_decay, feature_decay):
    """The objective minimised over both factors in float64."""
    labels = torch.arange(num_classes).repeat(rows)
    w = torch.randn(num_classes, num_classes + 1, dtype=torch.float64, requires_grad=True)
    h = torch.randn(num_classes * rows, num_classes + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [w, h], max_iter=4000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective():
        smoothing = ls.uniform(eps, signed=True)
        loss = ls.cross_entropy(h @ w.T, labels, label_smoothing=smoothing)
        return loss + weight_decay / 2 * w.square().sum() + feature_decay / 2 * h.square().sum()

    def closure():
        optimiser.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        return labels, w.detach(), h.detach(), float(objective())


@pytest.mark.parametrize("eps", [0.0, 0.1, -0.01])
def test_minimisation_finds_it(eps):
    setting = (eps, 4, 3, 5e-3, 1e-3)
    found = theory.unconstrained_features(*setting)
    labels, w, h, loss = minimised(*setting)
    assert loss == pytest.approx(found.loss, rel=1e-8)
    logits = h @ w.T
    own = logits.gather(1, labels[:, None])
    others = logits[torch.nn.functional.one_hot(labels, 4) == 0].reshape(-1, 3)
    np.testing.assert_allclose(own - others, found.gap, rtol=1e-4)
    np.testing.assert_allclose(logits.softmax(-1).gather(1, labels[:, None]), found.confidence, rtol=1e-4)
    np.testing.assert_allclose(w.norm(dim=1), found.weight_norm, rtol=1e-4)
    np.testing.assert_allclose(h.norm(dim=1), found.feature_norm, rtol=1e-4)
    assert theory.optimum(found.decay_eps, 4).on_class == pytest.approx(found.confidence, rel=1e-9)


def test_too_much_decay_leaves_nothing_and_too_negative_an_eps_no_minimum():
    nothing = theory.unconstrained_features(0.5, 4, 3, 0.1, 0.1)
    assert (nothing.gap, nothing.weight_norm, nothing.feature_norm) == (0, 0, 0)
    assert nothing.loss == pytest.approx(math.log(4))
    with pytest.raises(ValueError, match="else there is no minimum, got -0.5"):
        theory.unconstrained_features(-0.5, 4, 3, 1e-3, 1e-3)
    with pytest.raises(ValueError, match="rows_per_class must be at least 1, got 0"):
        theory.unconstrained_features(0.1, 4, 0, 1e-3, 1e-3)


@pytest.mark.parametrize("convention", ["torch", "fairseq", "classy_vision", "coincheung", "leaky"])
def test_the_gradient_is_that_of_the_loss(convention):
    logits = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    loss = ls.cross_entropy(logits, torch.tensor([3]), label_smoothing=ls.convention(convention, 0.2))
    (expected,) = torch.autograd.grad(loss, logits)
    ours = theory.logit_gradient(0.2, 3, logits=logits.detach()[0], convention=convention)
    np.testing.assert_allclose(ours, expected[0], rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="keeps a padding class free"):
        theory.logit_gradient(0.2, 3, logits=logits.detach()[0], convention="opennmt")
