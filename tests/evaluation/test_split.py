"""Which rows are fitted on and which are measured."""

import numpy as np
import pytest
import torch

from labelsmooth.evaluation import Split
from labelsmooth.evaluation.split import SPLIT_SEED
from labelsmooth.predictions import InMemory


def source(rows=100, are_probs=False, classes=3):
    scores = torch.full((rows, classes), 1 / classes)
    return InMemory(scores, torch.arange(rows) % classes, are_probs=are_probs)


def test_rows_to_fit_on_follow_no_data_simulated_with_a_usual_seed():
    for seed in (0, 1, 42, 1234):
        drawn = np.random.default_rng(SPLIT_SEED).random(5000) < 0.2
        simulated = np.random.default_rng(seed).random(5000)
        assert abs(np.corrcoef(drawn, simulated)[0, 1]) < 0.06


def test_a_share_is_drawn_and_the_rest_held_out_on_every_pass():
    split = Split(source(), share=0.3)
    first, second = ([drawn for _, drawn in split.measured()] for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    fitted = sum(len(batch.labels) for batch in split.fitted())
    held_out = sum(len(batch.labels) for batch in split.held_out())
    assert fitted == (np.random.default_rng(SPLIT_SEED).random(100) < 0.3).sum()
    assert fitted + held_out == 100


def test_with_validation_rows_all_others_are_held_out():
    split = Split(source(), source(7))
    assert sum(len(batch.labels) for batch in split.fitted()) == 7
    assert sum(len(batch.labels) for batch in split.held_out()) == 100


def test_splits_hold_out_the_same_rows_where_they_are_made_alike():
    assert Split(source()).holds_out_as(Split(source()))
    assert not Split(source()).holds_out_as(Split(source(), share=0.3))
    assert not Split(source()).holds_out_as(Split(source(), source()))
    assert Split(source(), source(5)).holds_out_as(Split(source(), source(6)))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((source(), None, 1.0), r"share must lie in \(0, 1\), got 1.0"),
        ((source(), source(classes=4)), "must have the classes of the predictions, got 4 and 3"),
        (
            (source(), source(are_probs=True)),
            "must have the kind of scores of .*, got probabilities and logits",
        ),
    ],
)
def test_what_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Split(*arguments)
