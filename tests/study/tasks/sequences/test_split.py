"""The split of sentence pairs: whole passages, and no sentence on two sides."""

from pathlib import Path

import pytest

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.pairs import Pairs, read_pairs
from labelsmooth.study.tasks.sequences.split import normalised, split_rows

VERSES = read_pairs(f"tsv:{Path(__file__).parents[3] / 'fixtures' / 'verses.tsv'}")["train"]
EACH = ("train", "validation", "test")


def with_targets(**changed: str) -> Pairs:
    """The fixture with other targets, by `row_N`."""
    targets = list(VERSES.targets)
    for name, target in changed.items():
        targets[int(name.removeprefix("row_"))] = target
    return Pairs(sources=VERSES.sources, targets=tuple(targets), passages=VERSES.passages)


def rows(pairs: Pairs) -> set[int]:
    return {VERSES.sources.index(source) for source in pairs.sources}


def test_parts_are_whole_passages_and_all_pairs():
    parts = split_rows({"train": VERSES}, "verses")
    # Genesis 1 says four times over that there was evening and morning, with another day each time: no repetition
    assert parts.repeated == 0
    passages = [set(getattr(parts, part).passages) for part in EACH]
    assert set.union(*passages) == set(range(7))
    assert sum(map(len, passages)) == 7
    held_out = [len(parts.validation), len(parts.test)]
    assert all(4 <= number <= 10 for number in held_out)  # one block, of which the last is short
    assert set.union(*(rows(getattr(parts, part)) for part in EACH)) == set(range(64))
    again = split_rows({"train": VERSES}, "verses")
    assert again == parts


def test_parts_that_the_data_has_stay_as_they_are():
    own = VERSES.select(range(50, 64))
    parts = split_rows({"train": VERSES.select(range(50)), "test": own}, "verses")
    assert parts.test == own
    assert len(parts.validation) == 10
    assert len(parts.train) == 40


def test_a_sentence_that_recurs_stays_on_the_side_of_the_test():
    parts = split_rows({"train": VERSES}, "verses")
    train, validation, test = (sorted(rows(getattr(parts, part))) for part in EACH)
    in_test = VERSES.targets[test[0]]
    shouted = in_test.upper().replace(",", " –")
    assert shouted != in_test
    changed = with_targets(
        **{
            f"row_{train[3]}": shouted,
            f"row_{validation[0]}": in_test,
            f"row_{train[4]}": VERSES.targets[validation[1]],
        }
    )
    found = split_rows({"train": changed}, "verses")
    assert sorted(rows(found.test)) == test
    assert sorted(rows(found.validation)) == validation[1:]
    assert sorted(rows(found.train)) == train[:3] + train[5:]
    assert found.repeated == 3


def test_normalised_sentences_have_no_case_and_no_punctuation():
    assert normalised("»Straße«, sagte er …") == normalised("STRASSE sagte-er") == "strasse sagte er"
    assert normalised("...") == "..."
    assert normalised("1, 2") != normalised("12")


def test_too_few_pairs_are_refused():
    with pytest.raises(InputError, match="data must have at least 30 sentence pairs, got 29"):
        split_rows({"train": VERSES.select(range(29))}, "data")


def test_a_part_without_a_sentence_of_its_own_is_refused():
    alike = Pairs(sources=("ja",) * 40, targets=VERSES.targets[:40], passages=VERSES.passages[:40])
    with pytest.raises(
        InputError, match="data must have training sentence pairs whose sentences are in no other part"
    ):
        split_rows({"train": alike}, "data")
