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


LABELS = torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((torch.zeros(3), LABELS), ValueError, r"scores must have shape \(N, K\), N ≥ 1, got \(3,\)"),
        ((torch.zeros(0, 3), LABELS[:0]), ValueError, r"got \(0, 3\)"),
        ((torch.zeros(3, 2), LABELS[:2]), ValueError, "labels must be as many as scores"),
        ((torch.zeros(3, 2), LABELS.double()), TypeError, "labels must"),
        ((torch.zeros(3, 2), LABELS + 1), ValueError, "2"),
        ((torch.zeros(3, 2), LABELS - 1), ValueError, "-1"),
    ],
)
def test_what_is_refused(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        InMemory(*arguments)


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"weights": [1.0, 1.0]}, r"weight must have the shape of labels, \(3,\), got \(2,\)"),
        ({"weights": [1.0, -1.0, 1.0]}, "weight must be finite and at least 0, got -1.0"),
        ({"weights": np.array([1.0, 1e-320, 1.0])}, "weight must be 0 or in 1e-100..1e100, got 1"),
        ({"weights": [0.0, 0.0, 0.0]}, "at least one row must have a weight above 0"),
        ({"groups": np.array(list("ab"))}, "groups must be as many as scores"),
        ({"features": torch.zeros(4, 2)}, "features must be as many as scores"),
    ],
)
def test_arrays_beside_the_scores_are_refused_too(others, sentence):
    with pytest.raises(ValueError, match=sentence):
        InMemory(torch.zeros(3, 2), LABELS, **others)


def test_a_row_of_weight_0_may_have_any_label():
    source = InMemory(torch.zeros(3, 2), torch.tensor([0, 7, 1]), weights=[1.0, 0.0, 1.0])
    assert [batch.labels.tolist() for batch in source.batches()] == [[0, 1]]
