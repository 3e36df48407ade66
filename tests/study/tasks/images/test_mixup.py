"""Mixed images: what chance mixes, and the loss of what was mixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.tasks.images.mixup import Mixing
from labelsmooth.study.tasks.images.task import batch_loss

K, N = 4, 60


@pytest.fixture
def images():
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.repeat_interleave(torch.arange(K), torch.tensor([30, 15, 9, 6]))


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(3, K)


def losses(text: str, labels, seed: int):
    """The loss of a batch, and the logits of its mixed images, for one step after another."""
    objective = Objective.parse(text)
    criterion = objective.criterion(TrainingFacts(class_counts=torch.bincount(labels), steps=10))
    mixing = Mixing(objective.mixup, K, seed)

    def step(network, images, labels):
        made = []

        def kept(mixed):
            made.append(network(mixed))
            return made[0]

        loss = batch_loss(kept, images, labels, criterion, Placement(), mixing)
        return loss.value, made[0]

    return step


@pytest.mark.parametrize(("text", "eps"), [("mixup:0.5", 0.0), ("uniform:0.1+mixup:0.5", 0.1)])
def test_mixup_mixes_images_and_targets_alike(images, labels, text, eps):
    seen = []

    def network(mixed):
        seen.append(mixed)
        return mixed @ torch.randn(3, K, generator=torch.Generator().manual_seed(2))

    loss_of = losses(text, labels, seed=3)
    shares = []
    for _ in range(5):
        loss, logits = loss_of(network, images, labels)
        # the share and the partners, from what the network saw
        rows = seen[-1].double()
        x = images.double()
        found = None
        for partner in range(N):  # of the first row
            if partner == 0:
                continue
            share = ((rows[0] - x[partner]) / (x[0] - x[partner])).numpy()
            if np.ptp(share) < 1e-5:
                found = float(share.mean())
        assert found is not None
        assert 0 <= found <= 1
        shares.append(found)
        partners = torch.cdist((rows - found * x) / (1 - found), x).argmin(-1)
        assert sorted(partners.tolist()) == list(range(N))
        one_hot = F.one_hot(labels, K).double()
        target = found * one_hot + (1 - found) * one_hot[partners]
        target = (1 - eps) * target + eps / K
        expected = -(target * logits.double().log_softmax(-1)).sum(-1).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert np.std(shares) > 0.05


def test_what_mixup_draws_depends_on_the_seed_alone(network, images, labels):
    def drawn(seed):
        loss_of = losses("mixup:1", labels, seed=seed)
        return [loss_of(network, images, labels)[0].item() for _ in range(3)]

    before = torch.get_rng_state()
    assert drawn(0) == drawn(0) != drawn(1)
    assert torch.equal(torch.get_rng_state(), before)
