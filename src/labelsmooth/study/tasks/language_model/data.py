"""The texts of a study of language models, as tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.language_model.texts import Prose, Questions, Texts, form_of, read_texts
from labelsmooth.study.tasks.sequences.pairs import PARTS
from labelsmooth.study.tasks.sequences.sentences import (
    UNCOUNTED,
    Batch,
    Inputs,
    Sentences,
    padded,
    token_inputs,
)
from labelsmooth.study.tasks.sequences.split import split_rows
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary, learn_vocabulary


@dataclass(frozen=True, kw_only=True)
class Continuations(Sentences):
    """Pieces of documents, or answers, with what stands before them."""

    prompt_tokens: tuple[tuple[int, ...], ...]  # at least one before each
    documents: tuple[int, ...]  # that each is of, ascending
    pad: int  # the token that fills up a batch

    def inputs(self, numbers: Sequence[int]) -> Inputs:
        tokens = [(*self.prompt_tokens[number], *self.target_tokens[number]) for number in numbers]
        return token_inputs(tokens, self.pad)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Make a batch in which prompts do not count."""
        labels = [
            (*[UNCOUNTED] * len(self.prompt_tokens[number]), *self.target_tokens[number])
            for number in numbers
        ]
        return Batch(inputs=self.inputs(numbers), labels=padded(labels, UNCOUNTED))

    @property
    def sizes(self) -> Tensor:
        """Tokens by which batches are made, (S,): those of prompts count too."""
        return self.lengths + self.lengths.new_tensor([len(prompt) for prompt in self.prompt_tokens])

    @property
    def pieces(self) -> NDArray[np.int32]:
        """The number of continuations of each document, (D,)."""
        return np.unique(self.documents, return_counts=True)[1].astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Questions with several options."""

    options: Continuations  # without ends, of all questions, which are their documents
    answers: tuple[int, ...]  # the number of the option that is right, of each question


@dataclass(frozen=True, kw_only=True)
class LanguageSummary:
    """What a reader of a study has to know of its data."""

    sha256: str  # of the tokens, their split and the vocabulary
    vocabulary: str  # as `Vocabulary.json`
    pad: int
    end: int
    start: int
    num_classes: int  # tokens of the vocabulary, or logits of a network that has more
    max_tokens: int  # of a piece or a question, with the token before it
    documents: str  # what these are, in a word
    train_documents: int
    validation_documents: int
    test_documents: int
    train_rows: int  # tokens that are predicted
    validation_rows: int
    test_rows: int
    validation_options: int  # of all validation questions; 0 where they have none
    test_options: int  # of all test questions, likewise
    repeated: int  # paragraphs or questions that were left out, as they are in a part that is not trained on
    too_long: int  # questions that were left out, as they have more tokens
    form: str = ""  # the keys of rows of JSON, in words; "" of other data


@dataclass(frozen=True, kw_only=True)
class LanguageData:
    """Texts in three parts that have no paragraph, or no prompt, in common."""

    train: Continuations
    validation: Continuations
    test: Continuations
    choices: Mapping[str, Choices]  # the validation and the test questions, where they have options
    vocabulary: Vocabulary
    summary: LanguageSummary


def load_language(
    name: str,
    *,
    vocabulary_size: int,
    max_tokens: int,
    vocabulary: Vocabulary | None = None,
    num_classes: int | None = None,
) -> LanguageData:
    """Read texts, split them, and make tokens of them.

    Documents are cut into pieces, each of which begins behind the last token of the one before. Prompt and
    answer are made into tokens apart from each other, as they are written, and the end is behind the answer.

    Args:
        name: of the data, as `read_texts` takes it.
        vocabulary_size: tokens to learn from the texts to train on.
        max_tokens: of a piece, and of a question: one whose prompt and longest option have more is left out.
        vocabulary: of a network of the user's own, in place of one that is learned.
        num_classes: logits of that network.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: the data cannot be used, or more than two thirds of its questions are too long.
        MissingPackage: a library of the extra `translation`, `verses` or `hf` is missing.

    Cost: about 10 s for the Bible.
    """
    found: Mapping[str, Prose | Questions] = read_texts(name)
    rows = found["train"].words
    parts = split_rows(found, name, rows)
    if vocabulary is None:
        learned = learn_vocabulary(_texts(parts.train), vocabulary_size)
        # some networks have no state for the token that fills up, so that nothing could stand behind it
        vocabulary = replace(learned, start=learned.end)
    kept: dict[str, Continuations] = {}
    choices: dict[str, Choices] = {}
    for part in PARTS:
        texts = getattr(parts, part)
        if isinstance(texts, Prose):
            kept[part] = _pieces(texts, vocabulary, max_tokens)
        else:
            kept[part], asked = _answers(texts, vocabulary, max_tokens)
            if asked is not None and part != "train":
                choices[part] = asked
    count = {part: len(continuations.pieces) for part, continuations in kept.items()}
    questions = sum(len(getattr(parts, part)) for part in PARTS) if rows == Questions.words else 0
    too_long = max(0, questions - sum(count.values()))
    if 3 * too_long > 2 * questions or not all(count.values()):
        raise InputError(
            f"max_tokens must leave at least a third of the {questions:,} questions of {name} and some of "
            f"each part, {max_tokens} leaves {count['train']:,} for training, {count['validation']:,} for "
            f"validation and {count['test']:,} for the test"
        )
    return LanguageData(
        **kept,
        choices=choices,
        vocabulary=vocabulary,
        summary=LanguageSummary(
            sha256=_sha256(kept, choices, vocabulary),
            vocabulary=vocabulary.json,
            pad=vocabulary.pad,
            end=vocabulary.end,
            start=vocabulary.start,
            num_classes=num_classes or len(vocabulary),
            max_tokens=max_tokens,
            documents="questions" if questions else "documents",
            form=form_of(name),
            train_documents=count["train"],
            validation_documents=count["validation"],
            test_documents=count["test"],
            train_rows=kept["train"].rows,
            validation_rows=kept["validation"].rows,
            test_rows=kept["test"].rows,
            validation_options=len(choices["validation"].options) if choices else 0,
            test_options=len(choices["test"].options) if choices else 0,
            repeated=parts.repeated,
            too_long=too_long,
        ),
    )


def _texts(rows: Texts) -> list[str]:
    """Give all texts of a part, once each."""
    if isinstance(rows, Prose):
        return rows.whole()
    return [*rows.prompts, *(option for options in rows.options for option in options)]


def _pieces(prose: Prose, vocabulary: Vocabulary, max_tokens: int) -> Continuations:
    """Cut documents into pieces, each with the token before it."""
    rows = []
    for document, written in enumerate(vocabulary.encode_parts(prose.whole())):
        tokens = (vocabulary.start, *written, vocabulary.end)
        for first in range(1, len(tokens), max_tokens - 1):
            rows.append((tokens[first - 1 : first], tokens[first : first + max_tokens - 1], document))
    return _continuations(rows, vocabulary)


def _answers(
    questions: Questions, vocabulary: Vocabulary, max_tokens: int
) -> tuple[Continuations, Choices | None]:
    """Make tokens of the right answers with their ends, and of all options, of questions not too long."""
    prompts = [(vocabulary.start, *tokens) for tokens in vocabulary.encode_parts(questions.prompts)]
    written = iter(vocabulary.encode_parts([option for options in questions.options for option in options]))
    options = [[tuple(next(written)) for _ in each] for each in questions.options]
    kept = [
        row
        for row, prompt in enumerate(prompts)
        if len(prompt) + max(map(len, options[row])) + 1 <= max_tokens
    ]
    right = [questions.answers[row] for row in kept]
    answers = [
        (prompts[row], (*options[row][answer], vocabulary.end), number)
        for number, (row, answer) in enumerate(zip(kept, right, strict=True))
    ]
    if all(len(each) == 1 for each in options):
        return _continuations(answers, vocabulary), None
    all_options = [
        (prompts[row], option, number) for number, row in enumerate(kept) for option in options[row]
    ]
    return (
        _continuations(answers, vocabulary),
        Choices(options=_continuations(all_options, vocabulary), answers=tuple(right)),
    )


def _continuations(
    rows: Sequence[tuple[tuple[int, ...], tuple[int, ...], int]], vocabulary: Vocabulary
) -> Continuations:
    """Gather prompts, the tokens behind them, and the numbers of their documents."""
    targets = tuple(target for _, target, _ in rows)
    return Continuations(
        targets=tuple(vocabulary.decode(targets)),
        target_tokens=targets,
        prompt_tokens=tuple(prompt for prompt, _, _ in rows),
        documents=tuple(document for *_, document in rows),
        pad=vocabulary.pad,
    )


def _sha256(
    parts: Mapping[str, Continuations], choices: Mapping[str, Choices], vocabulary: Vocabulary
) -> str:
    """Hash all tokens, and the vocabulary."""
    tokens = [(part.prompt_tokens, part.target_tokens, part.documents) for part in parts.values()]
    options = [(asked.options.target_tokens, asked.answers) for asked in choices.values()]
    return hashlib.sha256(json.dumps([tokens, options, asdict(vocabulary)]).encode()).hexdigest()
