"""Prose and questions as tokens."""

from dataclasses import replace

import numpy as np
import pytest
from texts import VERSES, write_prose, write_questions

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.language_model.data import load_language
from labelsmooth.study.tasks.language_model.texts import Prose
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED
from labelsmooth.study.tasks.sequences.split import split_rows
from labelsmooth.study.tasks.sequences.vocabulary import learn_vocabulary

PARTS = ("train", "validation", "test")


def load(name, **changes):
    return load_language(name, **{"vocabulary_size": 400, "max_tokens": 200, **changes})


def test_pieces_of_a_document_follow_each_other(tmp_path):
    name = write_prose(tmp_path)
    whole, cut = load(name), load(name, max_tokens=20)
    learned = learn_vocabulary(whole.train.targets, 400)
    assert whole.vocabulary == cut.vocabulary == replace(learned, start=learned.end)
    assert sum(len(getattr(whole, part)) for part in PARTS) == 64
    assert cut.summary.test_documents == whole.summary.test_documents == len(whole.test)
    for part in PARTS:
        pieces, documents = getattr(cut, part), getattr(whole, part)
        assert all(len(prompt) == 1 for prompt in pieces.prompt_tokens)
        assert pieces.lengths.max() == 19
        assert pieces.pieces.tolist() == [-(-len(tokens) // 19) for tokens in documents.target_tokens]
        for number, tokens in enumerate(documents.target_tokens):
            rows = np.flatnonzero(np.array(pieces.documents) == number)
            assert sum((pieces.target_tokens[row] for row in rows), ()) == tokens
            assert tokens[-1] == cut.vocabulary.end
            seen = sum((pieces.prompt_tokens[row] for row in rows), ())
            assert seen == (cut.vocabulary.start, *tokens[18 : 19 * (len(rows) - 1) : 19])


def test_a_paragraph_that_recurs_stays_on_one_side():
    columns = {"documents": tuple(range(64)), "passages": tuple(row // 10 for row in range(64))}
    parts = split_rows({"train": Prose(paragraphs=tuple(VERSES), **columns)}, "verses", "paragraphs")
    again = [*VERSES]
    again[parts.train.documents[2]] = parts.test.paragraphs[0].upper()
    found = split_rows({"train": Prose(paragraphs=tuple(again), **columns)}, "verses", "paragraphs")
    assert found.repeated == parts.repeated + 1
    assert found.train.documents == (*parts.train.documents[:2], *parts.train.documents[3:])


def test_prompts_and_padding_do_not_count(tmp_path):
    data = load(write_questions(tmp_path, options=1))
    batch = data.test.batch([0, 1])
    for row, (labels, ids, seen) in enumerate(
        zip(batch.labels, batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)
    ):
        prompt, target = data.test.prompt_tokens[row], data.test.target_tokens[row]
        length = len(prompt) + len(target)
        assert labels[labels != UNCOUNTED].tolist() == list(target)
        assert labels[len(prompt) : length].tolist() == list(target)
        assert ids[:length].tolist() == [*prompt, *target]
        assert seen.tolist() == [1] * length + [0] * (len(seen) - length)
    assert data.vocabulary.decode([data.test.prompt_tokens[0]])[0] + " " + data.test.targets[0] in {
        f"{number}. " + " ".join(verse.split()[:8]) for number, verse in enumerate(VERSES)
    }
    assert data.choices == {}
    assert data.train.sizes.tolist() == [
        len(prompt) + len(target)
        for prompt, target in zip(data.train.prompt_tokens, data.train.target_tokens, strict=True)
    ]


def test_the_right_option_is_what_is_trained_on(tmp_path):
    answers, data = load(write_questions(tmp_path, options=1)), load(write_questions(tmp_path))
    assert data.test.targets == answers.test.targets
    assert list(data.choices) == ["validation", "test"]
    for part, choices in data.choices.items():
        asked = getattr(data, part)
        assert len(choices.answers) == getattr(data.summary, f"{part}_documents")
        first = np.cumsum(choices.options.pieces) - choices.options.pieces
        for number, right in enumerate(choices.answers):
            row = first[number] + right
            assert (*choices.options.target_tokens[row], data.vocabulary.end) == asked.target_tokens[number]
            assert choices.options.prompt_tokens[row] == asked.prompt_tokens[number]
        assert getattr(data.summary, f"{part}_options") == len(choices.options)


def test_long_questions_are_left_out_and_counted(tmp_path):
    name = write_questions(tmp_path)
    whole = load(name)
    longest = max(whole.train.sizes.max(), whole.validation.sizes.max(), whole.test.sizes.max())
    short = load(name, max_tokens=int(longest) - 1)
    kept = short.summary.train_documents + short.summary.validation_documents + short.summary.test_documents
    assert short.summary.too_long == 64 - kept > 0
    assert whole.summary.too_long == 0
    with pytest.raises(
        InputError, match="max_tokens must leave at least a third of the 64 questions of jsonl:"
    ):
        load(name, max_tokens=10)


def test_too_few_documents_are_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("\n\n".join(VERSES[:29]))
    with pytest.raises(InputError, match="short.txt must have at least 30 paragraphs, got 29"):
        load(f"text:{path}")
    path.write_text("")
    for kind, rows in (("text", "paragraphs"), ("jsonl", "questions")):
        with pytest.raises(InputError, match=f"short.txt must have at least 30 {rows}, got 0"):
            load(f"{kind}:{path}")


def test_the_hash_knows_tokens_and_options(tmp_path):
    name = write_questions(tmp_path)
    hashes = {load(name).summary.sha256, load(name, vocabulary_size=399).summary.sha256}
    hashes.add(load(write_questions(tmp_path, options=1)).summary.sha256)
    assert len(hashes) == 3
    assert load(name).summary.sha256 in hashes
