"""Predictions that lie in memory as a source."""

import numpy as np
import pytest
import torch

from labelsmooth.predictions import InMemory


def test_the_rows_of_a_weight_above_0_come_on_every_pass():
    scores = torch.arange(12.0).reshape(4, 3)
    source = InMemory(scores, np.array([0, 1, 2, 0]), weights=[1, 0, 2, 1], groups=np.array(list("abcd")))
    for _ in range(2):
        (batch,) = source.batches()
        assert torch.equal(batch.scores, scores[[0, 2, 3]])
        assert batch.labels.tolist() == [0, 2, 0]
        assert batch.weights.tolist() == [1, 2, 1]
        assert batch.groups.tolist() == ["a", "c", "d"]


def test_many_rows_come_in_blocks():
    source = InMemory(torch.zeros(30_000, 100), torch.zeros(30_000, dtype=torch.long))
    sizes = [len(batch.labels) for batch in source.batches()]
    assert sum(sizes) == 30_000
    assert len(sizes) > 1


@pytest.mark.parametrize(
    ("scores", "labels", "sentence"),
    [
        (torch.zeros(3), torch.zeros(3), r"scores must have shape \(N, K\), N ≥ 1, got \(3,\)"),
        (torch.zeros(0, 3), torch.zeros(0), r"got \(0, 3\)"),
        (torch.zeros(3, 2), torch.zeros(2), "labels must be as many as scores, got 2 and 3"),
    ],
)
def test_what_is_refused(scores, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        InMemory(scores, labels)
