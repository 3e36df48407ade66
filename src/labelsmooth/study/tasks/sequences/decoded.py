"""What a network decodes for test sentences, kept with what scores need, and measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.evaluation import exactly
from labelsmooth.measure.arrays import State
from labelsmooth.measure.protocol import Table
from labelsmooth.study.tasks.base import Influence, Metrics
from labelsmooth.study.tasks.classifier import plain_values
from labelsmooth.study.tasks.sequences.decoding import Decoding, Hypotheses, decode
from labelsmooth.study.tasks.sequences.network import EncoderDecoder, TokenSummary
from labelsmooth.study.tasks.sequences.quality import quality, quality_influences
from labelsmooth.study.tasks.sequences.sentences import Sentences
from labelsmooth.study.tasks.sequences.settings import SequenceSettings
from labelsmooth.study.tasks.sequences.split import SPLIT_SEED
from labelsmooth.study.tasks.sequences.tokens import (
    TokenArrays,
    measure_tokens,
    token_influences,
    token_tables,
)
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary

_AT = "temperature_"  # what the names of decodings of the curve begin with


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedArrays(TokenArrays):
    """What the numbers and pictures of one network that decodes sentences are computed from.

    D of the test sentences are decoded, in several ways, by whose names the mappings are; each way keeps as
    many hypotheses of a sentence as it has beams, the best first. A subclass has fields for the statistics of
    its scores, likewise by way, (D, numbers) each.
    """

    widths: ClassVar[Mapping[str, int]]  # numbers of a sentence in each of the statistics

    decoded: NDArray[np.int32]  # (D,) the numbers of these test sentences
    hypotheses: State = field(default_factory=dict)  # tokens of all hypotheses
    hypothesis_lengths: State = field(default_factory=dict)  # (D, beams)

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        super().check()
        number = len(self.decoded)
        if not np.isin(self.decoded, np.arange(len(self.test_lengths))).all():
            raise InputError(f"decoded must hold numbers of the {len(self.test_lengths):,} test sentences")
        for name, lengths in self.hypothesis_lengths.items():
            tokens = self.hypotheses.get(name)
            if len(lengths) != number or tokens is None or len(tokens) != lengths.sum():
                raise InputError(f"hypotheses must hold those of {number:,} sentences by {name}")
            for score, width in self.widths.items():
                counts = getattr(self, score).get(name)
                if counts is None or counts.shape != (number, width) or not np.isfinite(counts).all():
                    raise InputError(f"{score} must hold {width} counts of {number:,} sentences by {name}")

    def statistics_of(self, name: str) -> State:
        """Give what the scores of one decoding are made of."""
        return {score: getattr(self, score)[name] for score in self.widths}

    def hypotheses_of(self, name: str) -> Hypotheses:
        """Give what one decoding found."""
        return Hypotheses(tokens=self.hypotheses[name], lengths=self.hypothesis_lengths[name])

    @property
    def curve(self) -> dict[float, str]:
        """The decodings at several temperatures, by these in ascending order."""
        at = {float(name.removeprefix(_AT)): name for name in self.hypotheses if name.startswith(_AT)}
        return dict(sorted(at.items()))


def decodings(settings: SequenceSettings) -> dict[str, Decoding]:
    """List the searches that the settings ask for, by the names that arrays have them under."""
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


def decoded_fields(
    network: EncoderDecoder,
    test: Sentences,
    vocabulary: Vocabulary,
    summary: TokenSummary,
    settings: SequenceSettings,
    statistics: Callable[[Sequence[str], Sequence[str]], State],
) -> dict[str, Any]:
    """Decode some test sentences, and count what scores need.

    Args:
        network: in evaluation mode.
        test: sentences to draw from.
        vocabulary: that makes text of tokens.
        summary: of the data.
        settings: of the trial.
        statistics: of hypotheses and references, for each score.

    Returns:
        The fields that `DecodedArrays` add to those of `TokenArrays`.
    """
    chosen = drawn_sentences(len(test), settings.decode)
    sentences = test.select(chosen.tolist())
    found: dict[str, Any] = {"decoded": chosen, "hypotheses": {}, "hypothesis_lengths": {}}
    for name, way in decodings(settings).items() if len(chosen) else ():
        made = decode(
            network.body, sentences, way, pad=summary.pad, end=summary.end, max_tokens=summary.max_tokens
        )
        found["hypotheses"][name], found["hypothesis_lengths"][name] = made.tokens, made.lengths
        for score, counts in statistics(vocabulary.decode(made.best()), sentences.targets).items():
            found.setdefault(score, {})[name] = counts
    return found


def drawn_sentences(sentences: int, number: int) -> NDArray[np.int32]:
    """Draw the test sentences that are decoded, the same in every trial, in their order."""
    drawn = np.random.default_rng(SPLIT_SEED).permutation(sentences)[:number]
    return np.sort(drawn).astype(np.int32)


def measure_decoded(arrays: DecodedArrays) -> Metrics:
    """Measure a network that predicts tokens, and what it decodes.

    Returns:
        The numbers of `measure_tokens`, and the scores of test_beams_1 and so on, by the beams of the search,
        and of test_rectified_beams_1 and so on.
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
    """Say which search a part of `measure_decoded` is of; "" of one that is of tokens.

    Example:
        >>> beam_words("test_rectified_beams_4")
        'beam search of 4, rectified'
    """
    match = re.fullmatch(r"test_(rectified_)?beams_([0-9]+)", part)
    return "" if match is None else f"beam search of {match[2]}{', rectified' if match[1] else ''}"


def decoded_influences(arrays: DecodedArrays, metrics: Metrics) -> dict[str, Influence]:
    """The influence of each sentence on the numbers of `measure_decoded`, by part and name.

    The sentences that are decoded are the set `decoded`.
    """
    known = token_influences(arrays, metrics)
    for name in arrays.hypotheses:
        if not name.startswith(_AT):
            for score, moved in quality_influences(arrays.statistics_of(name)).items():
                known[f"test_{name}.{score}"] = {"decoded": moved}
    return known


def decoded_tables(arrays: DecodedArrays) -> dict[str, dict[str, Table]]:
    """Give the tables for pictures, by part of the metrics.

    Beside those of `token_tables` there is `decoding_temperatures` of the test sentences: the scores of the
    widest search at each temperature, where these were asked for.
    """
    tables = token_tables(arrays)
    if arrays.curve:
        scores = [quality(arrays.statistics_of(name)) for name in arrays.curve.values()]
        tables["test"]["decoding_temperatures"] = {
            "temperature": np.array(list(arrays.curve)),
            **{score: np.array([each[score] for each in scores]) for score in scores[0]},
        }
    return tables
