"""Aligned texts of programs: `python benchmarks/interface_texts.py FOLDER… --language de --out texts.tsv`.

Reads every gettext catalogue LANGUAGE/LC_MESSAGES/*.mo below the folders, and writes a line per message: the
English text, a TAB, its translation. Debian has some in gcc-12-locales, git, coreutils, util-linux-locales.
Left out are messages of several lines, those in plural, those that are not translated, those that recur, and
those with a mark of a key, as in `_File`, `~File` and `&File`.
"""

from __future__ import annotations

import argparse
import gettext
from collections.abc import Iterator
from pathlib import Path

APART = ("\n", "\t", "_", "~", "&")
CONTEXT = "\4"  # stands behind the words that tell two equal messages apart


def messages(catalogue: Path) -> Iterator[tuple[str, str]]:
    """Give the messages of a catalogue with their translations."""
    with catalogue.open("rb") as stream:
        found: dict[object, str] = vars(gettext.GNUTranslations(stream))["_catalog"]
    for message, translation in found.items():
        if isinstance(message, str):
            text = message.rpartition(CONTEXT)[2]
            if text.strip() and translation.strip() and text != translation:
                yield text, translation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--language", required=True, help="as catalogues name it, de or pt_BR")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    inside = f"**/{arguments.language}/LC_MESSAGES/*.mo"
    catalogues = sorted(path for folder in arguments.folders for path in folder.glob(inside))
    pairs = dict.fromkeys(
        pair
        for catalogue in catalogues
        for pair in messages(catalogue)
        if not any(mark in text for text in pair for mark in APART)
    )
    if not pairs:
        parser.error(
            f"there is no message in {arguments.language} below {' '.join(map(str, arguments.folders))}"
        )
    arguments.out.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    print(f"{len(pairs):,} messages of {len(catalogues)} catalogues")


if __name__ == "__main__":
    main()
