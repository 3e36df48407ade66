"""Vocabularies: every text survives, and the same sentences give the same tokens."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.pairs import read_pairs
from labelsmooth.study.tasks.sequences.vocabulary import (
    END,
    PAD,
    SMALLEST,
    Vocabulary,
    learn_characters,
    learn_vocabulary,
)

VERSES = read_pairs(f"tsv:{Path(__file__).parents[3] / 'fixtures' / 'verses.tsv'}")["train"]
SENTENCES = (*VERSES.sources, *VERSES.targets)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return learn_vocabulary(SENTENCES, 400)


def test_sentences_come_back_also_of_writing_that_was_never_seen(vocabulary):
    others = ("Ж ∑ 漢字 🙂 naïve", 'He said: "No, don\'t!"', "two  spaces", "</s> <pad>x")
    for sentences in (SENTENCES, others[:3]):
        tokens = vocabulary.encode(sentences)
        assert all(ids[-1] == END and PAD not in ids and END not in ids[:-1] for ids in tokens)
        assert vocabulary.decode(tokens) == list(sentences)


def test_the_size_is_that_asked_for_or_what_the_sentences_can_give(vocabulary):
    assert len(vocabulary) == 400
    assert len(learn_vocabulary(["a b c"], 400)) == SMALLEST
    assert max(max(ids) for ids in vocabulary.encode(SENTENCES)) < 400


def test_the_order_of_the_sentences_does_not_matter(vocabulary):
    shuffled = random.Random(0).sample(SENTENCES, len(SENTENCES))
    assert learn_vocabulary(shuffled, 400) == vocabulary


def test_common_words_are_one_token(vocabulary):
    for word in ("und", "Gott", "the", "and"):
        assert len(vocabulary.encode([word])[0]) == 2  # with the end


def test_characters_are_tokens_and_others_are_one_that_is_unknown():
    vocabulary = learn_characters(["ab c", "bä"], pad=1, end=0, start=0)
    assert len(vocabulary) == 3 + len(" abcä")
    assert vocabulary.encode(["c ä", "xb"]) == [[6, 3, 7, 0], [2, 5, 0]]
    assert vocabulary.decode([[6, 3, 7, 0], [2, 5, 0, 1, 1]]) == ["c ä", "\ufffdb"]
    assert (vocabulary.pad, vocabulary.end, vocabulary.start) == (1, 0, 0)
    assert Vocabulary(vocabulary.json, pad=1, end=0, start=0).encode(["ab"]) == vocabulary.encode(["ab"])


def test_the_marks_of_the_end_and_of_gaps_may_change_places(vocabulary):
    other = learn_vocabulary(SENTENCES, 400, pad=1, end=0, start=0)
    first, second = (each.encode(SENTENCES[:20]) for each in (vocabulary, other))
    assert [[*ids[:-1], 1] for ids in second] == first
    assert all(ids[-1] == 0 for ids in second)
    assert other.decode([[*ids, 1] for ids in second]) == list(SENTENCES[:20])


def test_what_a_saved_tokenizer_cuts_and_fills_up_stays_whole(vocabulary):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(vocabulary.json)
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=300)
    saved = Vocabulary(tokenizer.to_str())
    assert saved.encode(SENTENCES) == vocabulary.encode(SENTENCES)
    parts = [ids[:-1] for ids in vocabulary.encode(SENTENCES)]
    assert saved.encode_parts(SENTENCES) == parts


def test_a_mark_in_a_text_is_text_but_where_dialogues_have_theirs(vocabulary):
    text = "the end </s> and <pad> behind"
    (tokens,) = vocabulary.encode([text])
    assert tokens.count(vocabulary.end) == 1
    assert vocabulary.pad not in tokens
    assert vocabulary.decode([tokens]) == [text]
    (marked,) = replace(vocabulary, reads_marks=True).encode_parts([text])
    assert (marked.count(vocabulary.end), marked.count(vocabulary.pad)) == (1, 1)


def test_a_saved_tokenizer_whose_end_is_not_behind_each_sentence_alone_is_refused(vocabulary):
    """As those are whose marks are words like others, which is how SentencePiece has them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "a": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(InputError, match=r"must put its end, 1, behind each sentence .* makes \[2\] of 'a'"):
        Vocabulary(tokenizer.to_str()).encode(["a"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    saved = Vocabulary(tokenizer.to_str())
    assert saved.encode(["a <pad> b"]) == [[2, 0, 3, 1]]
    with pytest.raises(InputError, match=r"nowhere else, it makes \[2, 1, 3, 1\] of 'a </s> b'"):
        saved.encode(["a <pad>", "a </s> b"])
