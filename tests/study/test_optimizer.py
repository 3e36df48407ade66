"""Optimizers and schedules by the settings of a training."""

import math

import pytest
import torch
from torch import nn

from labelsmooth.study.optimizer import make_optimizer, make_schedule
from labelsmooth.study.settings import TrainingSettings


def rates(steps: int, **settings) -> list[float]:
    """The learning rate of each step, as a part of the largest."""
    training = TrainingSettings(learning_rate=0.5, **settings)
    optimizer = make_optimizer(nn.Linear(2, 2), training)
    schedule = make_schedule(optimizer, training, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"] / 0.5)
        optimizer.step()
        schedule.step()
    return found


def test_the_inverse_square_root_rises_in_a_line_and_falls_as_that_of_the_paper():
    found = rates(100, schedule="inverse_sqrt", warm_up=0.2)
    # Vaswani et al. 2017, equation 3, with 21 warm-up steps: min(step^−½, step·warm-up^−1.5), largest at 21
    paper = [min(step**-0.5, step * 21**-1.5) / 21**-0.5 for step in range(1, 101)]
    assert found == pytest.approx(paper)


def test_the_inverse_square_root_without_a_warm_up_falls_from_the_first_step():
    assert rates(9, schedule="inverse_sqrt") == pytest.approx([1 / math.sqrt(step) for step in range(1, 10)])


def test_adam_has_the_settings_of_the_first_transformers():
    layer = nn.Linear(2, 2)
    other = nn.Linear(2, 2)
    other.load_state_dict(layer.state_dict())
    ours = make_optimizer(layer, TrainingSettings(optimizer="adam", learning_rate=0.01, weight_decay=0.1))
    theirs = torch.optim.Adam(other.parameters(), lr=0.01, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.1)
    x = torch.tensor([[1.0, -2.0]])
    for _ in range(5):
        for network, optimizer in ((layer, ours), (other, theirs)):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(layer.weight, other.weight)


def test_momentum_means_nothing_beside_adam():
    settings = TrainingSettings(optimizer="adam", momentum=0.5).effective()
    assert settings == TrainingSettings(optimizer="adam")
