"""Batches of sentence pairs by their tokens."""

from itertools import chain

import torch

from labelsmooth.study.tasks.sequences.sentences import (
    UNCOUNTED,
    SentencePairs,
    batches_by_length,
    shuffled_batches,
)

LENGTHS = torch.tensor([3, 9, 2, 5, 5, 2, 8, 30, 4])


def test_batches_hold_as_many_tokens_as_they_may():
    sizes = batches_by_length(LENGTHS, 12)
    # 2 2 3 4 | 5 5 | 8 | 9 | 30, which is longer than a batch may be
    assert sizes == [4, 2, 1, 1, 1]


def test_an_epoch_has_every_sentence_once_and_batches_of_the_same_sizes():
    sizes = batches_by_length(LENGTHS, 12)
    chance = torch.Generator().manual_seed(3)
    epochs = [list(shuffled_batches(LENGTHS, sizes, chance)) for _ in range(20)]
    for batches in epochs:
        assert sorted(chain.from_iterable(batches)) == list(range(9))
        assert sorted(map(len, batches)) == sorted(sizes)
        assert all(LENGTHS[batch].sum() <= 12 for batch in batches if len(batch) > 1)
    assert len({str(batches) for batches in epochs}) > 10
    chance.manual_seed(3)
    assert list(shuffled_batches(LENGTHS, sizes, chance)) == epochs[0]


def test_a_batch_is_padded_behind_the_end_of_each_sentence():
    sentences = SentencePairs(
        sources=("a", "b", "c"),
        targets=("d", "e", "f"),
        source_tokens=((5, 1), (0, 7, 1), (8, 1)),
        target_tokens=((2, 3, 4, 1), (2, 1), (3, 1)),
        pad=0,
    )
    batch = sentences.batch([1, 0])
    assert batch.inputs["input_ids"].tolist() == [[0, 7, 1], [5, 1, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.labels.tolist() == [[2, 1, UNCOUNTED, UNCOUNTED], [2, 3, 4, 1]]
    assert batch.rows == 6
    assert sentences.rows == 8
    assert sentences.labels.tolist() == [2, 3, 4, 1, 2, 1, 3, 1]
    assert sentences.select([0, 2]).lengths.tolist() == [4, 2]
