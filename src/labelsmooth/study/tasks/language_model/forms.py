"""The forms of a row of JSON: a prompt with its answer, a conversation, or a document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labelsmooth.errors import InputError

_NO_CHARACTER = re.compile("[\ud800-\udfff]")  # which JSON can write and UTF-8 cannot


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt with what can be its answer."""

    prompt: str
    options: tuple[str, ...]  # one where it is no multiple choice
    answer: int = 0  # the number of the option that is right


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of rows."""

    keys: tuple[str, ...]  # that each row must have
    read: Callable[[Mapping[str, Any], str], Question | str]  # a document is its text

    @property
    def name(self) -> str:
        """The keys, in words."""
        return " + ".join(self.keys)


def find_form(row: Mapping[str, Any], where: str) -> Form:
    """Find the first of `FORMS` whose keys a row has.

    Args:
        row: of a file.
        where: that it stands, for the message.

    Raises:
        InputError: it has no form's keys.
    """
    for form in FORMS:
        if set(form.keys) <= set(row):
            return form
    known = ", ".join(form.name for form in FORMS)
    raise InputError(f"{where} must have the keys of one of {known}; it has {', '.join(row) or 'none'}")


def parse_row(line: str, where: str) -> dict[str, Any]:
    """Parse a line of a file.

    Raises:
        InputError: it holds no object of JSON.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} must be JSON, got {line!r:.80}") from error
    if not isinstance(found, dict):
        raise InputError(f"{where} must hold an object, got {line!r:.80}")
    return found


def _choice(row: Mapping[str, Any], where: str) -> Question:
    options, answer = row["options"], row["answer"]
    if not isinstance(options, list) or len(options) < 2:
        raise InputError(f"options of {where} must be a list of at least two texts, got {options!r:.80}")
    for option in options:
        _checked("each of options", option, where)
    if len(set(options)) < len(options):
        raise InputError(f"options of {where} must differ from each other, got {options!r:.80}")
    if type(answer) is not int or not 0 <= answer < len(options):
        raise InputError(
            f"answer of {where} must be the number of an option in 0..{len(options) - 1}, got {answer!r:.80}"
        )
    return Question(prompt=_checked("prompt", row["prompt"], where), options=tuple(options), answer=answer)


def _pair(prompt: str, answer: str) -> Callable[[Mapping[str, Any], str], Question]:
    """Make a reader of two texts, by their keys."""

    def read(row: Mapping[str, Any], where: str) -> Question:
        return Question(
            prompt=_checked(prompt, row[prompt], where), options=(_checked(answer, row[answer], where),)
        )

    return read


def _instruction(row: Mapping[str, Any], where: str) -> Question:
    parts = [("Instruction", _checked("instruction", row["instruction"], where))]
    if row.get("input") not in (None, ""):
        parts.append(("Input", _checked("input", row["input"], where)))
    prompt = "".join(f"### {title}:\n{text}\n\n" for title, text in parts) + "### Response:\n"
    return Question(prompt=prompt, options=(_checked("output", row["output"], where),))


def _conversation(row: Mapping[str, Any], where: str) -> Question:
    messages = row["messages"]
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
    ):
        raise InputError(f"messages of {where} must be a list of objects with a role, got {messages!r:.80}")
    turns = [(each["role"], _checked("content", each.get("content"), where)) for each in messages]
    first = len(turns)  # of the assistant's last turns
    while first and turns[first - 1][0] == "assistant":
        first -= 1
    if first in (0, len(turns)):
        raise InputError(
            f"messages of {where} must end with the role assistant, behind another, got the roles "
            f"{', '.join(role for role, _ in turns) or 'none'}"
        )
    before = "".join(f"{role}: {content}\n" for role, content in turns[:first])
    answer = "\n".join(content for _, content in turns[first:])
    return Question(prompt=f"{before}assistant: ", options=(answer,))


def _document(row: Mapping[str, Any], where: str) -> str:
    return _checked("text", row["text"], where)


def _checked(name: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or _NO_CHARACTER.search(value):
        raise InputError(f"{name} of {where} must be text that is not empty, got {value!r:.80}")
    return value


# the first whose keys a row has is its form
FORMS = (
    Form(keys=("prompt", "options", "answer"), read=_choice),
    Form(keys=("prompt", "answer"), read=_pair("prompt", "answer")),
    Form(keys=("prompt", "completion"), read=_pair("prompt", "completion")),
    Form(keys=("instruction", "output"), read=_instruction),
    Form(keys=("messages",), read=_conversation),
    Form(keys=("text",), read=_document),
)
