"""A network trained to convergence on real images stands at the gap that the theory gives it."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import labelsmooth as ls
from labelsmooth import theory


@pytest.mark.parametrize(("eps", "convention"), [(0.1, "uniform"), (0.1, "others"), (0.3, "uniform")])
def test_mean_logit_gap_is_the_optimal_one(eps, convention):
    num_classes = 4
    images, labels = load_digits(n_class=num_classes, return_X_y=True)
    x = torch.tensor(images[:300] / 16, dtype=torch.float64)
    y = torch.tensor(labels[:300])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, num_classes)).double()
    smoothing = {"uniform": ls.uniform, "others": ls.others}[convention](eps)
    optimizer = torch.optim.LBFGS(
        network.parameters(),
        max_iter=300,
        history_size=20,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = ls.cross_entropy(network(x), y, label_smoothing=smoothing)
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        logits = network(x)
        at_label = logits.gather(1, y[:, None])
        gap = (at_label * num_classes - logits.sum(1, keepdim=True)).mean().item() / (num_classes - 1)
        loss = ls.cross_entropy(logits, y, label_smoothing=smoothing).item()
    assert gap == pytest.approx(theory.optimal_gap(eps, num_classes, convention), rel=0.01)
    # and it got there because the loss reached its floor
    assert loss == pytest.approx(theory.entropy_floor(eps, num_classes, convention), rel=1e-3)
