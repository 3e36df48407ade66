"""Manifests, data sets and prompts as utterances, and those that are refused."""

import gzip
from pathlib import Path

import pytest
from recordings import FILE, FOLDER

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.speech import utterances
from labelsmooth.study.tasks.speech.utterances import read_utterances, spoken

LINES = FILE.read_text(encoding="utf-8").splitlines()


def test_a_manifest_names_audio_beside_it_or_anywhere(tmp_path):
    found = read_utterances(f"manifest:{FILE}")["train"]
    assert len(found) == 48
    assert [each.text for each in found[:3]] == ["zero", "ten", "eleven"]
    assert found[0].content() == (FOLDER / "0.ogg").read_bytes()
    elsewhere = tmp_path / "manifest.tsv"
    elsewhere.write_bytes(b"\xef\xbb\xbf" + "".join(f"{FOLDER}/{line}\r\n" for line in LINES).encode())
    assert read_utterances(f"manifest:{elsewhere}")["train"] == found


def test_what_is_spoken_of_a_text():
    assert spoken(" Press  “1”, don’t wait… 'now' !") == "press 1 don't wait 'now'"
    assert spoken("Ça coûte 5 € — É") == "ça coûte 5 é"
    assert spoken("नमस्ते, दुनिया।") == "नमस्ते दुनिया"  # the marks of vowels stay
    assert spoken("... ' ?") == ""


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["0.ogg zero"], "line 1 holds 0 TABs"),
        ([*LINES[:2], "a.ogg\tb\tc"], "line 3 holds 2 TABs"),
        ([LINES[0], "10.ogg\t ... "], "line 2 of .* must have a text with letters or digits, got ' ... '"),
        (["none.ogg\tnone", *LINES, "never.ogg\tnever"], "must name files that are there, 2 are not, first"),
    ],
)
def test_manifests_that_are_refused(tmp_path, lines, says):
    file = tmp_path / "manifest.tsv"
    file.write_text(
        "\n".join(line if line.startswith(("none", "never")) else f"{FOLDER}/{line}" for line in lines)
    )
    with pytest.raises(InputError, match=says):
        read_utterances(f"manifest:{file}")


def test_a_manifest_that_is_no_text(tmp_path):
    file = tmp_path / "manifest.tsv"
    file.write_bytes(b"a.ogg\tb\n\xff.ogg\tb\n")
    with pytest.raises(InputError, match="must be text in UTF-8, line 2 is not"):
        read_utterances(f"manifest:{file}")


@pytest.mark.parametrize(
    "name", ["manifest:", "prompts:", "prompts:../en", "prompts:english", "wav:a", "hf:"]
)
def test_names_that_are_no_data(name):
    with pytest.raises(InputError, match="known are manifest:FILE, hf:NAME, prompts:LANGS"):
        read_utterances(name)


def test_a_data_set_brings_its_audio_and_its_parts(tmp_path):
    import datasets

    rows = [line.split("\t") for line in LINES]

    def split(chosen, column="transcription"):
        columns = {
            "audio": [{"bytes": (FOLDER / name).read_bytes(), "path": None} for name, _ in chosen],
            column: [text for _, text in chosen],
        }
        return datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio())

    datasets.DatasetDict({"train": split(rows[:40]), "test": split(rows[40:])}).save_to_disk(
        tmp_path / "data"
    )
    found = read_utterances(f"hf:{tmp_path / 'data'}")
    expected = read_utterances(f"manifest:{FILE}")["train"]
    assert list(found) == ["train", "test"]
    for ours, theirs in zip(found["train"] + found["test"], expected, strict=True):
        assert (ours.text, ours.content()) == (theirs.text, theirs.content())
    split(rows, "words").save_to_disk(tmp_path / "words")
    with pytest.raises(InputError, match="one of text, sentence, transcription, it has audio, words"):
        read_utterances(f"hf:{tmp_path / 'words'}")
    split([*rows[:2], ("10.ogg", "!")], "text").save_to_disk(tmp_path / "empty")
    with pytest.raises(InputError, match="row 3 of .* must have a text with letters or digits, got '!'"):
        read_utterances(f"hf:{tmp_path / 'empty'}")


@pytest.fixture
def debian(tmp_path, monkeypatch):
    """The files of the packages for a language: real names and texts, with the audio of others."""
    sounds, texts = tmp_path / "sounds", tmp_path / "doc"
    folder, text = sounds / "xx_YY_f_Nobody", texts / "asterisk-core-sounds-xx" / "core-sounds-xx.txt.gz"
    for name in ("beep", "letters/dash", "silence/1", "spy-iax2", "vm-intro", "is"):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * (44 if name == "is" else 100))
    text.parent.mkdir(parents=True)
    lines = (
        "; Core Asterisk Sounds", "", "beep: [this is a simple beep tone]", "letters/dash: dash [-]",
        "silence/1: 1 second of silence", 'spy-iax2: IAX (note: does not say "2")', "is: is",
        "missing: not there", "vm-intro: Please leave your message after the tone. (simple tone sound plays)",
    )  # fmt: skip
    text.write_bytes(gzip.compress("\n".join(lines).encode()))
    monkeypatch.setattr(utterances, "PROMPTS", sounds)
    monkeypatch.setattr(utterances, "PROMPT_TEXTS", texts)
    return folder


def test_prompts_are_what_is_spoken(debian):
    found = read_utterances("prompts:xx")["train"]
    assert {Path(each.name).relative_to(debian).as_posix(): each.text for each in found} == {
        "letters/dash.wav": "dash",
        "spy-iax2.wav": "iax",
        "vm-intro.wav": "please leave your message after the tone",
    }


def test_prompts_that_are_not_installed(debian):
    with pytest.raises(
        InputError, match="apt-get install asterisk-core-sounds-zz-wav asterisk-core-sounds-zz brings them"
    ):
        read_utterances("prompts:xx-zz")
