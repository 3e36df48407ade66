"""Sentence pairs as the rows of a study."""

from pathlib import Path

import pytest

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.vocabulary import learn_vocabulary
from labelsmooth.study.tasks.translation.data import load_translation

FILE = Path(__file__).parents[3] / "fixtures" / "verses.tsv"


def load(path=FILE, **changes):
    return load_translation(f"tsv:{path}", **{"vocabulary_size": 400, "max_tokens": 200, **changes})


def test_the_vocabulary_is_that_of_the_training_pairs_alone():
    data = load()
    train = data.train
    assert data.vocabulary == learn_vocabulary((*train.sources, *train.targets), 400)
    assert data.summary.num_classes == 400
    assert data.vocabulary.decode(data.test.target_tokens) == list(data.test.targets)
    assert data.vocabulary.decode(data.test.source_tokens) == list(data.test.sources)
    pairs = data.summary.train_pairs + data.summary.validation_pairs + data.summary.test_pairs
    assert pairs == 64
    assert data.summary.test_rows == sum(map(len, data.test.target_tokens))


def test_long_pairs_are_left_out_and_counted():
    whole, short = load(), load(max_tokens=100)
    lengths = [
        max(len(source), len(target))
        for part in (whole.train, whole.validation, whole.test)
        for source, target in zip(part.source_tokens, part.target_tokens, strict=True)
    ]
    assert whole.summary.too_long == 0
    assert short.summary.too_long == sum(length > 100 for length in lengths) > 0
    assert short.summary.max_tokens == 100
    with pytest.raises(
        InputError, match="max_tokens must leave at least a third of the 64 sentence pairs of tsv:"
    ):
        load(max_tokens=40)


def test_the_hash_knows_sentences_and_vocabulary(tmp_path):
    hashes = {load().summary.sha256, load(vocabulary_size=399).summary.sha256}
    other = tmp_path / "verses.tsv"
    other.write_text(FILE.read_text(encoding="utf-8").replace("Jona ", "Jonas "), encoding="utf-8")
    hashes |= {load(other).summary.sha256, load(max_tokens=100).summary.sha256}
    assert len(hashes) == 4
    assert load().summary.sha256 in hashes
