"""Differences between evaluations on the same rows."""

import numpy as np
import pytest
import torch

from labelsmooth.errors import InputError
from labelsmooth.evaluation import Split, evaluate, paired_differences
from labelsmooth.evaluation.pairs import side_by_side
from labelsmooth.measure import Comparison
from labelsmooth.predictions import Batch, InMemory


def test_rows_pair_up_whatever_the_blocks():
    def batches(*sizes):
        start = 0
        for size in sizes:
            labels = torch.arange(start, start + size)
            yield Batch(scores=labels[:, None].double(), labels=labels)
            start += size

    pairs = list(side_by_side(batches(5, 1, 0, 6), batches(2, 0, 7, 3)))
    assert all(
        torch.equal(one.labels, two.labels) and torch.equal(one.scores, two.scores) for one, two in pairs
    )
    assert torch.cat([one.labels for one, _ in pairs]).tolist() == list(range(12))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 1, 2], "more than 3 rows and 3"),
        ([0, 1, 2, 0, 1], "4 rows and more than 4"),
        ([0, 1, 0, 0], "other labels from row 2 on"),
    ],
)
def test_other_rows_are_no_pairs(labels, found):
    first, second = (
        InMemory(torch.zeros(len(rows), 3), torch.tensor(rows)) for rows in ([0, 1, 2, 0], labels)
    )
    with pytest.raises(InputError, match=found):
        list(side_by_side(first.batches(), second.batches()))


def predictions(seed, scale):
    labels = np.random.default_rng(7).integers(4, size=400)
    logits = scale * (np.eye(4)[labels] + np.random.default_rng(seed).normal(size=(400, 4)))
    return logits, labels


def splits(validated):
    for seed, scale in ((1, 3.0), (2, 0.5)):
        logits, labels = predictions(seed, scale)
        rows, fitted = InMemory(logits[:300], labels[:300]), InMemory(logits[300:], labels[300:])
        yield Split(rows, fitted if validated else None)


@pytest.mark.parametrize("validated", [False, True])
def test_differences_are_those_of_a_comparison(validated):
    """As given of all rows, and at the temperature of each of those that nothing was fitted on."""
    both = tuple(splits(validated))
    one, other = (evaluate(split, intervals=False) for split in both)
    found = paired_differences(one, other, both)
    assert list(found) == ["all", "with_temperature"]
    for part, rows, temperatures in (
        ("all", [split.source.batches() for split in both], (1, 1)),
        ("with_temperature", [split.held_out() for split in both], (one.temperature, other.temperature)),
    ):
        comparison = Comparison()
        for left, right in side_by_side(*rows):
            comparison.update(left.scores / temperatures[0], right.scores / temperatures[1], left.labels)
        held = comparison.compute()
        for name, interval in found[part].items():
            for end in ("value", "low", "high"):
                expected = getattr(held[name], end)
                assert getattr(interval, end) == pytest.approx(expected, rel=1e-9, abs=1e-12), (part, name)


def test_without_a_temperature_or_the_same_rows_they_are_as_given_only():
    (one, two), (validated, _) = splits(False), splits(True)
    evaluations = [evaluate(split, intervals=False) for split in (one, two, validated)]
    assert list(paired_differences(evaluations[2], evaluations[1], (validated, two))) == ["all"]
    _, labels = predictions(1, 3.0)
    right = Split(InMemory(np.eye(4)[labels[:300]], labels[:300]))
    untold = evaluate(right, intervals=False)
    assert untold.temperature is None
    assert list(paired_differences(untold, evaluations[0], (right, one))) == ["all"]
