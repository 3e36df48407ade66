"""Tiny studies of each task of tokens, on real data."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import recordings
import translations
from texts import write_questions

from labelsmooth.study.tasks import language_model, speech, translation
from labelsmooth.study.tasks.language_model.models import MODELS as LANGUAGE_MODELS
from labelsmooth.study.tasks.speech.models import MODELS as RECOGNISERS
from labelsmooth.study.tasks.translation.models import MODELS as TRANSLATORS

_TRIALS = {
    "eps": (0.0, 0.1), "also": ("unigram:0.1",), "seeds": 1, "epochs": 2, "batch_size": 200, "learning_rate": 0.02,
}  # fmt: skip
_DECODED = {"decode": 2, "beams": (2,)}


def _translation(folder: Path) -> translation.Recipe:
    """The beginnings of sentences."""
    pairs = [line.split("\t") for line in translations.FILE.read_text(encoding="utf-8").splitlines()]
    lines = ["\t".join(" ".join(sentence.split()[:5]) for sentence in pair) for pair in pairs]
    (folder / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    return translation.Recipe(
        data=f"tsv:{folder / 'pairs.tsv'}", model="tiny_networks:translator", vocabulary=300, max_tokens=40,
        **_TRIALS, **_DECODED,
    )  # fmt: skip


def _speech(_: Path) -> speech.Recipe:
    return speech.Recipe(
        data=f"manifest:{recordings.FILE}", model="tiny_networks:recogniser", sample_rate=8_000,
        **_TRIALS, **_DECODED,
    )  # fmt: skip


def _language_model(folder: Path) -> language_model.Recipe:
    """Multiple choice."""
    return language_model.Recipe(
        data=write_questions(folder),
        model="tiny_networks:language_model",
        vocabulary=300,
        max_tokens=80,
        **_TRIALS,
    )


# of three trials, by networks that other processes can import
TINY_STUDIES = {"translation": _translation, "speech": _speech, "language-model": _language_model}


@contextmanager
def tiny_models() -> Iterator[None]:
    """Make the networks `small` of this process the smallest there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRANSLATORS, "small", (16, 1, 2, 16))
        patch.setitem(RECOGNISERS, "small", (16, 1, 1, 2, 16, 32))
        patch.setitem(LANGUAGE_MODELS, "small", (16, 1, 2))
        yield


def stored_bytes(folder: Path) -> dict[str, bytes]:
    """All that the numbers of a study are in."""
    files = [folder / "results.jsonl", *folder.glob("trials/*/arrays.npz")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
