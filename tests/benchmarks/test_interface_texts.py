"""Texts of programs from gettext catalogues."""

import runpy
import struct
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "interface_texts.py"
HEADER = {"": "Content-Type: text/plain; charset=UTF-8\n"}


def write_catalogue(path, messages):
    """Write a .mo file: two tables of lengths and offsets, of messages and translations, and their texts."""
    messages = sorted((source.encode(), target.encode()) for source, target in (HEADER | messages).items())
    texts, tables, place = b"", [], 28 + 16 * len(messages)
    for column in range(2):
        for pair in messages:
            tables += [len(pair[column]), place + len(texts)]
            texts += pair[column] + b"\0"
    header = (0x950412DE, 0, len(messages), 28, 28 + 8 * len(messages), 0, 28 + 16 * len(messages))
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack(f"<{7 + len(tables)}I", *header, *tables) + texts)


def test_messages_become_lines(tmp_path, monkeypatch, capsys):
    write_catalogue(
        tmp_path / "of/one/de/LC_MESSAGES/one.mo",
        {
            "out of memory": "Speicher ist aufgebraucht",
            "a file\0some files": "eine Datei\0einige Dateien",
            "menu\4Close": "Schließen",
            "_Save": "_Sichern",
            "two\nlines": "zwei\nZeilen",
            "URL": "URL",
        },
    )
    write_catalogue(tmp_path / "of/two/de/LC_MESSAGES/two.mo", {"Close": "Schließen", "Yes": "Ja"})
    write_catalogue(tmp_path / "of/two/fr/LC_MESSAGES/two.mo", {"Yes": "Oui"})
    out = tmp_path / "texts.tsv"
    words = [SCRIPT.name, str(tmp_path / "of"), "--language", "de", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(SCRIPT, run_name="__main__")
    assert capsys.readouterr().out == "3 messages of 2 catalogues\n"
    assert out.read_text(encoding="utf-8").splitlines() == [
        "Close\tSchließen",
        "out of memory\tSpeicher ist aufgebraucht",
        "Yes\tJa",
    ]

    monkeypatch.setattr(sys, "argv", [*words, "--language", "nl"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(SCRIPT, run_name="__main__")
    assert f"there is no message in nl below {tmp_path / 'of'}" in capsys.readouterr().err
