"""What is kept of a network that translates, and what is measured of its tokens and its translations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.evaluation import exactly
from labelsmooth.measure.arrays import State
from labelsmooth.measure.protocol import Table
from labelsmooth.study.tasks.base import Influence, Metrics
from labelsmooth.study.tasks.classifier import plain_values
from labelsmooth.study.tasks.sequences.decoding import Decoding, Hypotheses, decode
from labelsmooth.study.tasks.sequences.quality import (
    quality,
    quality_influences,
    sentence_statistics,
    signatures,
)
from labelsmooth.study.tasks.sequences.split import SPLIT_SEED
from labelsmooth.study.tasks.sequences.tokens import (
    TokenArrays,
    measure_tokens,
    token_influences,
    token_tables,
)
from labelsmooth.study.tasks.translation.data import TranslationData
from labelsmooth.study.tasks.translation.models import Translator
from labelsmooth.study.tasks.translation.settings import TranslationSettings

_AT = "temperature_"  # what the names of decodings of the curve begin with
_STATISTICS = {"bleu": 10, "chrf": 18, "ter": 2}  # numbers of a sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslationArrays(TokenArrays):
    """What the numbers and pictures of one network that translates are computed from.

    D of the test sentences are translated, in several ways, by whose names the mappings are; each way keeps
    as many translations of a sentence as it has beams, the best first.
    """

    decoded: NDArray[np.int32]  # (D,) the numbers of these test sentences
    source_lengths: NDArray[np.int32]  # (D,)
    source_tokens: NDArray[np.int32]  # of all of them
    hypotheses: State = field(default_factory=dict)  # tokens of all translations
    hypothesis_lengths: State = field(default_factory=dict)  # (D, beams)
    bleu: State = field(default_factory=dict)  # (D, 10) as `sentence_statistics` counts them
    chrf: State = field(default_factory=dict)  # (D, 18)
    ter: State = field(default_factory=dict)  # (D, 2)
    signatures: State = field(default_factory=dict)  # of sacrebleu, in UTF-8, by bleu, chrf and ter

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        super().check()
        number = len(self.decoded)
        if not np.isin(self.decoded, np.arange(len(self.test_lengths))).all():
            raise InputError(f"decoded must hold numbers of the {len(self.test_lengths):,} test sentences")
        if len(self.source_lengths) != number or len(self.source_tokens) != self.source_lengths.sum():
            raise InputError(f"source_lengths must hold the lengths of {number:,} sentences of source_tokens")
        for name, lengths in self.hypothesis_lengths.items():
            tokens = self.hypotheses.get(name)
            if len(lengths) != number or tokens is None or len(tokens) != lengths.sum():
                raise InputError(f"hypotheses must hold the translations {name} of {number:,} sentences")
            for score, width in _STATISTICS.items():
                counts = getattr(self, score).get(name)
                if counts is None or counts.shape != (number, width) or not np.isfinite(counts).all():
                    raise InputError(f"{score} must hold {width} counts of {number:,} sentences by {name}")

    def statistics_of(self, name: str) -> State:
        """Give what the scores of the translations by one decoding are made of."""
        return {score: getattr(self, score)[name] for score in _STATISTICS}

    def translations(self, name: str) -> Hypotheses:
        """Give the translations by one decoding."""
        return Hypotheses(tokens=self.hypotheses[name], lengths=self.hypothesis_lengths[name])

    @property
    def curve(self) -> dict[float, str]:
        """The decodings at several temperatures, by these in ascending order."""
        at = {float(name.removeprefix(_AT)): name for name in self.hypotheses if name.startswith(_AT)}
        return dict(sorted(at.items()))


def decodings(settings: TranslationSettings) -> dict[str, Decoding]:
    """List the ways to translate that the settings ask for, by the names that arrays have them under."""
    penalty = settings.length_penalty
    found = {f"beams_{beams}": Decoding(beams=beams, length_penalty=penalty) for beams in settings.beams}
    if settings.rectify:
        found |= {
            f"rectified_beams_{beams}": Decoding(
                beams=beams, length_penalty=penalty, rectify=settings.rectify
            )
            for beams in settings.beams
        }
    widest = max(settings.beams)
    return found | {
        f"{_AT}{temperature:g}": Decoding(beams=widest, length_penalty=penalty, temperature=temperature)
        for temperature in settings.decode_temperatures
    }


def translated(
    tokens: TokenArrays, network: Translator, data: TranslationData, settings: TranslationSettings
) -> TranslationArrays:
    """Add to what was kept of a network its translations of some test sentences, with what scores need.

    Args:
        tokens: that were kept of it.
        network: in evaluation mode.
        data: that it was trained on.
        settings: of its trial.
    """
    chosen = drawn_sentences(len(data.test), settings.decode)
    sources = [data.test.source_tokens[row] for row in chosen]
    references = [data.test.targets[row] for row in chosen]
    found: dict[str, Any] = {name: {} for name in ("hypotheses", "hypothesis_lengths", *_STATISTICS)}
    for name, way in decodings(settings).items() if len(chosen) else ():
        made = decode(
            network.body,
            sources,
            way,
            pad=data.summary.pad,
            end=data.summary.end,
            max_tokens=data.summary.max_tokens,
        )
        found["hypotheses"][name], found["hypothesis_lengths"][name] = made.tokens, made.lengths
        counts = sentence_statistics(data.vocabulary.decode(made.best()), references)
        for score, each in counts.items():
            found[score][name] = each
    if len(chosen):
        found["signatures"] = {
            score: np.frombuffer(words.encode(), np.uint8) for score, words in signatures().items()
        }
    return TranslationArrays(
        **vars(tokens),
        decoded=chosen,
        source_lengths=np.array([len(source) for source in sources], dtype=np.int32),
        source_tokens=np.array([token for source in sources for token in source], dtype=np.int32),
        **found,
    )


def drawn_sentences(sentences: int, number: int) -> NDArray[np.int32]:
    """Draw the test sentences that are translated, the same in every trial, in their order."""
    drawn = np.random.default_rng(SPLIT_SEED).permutation(sentences)[:number]
    return np.sort(drawn).astype(np.int32)


def measure_translation(arrays: TranslationArrays) -> Metrics:
    """Measure a network that translates.

    Returns:
        The numbers of `measure_tokens`, and BLEU, chrF, TER and the length ratio of test_beams_1 and so on,
        by the beams of the search, and of test_rectified_beams_1 and so on.
    """
    numbers = {
        f"test_{name}": {
            score: exactly(value) for score, value in quality(arrays.statistics_of(name)).items()
        }
        for name in arrays.hypotheses
        if not name.startswith(_AT)
    }
    return {**measure_tokens(arrays), **{part: plain_values(found) for part, found in numbers.items()}}


def beam_words(part: str) -> str:
    """Say which search a part of `measure_translation` is of; "" of one that is of tokens.

    Example:
        >>> beam_words("test_rectified_beams_4")
        'beam search of 4, rectified'
    """
    match = re.fullmatch(r"test_(rectified_)?beams_([0-9]+)", part)
    return "" if match is None else f"beam search of {match[2]}{', rectified' if match[1] else ''}"


def translation_influences(arrays: TranslationArrays, metrics: Metrics) -> dict[str, Influence]:
    """The influence of each sentence on the numbers of `measure_translation`, by part and name.

    The sentences that are translated are the set `decoded`.
    """
    known = token_influences(arrays, metrics)
    for name in arrays.hypotheses:
        if not name.startswith(_AT):
            for score, moved in quality_influences(arrays.statistics_of(name)).items():
                known[f"test_{name}.{score}"] = {"decoded": moved}
    return known


def translation_tables(arrays: TranslationArrays) -> dict[str, dict[str, Table]]:
    """Give the tables for pictures, by part of the metrics.

    Beside those of `token_tables` there is `decoding_temperatures` of the test sentences: BLEU, chrF, TER and
    the length ratio of the widest search at each temperature, where these were asked for.
    """
    tables = token_tables(arrays)
    if arrays.curve:
        scores = [quality(arrays.statistics_of(name)) for name in arrays.curve.values()]
        tables["test"]["decoding_temperatures"] = {
            "temperature": np.array(list(arrays.curve)),
            **{score: np.array([each[score] for each in scores]) for score in scores[0]},
        }
    return tables
