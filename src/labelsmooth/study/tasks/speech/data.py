"""The utterances of a study of speech, as features and tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.pairs import PARTS, Pairs
from labelsmooth.study.tasks.sequences.rows import NEIGHBOURS
from labelsmooth.study.tasks.sequences.sentences import Inputs, Sentences
from labelsmooth.study.tasks.sequences.split import split_rows
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary, learn_characters, learn_vocabulary
from labelsmooth.study.tasks.speech.audio import MELS, STEP, log_mel, read_audio
from labelsmooth.study.tasks.speech.utterances import Utterance, read_utterances

# Speech2Text counts the positions of its encoder right where the token that fills up is 1, and only there.
MARKS = {"pad": 1, "end": 0, "start": 0}
SHRUNK = 4  # frames that become one state of the encoder
# Frames of silence behind the longest utterance of a batch: convolutions look so far ahead, and would else
# see what they make of padding behind the others, but nothing behind this one.
_AHEAD = 8


@dataclass(frozen=True, kw_only=True)
class SpeechSummary:
    """What a reader of a study has to know of its data."""

    sha256: str  # of the audio, the texts, their split and the vocabulary
    vocabulary: str  # as `Vocabulary.json`
    pad: int
    end: int
    start: int
    num_classes: int  # tokens of the vocabulary
    max_tokens: int  # of a text, the end among them
    max_frames: int  # of an utterance
    sample_rate: int
    train_utterances: int
    validation_utterances: int
    test_utterances: int
    train_seconds: float
    validation_seconds: float
    test_seconds: float
    train_rows: int  # tokens
    validation_rows: int
    test_rows: int
    repeated: int  # utterances that were left out, as a part that is not trained on has their text or audio
    too_long: int  # utterances that were left out, as they last longer
    too_short: int  # utterances that were left out, as they have fewer states of the encoder than tokens

    @property
    def test_sentences(self) -> int:
        """The number of utterances that can be decoded."""
        return self.test_utterances


@dataclass(frozen=True, kw_only=True)
class Utterances(Sentences):
    """Texts with how they were spoken."""

    features: tuple[NDArray[np.float32], ...]  # (frames, 80) each

    def inputs(self, numbers: Sequence[int]) -> Inputs:
        return speech_inputs([self.features[number] for number in numbers])

    @property
    def seconds(self) -> float:
        """How long all of them last."""
        return float(sum(map(len, self.features)) * STEP)


def speech_inputs(features: Sequence[NDArray[np.float32]]) -> Inputs:
    """Make what an encoder of features takes: input_features (B, F, 80), attention_mask (B, F)."""
    frames = max(map(len, features)) + _AHEAD
    inputs, mask = torch.zeros(len(features), frames, MELS), torch.zeros(len(features), frames).long()
    for row, each in enumerate(features):
        inputs[row, : len(each)] = torch.from_numpy(each)
        mask[row, : len(each)] = 1
    return {"input_features": inputs, "attention_mask": mask}


@dataclass(frozen=True, kw_only=True)
class SpeechData:
    """Utterances in three parts that have no text and no audio in common."""

    train: Utterances
    validation: Utterances
    test: Utterances
    vocabulary: Vocabulary
    summary: SpeechSummary


def load_speech(
    name: str,
    *,
    sample_rate: int,
    vocabulary_size: int,
    max_seconds: float,
    vocabulary: Vocabulary | None = None,
) -> SpeechData:
    """Read utterances, split them, and make features and tokens of them.

    Args:
        name: of the data, as `read_utterances` takes it.
        sample_rate: that audio is brought to, in samples a second.
        vocabulary_size: tokens to learn from the texts to train on; 0: their characters are the tokens.
        max_seconds: of an utterance; longer ones are left out of every part.
        vocabulary: of a network of the user's own, in place of one that is learned.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: the data cannot be used, or more than half of it is too long, or too short for its text.
        MissingPackage: a library of the extra `speech` or `hf` is missing.

    Cost: about 4 s for half an hour of audio.
    """
    found = read_utterances(name)
    features: dict[str, NDArray[np.float32]] = {}  # by the hash of the audio
    pairs = {part: _heard(found[part], features, sample_rate, max_seconds) for part in found}
    number, heard = sum(map(len, found.values())), sum(map(len, pairs.values()))
    if 2 * heard < number:
        raise InputError(
            f"max_seconds must leave at least half of the {number:,} utterances of {name}, "
            f"{max_seconds:g} leaves {heard:,}"
        )
    parts = split_rows(pairs, name, "utterances")
    if vocabulary is None and vocabulary_size:
        vocabulary = learn_vocabulary(parts.train.targets, vocabulary_size, **MARKS)
    elif vocabulary is None:
        vocabulary = learn_characters(parts.train.targets, **MARKS)
    kept = {part: _encoded(getattr(parts, part), vocabulary, features) for part in PARTS}
    count = {part: len(utterances) for part, utterances in kept.items()}
    split = sum(len(getattr(parts, part)) for part in PARTS)
    if 2 * sum(count.values()) < split or not all(count.values()):
        raise InputError(
            f"at least half of the {split:,} utterances of {name}, and some of each part, must last "
            f"{SHRUNK * STEP * 1000:g} ms or more for each token of their text, {count['train']:,} to train "
            f"on, {count['validation']:,} for validation and {count['test']:,} for the test do"
        )
    return SpeechData(
        **kept,
        vocabulary=vocabulary,
        summary=SpeechSummary(
            sha256=_sha256({part: getattr(parts, part) for part in PARTS}, vocabulary, sample_rate),
            vocabulary=vocabulary.json,
            pad=vocabulary.pad,
            end=vocabulary.end,
            start=vocabulary.start,
            num_classes=len(vocabulary),
            max_tokens=max(int(utterances.lengths.max()) for utterances in kept.values()),
            max_frames=max(len(each) for utterances in kept.values() for each in utterances.features),
            sample_rate=sample_rate,
            train_utterances=count["train"],
            validation_utterances=count["validation"],
            test_utterances=count["test"],
            train_seconds=kept["train"].seconds,
            validation_seconds=kept["validation"].seconds,
            test_seconds=kept["test"].seconds,
            train_rows=kept["train"].rows,
            validation_rows=kept["validation"].rows,
            test_rows=kept["test"].rows,
            repeated=parts.repeated,
            too_long=number - heard,
            too_short=split - sum(count.values()),
        ),
    )


def _heard(
    utterances: Sequence[Utterance],
    features: dict[str, NDArray[np.float32]],
    sample_rate: int,
    max_seconds: float,
) -> Pairs:
    """Make features of the utterances that are not too long, and pairs of hashes of audio with texts."""
    kept = []
    for number, utterance in enumerate(utterances):
        content = utterance.content()
        samples = read_audio(content, utterance.name, rate=sample_rate, most_seconds=max_seconds)
        if samples is not None:
            sha256 = hashlib.sha256(content).hexdigest()
            features[sha256] = log_mel(samples, sample_rate)
            kept.append((sha256, utterance.text, number // NEIGHBOURS))
    return Pairs(
        sources=tuple(sha256 for sha256, _, _ in kept),
        targets=tuple(text for _, text, _ in kept),
        passages=tuple(passage for _, _, passage in kept),
    )


def _encoded(pairs: Pairs, vocabulary: Vocabulary, features: dict[str, NDArray[np.float32]]) -> Utterances:
    """Make tokens of the texts of a part that are not too long for their audio."""
    tokens = vocabulary.encode(pairs.targets)
    kept = [
        row for row, sha256 in enumerate(pairs.sources) if len(tokens[row]) <= len(features[sha256]) // SHRUNK
    ]
    chosen = pairs.select(kept)
    return Utterances(
        features=tuple(features[sha256] for sha256 in chosen.sources),
        targets=chosen.targets,
        target_tokens=tuple(tuple(tokens[row]) for row in kept),
    )


def _sha256(parts: dict[str, Pairs], vocabulary: Vocabulary, sample_rate: int) -> str:
    """Hash the audio, the texts, the vocabulary and the rate, from which features and tokens follow."""
    texts = {part: (pairs.sources, pairs.targets) for part, pairs in parts.items()}
    return hashlib.sha256(json.dumps([texts, asdict(vocabulary), sample_rate]).encode()).hexdigest()
