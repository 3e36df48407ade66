"""Readers of recorded utterances with their text."""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import reading
from labelsmooth.study.tasks.places import load_splits, local_path, no_data, reading_splits
from labelsmooth.study.tasks.sequences.pairs import PARTS, read_lines

KNOWN_DATA = "manifest:FILE, hf:NAME, prompts:LANGS"
_TEXTS = ("text", "sentence", "transcription")  # columns of hf:NAME, one of which there must be

# Where Debian's asterisk-core-sounds-LANG-wav and asterisk-core-sounds-LANG put their files.
PROMPTS = Path("/usr/share/asterisk/sounds")
PROMPT_TEXTS = Path("/usr/share/doc")
_NO_SPEECH = re.compile(r"\[[^]]*\]|\([^)]*\)|<[^>]*>")  # what a prompt's text says about its sound
_HEADER = 44  # bytes of a prompt without a sample, as one is


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """What somebody said, as audio and as text without case and punctuation."""

    text: str
    audio: Path | bytes
    name: str  # of the audio, for messages

    def content(self) -> bytes:
        """Read the bytes of the file of the audio."""
        return self.audio if isinstance(self.audio, bytes) else self.audio.read_bytes()


def read_utterances(name: str) -> dict[str, list[Utterance]]:
    """Read utterances by the name of their data, without decoding their audio.

    Args:
        name: `manifest:FILE`, with the path of an audio file, which may be relative to the folder of the
            manifest, a TAB and the text in each line;
            `hf:NAME`, a data set of Hugging Face's hub or a folder of one, with a column audio and one of
            text, sentence or transcription;
            `prompts:LANGS`, as in `prompts:en-es`: what the telephone system Asterisk says in these
            languages, from packages of Debian.

    Returns:
        The utterances of `train`, which are all where the data is not split, and of `validation` and `test`
        where the data has them, in the order of the data.

    Raises:
        FileNotFoundError: the manifest is missing.
        InputError: the name is unknown, a file is not UTF-8, or a line has no TAB, no text or no audio.
        MissingPackage: datasets is missing where it is needed.
    """
    kind, _, place = name.partition(":")
    if kind == "manifest" and place:
        return {"train": _read_manifest(local_path(place))}
    if kind == "hf" and place:
        return _read_hf(place)
    if kind == "prompts" and re.fullmatch("[a-z]{2}(-[a-z]{2})*", place):
        return {"train": [each for language in place.split("-") for each in _read_prompts(language)]}
    raise no_data(name, KNOWN_DATA, {".tsv": "manifest", ".txt": "manifest"})


def spoken(text: str) -> str:
    """Give what is spoken of a text: small letters, digits, marks of these and apostrophes, in single spaces.

    Example:
        >>> spoken("Please don’t press “1”...  or else!")
        "please don't press 1 or else"
    """
    text = unicodedata.normalize("NFC", text).lower().replace("’", "'")
    kept = (each if each == "'" or unicodedata.category(each)[0] in "LNM" else " " for each in text)
    return " ".join(word for word in "".join(kept).split() if word.strip("'"))


def _read_manifest(path: Path) -> list[Utterance]:
    found = []
    for number, line in enumerate(read_lines(path), 1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise InputError(
                f"each line of {path} must hold the path of an audio file, a TAB and its text, line {number} "
                f"holds {len(columns) - 1} TABs"
            )
        audio = path.parent / local_path(columns[0])
        found.append(
            Utterance(text=_spoken(columns[1], f"line {number:,} of {path}"), audio=audio, name=str(audio))
        )
    missing = [utterance.name for utterance in found if not Path(utterance.name).is_file()]
    if missing:
        raise InputError(
            f"{path} must name files that are there, {len(missing):,} are not, first {missing[0]}"
        )
    return found


def _spoken(text: str, where: str) -> str:
    found = spoken(text)
    if not found:
        raise InputError(f"{where} must have a text with letters or digits, got {text!r:.80}")
    return found


def _read_hf(name: str) -> dict[str, list[Utterance]]:
    splits = load_splits(name)
    return {
        part: list(_read_split(splits[part], f"{name}, split {part}")) for part in PARTS if part in splits
    }


def _read_split(split: Any, where: str) -> Iterator[Utterance]:
    with needs_extra("hf"):
        import datasets

    column = next((each for each in _TEXTS if each in split.features), None)
    if column is None or not isinstance(split.features.get("audio"), datasets.Audio):
        raise InputError(
            f"{where} must have a column audio of that type, and one of {', '.join(_TEXTS)}, it has "
            f"{', '.join(split.features)}"
        )
    with reading_splits(where):
        # Arrow reads memory that is not its own where offsets were altered
        split.data.validate(full=True)
        rows = split.select_columns(["audio", column]).cast_column("audio", datasets.Audio(decode=False))
        rows = [(row["audio"], row[column]) for row in rows]
    for number, (audio, text) in enumerate(rows, 1):
        name = f"row {number:,} of {where}"
        audio = audio or {}
        content = audio.get("bytes") or (Path(audio["path"]) if audio.get("path") else None)
        if not isinstance(text, str) or content is None:
            raise InputError(
                f"{name} must have text and audio, it lacks {'audio' if content is None else 'text'}"
            )
        if isinstance(content, Path) and not content.is_file():
            raise InputError(f"{name} must name a file that is there, got {content}")
        yield Utterance(text=_spoken(text, name), audio=content, name=name)


def _read_prompts(language: str) -> Iterator[Utterance]:
    package = f"asterisk-core-sounds-{language}"
    texts = PROMPT_TEXTS / package / f"core-sounds-{language}.txt.gz"
    folders = sorted(PROMPTS.glob(f"{language}_*"))
    if not folders or not texts.is_file():
        raise InputError(
            f"prompts:{language} must be on this machine, where apt-get install {package}-wav {package} "
            "brings them on Debian"
        )
    with reading(texts, (OSError, EOFError, UnicodeDecodeError)):
        lines = gzip.decompress(texts.read_bytes()).decode("utf-8-sig").splitlines()
    for line in lines:
        name, _, text = line.partition(":")
        audio = folders[0] / f"{name.strip()}.wav"
        text = spoken(_NO_SPEECH.sub(" ", text))
        if (
            text
            and not name.startswith(("silence/", ";"))
            and audio.is_file()
            and audio.stat().st_size > _HEADER
        ):
            yield Utterance(text=text, audio=audio, name=str(audio))
