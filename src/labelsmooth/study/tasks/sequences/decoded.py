"""What a network decodes for test sentences, kept with what scores need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.measure import PNorm
from labelsmooth.measure.arrays import State
from labelsmooth.study.tasks.sequences.decoding import Decoding, Hypotheses, decode
from labelsmooth.study.tasks.sequences.forced import CONFIDENCES, ForcedTokens, sentence_confidences
from labelsmooth.study.tasks.sequences.network import EncoderDecoder, TokenSummary
from labelsmooth.study.tasks.sequences.sentences import Sentences
from labelsmooth.study.tasks.sequences.settings import SequenceSettings
from labelsmooth.study.tasks.sequences.split import SPLIT_SEED
from labelsmooth.study.tasks.sequences.tokens import TokenArrays
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary

AT = "temperature_"  # what the names of decodings of the curve begin with
RECTIFIED = "rectified_"  # of rectified searches
_BEAMS = "beams_"  # and those of searches by the network's own probabilities
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedArrays(TokenArrays):
    """What the numbers and pictures of one network that decodes sentences are computed from.

    D of the test sentences are decoded, in several ways, by whose names the mappings are; each way keeps as
    many hypotheses of a sentence as it has beams, the best first, of which alone scores are counted. All n
    hypotheses of the widest search, that of most beams by the network's own probabilities, have some counts
    too. A subclass has a field for the statistics of each score, by way, (D, numbers) each.

    Attributes:
        widths: how many numbers each score has of a sentence.
        of_nbest: the scores whose statistics are kept of all hypotheses of the widest search.
        of_sentence: the one of these by which sentences are told apart.
        shown: the scores of the catalogue that a report shows along the number of beams, and the first along
            the temperature.
    """

    widths: ClassVar[Mapping[str, int]]
    of_nbest: ClassVar[tuple[str, ...]]
    of_sentence: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]

    decoded: NDArray[np.int32]  # (D,) the numbers of these test sentences
    references: NDArray[np.uint8]  # of these as they are written, by `packed`
    pnorm: NDArray[np.int64]  # () fitted on the validation tokens; 0: the largest probability is as good
    hypotheses: State = field(default_factory=dict)  # tokens of all hypotheses
    hypothesis_lengths: State = field(default_factory=dict)  # (D, beams)
    confidences: State = field(default_factory=dict)  # (D, 4) as `sentence_confidences` has them
    nbest: State = field(default_factory=dict)  # (D, n, numbers) of the widest search, by the score

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        super().check()
        if not np.isin(self.decoded, np.arange(len(self.test_lengths))).all():
            raise InputError(f"decoded must hold numbers of the {len(self.test_lengths):,} test sentences")
        check_texts("references", self.references, len(self.decoded))
        if self.pnorm.shape != () or not 0 <= self.pnorm <= 10:
            raise InputError("pnorm must be a whole number in 0..10")
        for name in dict.fromkeys([*self.hypotheses, *self.hypothesis_lengths]):
            self._check_decoding(name)
        if self.hypotheses:
            self._check_nbest()

    def _check_decoding(self, name: str) -> None:
        number = len(self.decoded)
        tokens, lengths = self.hypotheses.get(name), self.hypothesis_lengths.get(name)
        if tokens is None or lengths is None or lengths.ndim != 2 or len(lengths) != number:
            raise InputError(f"hypotheses must hold those of {number:,} sentences by {name}")
        classes = len(self.class_counts)
        if len(tokens) != lengths.sum() or (len(tokens) and not 0 <= tokens.min() <= tokens.max() < classes):
            raise InputError(f"hypotheses must hold {lengths.sum():,} tokens in 0..{classes - 1} by {name}")
        for score, width in self.widths.items():
            _check_counts(score, getattr(self, score).get(name), (number, width), f"by {name}")
        confidences = self.confidences.get(name)
        if (
            confidences is None
            or confidences.shape != (number, len(CONFIDENCES))
            or not np.isfinite(confidences).all()
            or not np.isin(confidences[:, 0] - lengths[:, 0], (0, 1)).all()
            or not (confidences[:, 1:3] <= 0).all()
            or not ((confidences[:, 3] >= 0) & (confidences[:, 3] <= 1 + _ROUNDING)).all()
        ):
            raise InputError(
                "confidences must hold the number of tokens, two log-probabilities of at most 0 and a p-norm "
                f"in 0..1 of each of {number:,} sentences by {name}"
            )

    def _check_nbest(self) -> None:
        lengths = self.hypothesis_lengths.get(self.widest)
        if lengths is None:
            raise InputError("hypotheses must hold a search by the probabilities of the network, got none")
        for score in self.of_nbest:
            first = getattr(self, score)[self.widest]
            counts = self.nbest.get(score)
            _check_counts("nbest", counts, (*lengths.shape, first.shape[1]), f"for {score}")
            if not np.array_equal(self.nbest[score][:, 0], first):
                raise InputError(f"nbest must begin with the counts that {score} has of {self.widest}")

    def statistics_of(self, name: str) -> State:
        """Give what the scores of one decoding are made of."""
        return {score: getattr(self, score)[name] for score in self.widths}

    @property
    def source_texts(self) -> Sequence[str]:
        """What the sentences were decoded of; nothing where that is no text."""
        return ()

    def hypotheses_of(self, name: str) -> Hypotheses:
        """Give what one decoding found."""
        return Hypotheses(tokens=self.hypotheses[name], lengths=self.hypothesis_lengths[name])

    def searches(self, how: str = "") -> dict[int, str]:
        """The names of the searches by the network's own probabilities, or of `RECTIFIED` ones, by beams."""
        start = how + _BEAMS
        found = {int(name.removeprefix(start)): name for name in self.hypotheses if name.startswith(start)}
        return dict(sorted(found.items()))

    @property
    def widest(self) -> str:
        """The search of most beams by the network's own probabilities."""
        return _search(max(self.searches(), default=0))

    @property
    def curve(self) -> dict[float, str]:
        """The decodings at several temperatures, by these in ascending order."""
        at = {float(name.removeprefix(AT)): name for name in self.hypotheses if name.startswith(AT)}
        return dict(sorted(at.items()))


def packed(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Write texts as one array."""
    return np.frombuffer(json.dumps(texts).encode(), np.uint8)


def unpacked(texts: NDArray[np.uint8]) -> list[str]:
    """Read the texts that `packed` wrote."""
    found: list[str] = json.loads(texts.tobytes())
    return found


def check_texts(name: str, texts: NDArray[np.uint8], number: int) -> None:
    """Refuse what are not so many texts.

    Raises:
        InputError: it is something else.
    """
    try:
        found = unpacked(texts)
    except ValueError as error:  # of JSON, or of UTF-8
        raise InputError(f"{name} must hold texts, it is damaged") from error
    if not isinstance(found, list) or len(found) != number or not all(isinstance(one, str) for one in found):
        raise InputError(f"{name} must hold {number:,} texts")


def _check_counts(name: str, counts: NDArray[Any] | None, shape: tuple[int, ...], of: str) -> None:
    """Refuse what are no counts of this shape."""
    if counts is None or counts.shape != shape or not np.isfinite(counts).all() or not (counts >= 0).all():
        raise InputError(f"{name} must hold counts of the shape {shape} {of}")


def _search(beams: int) -> str:
    """Name a search by the network's own probabilities."""
    return f"{_BEAMS}{beams}"


def decodings(settings: SequenceSettings) -> dict[str, Decoding]:
    """List the searches that the settings ask for, by the names that arrays have them under."""
    penalty = settings.length_penalty
    found = {_search(beams): Decoding(beams=beams, length_penalty=penalty) for beams in settings.beams}
    if settings.rectify:
        found |= {
            RECTIFIED + _search(beams): Decoding(
                beams=beams, length_penalty=penalty, rectify=settings.rectify
            )
            for beams in settings.beams
        }
    widest = max(settings.beams)
    return found | {
        f"{AT}{temperature:g}": Decoding(beams=widest, length_penalty=penalty, temperature=temperature)
        for temperature in settings.decode_temperatures
    }


class Statistics(Protocol):
    """A function that counts what scores need of hypotheses beside their references."""

    def __call__(
        self, hypotheses: Sequence[str], references: Sequence[str], scores: Sequence[str]
    ) -> State: ...


def decoded_fields(
    kind: type[DecodedArrays],
    network: EncoderDecoder,
    test: Sentences,
    vocabulary: Vocabulary,
    summary: TokenSummary,
    settings: SequenceSettings,
    *,
    statistics: Statistics,
    temperature: float,
    pnorm: PNorm,
) -> dict[str, Any]:
    """Decode some test sentences, and count what scores need.

    Args:
        kind: of the arrays.
        network: in evaluation mode.
        test: sentences to draw from.
        vocabulary: that makes text of tokens.
        summary: of the data.
        settings: of the trial.
        statistics: of hypotheses and references.
        temperature, pnorm: that were fitted on the validation tokens.

    Returns:
        The fields that `kind` adds to those of `TokenArrays`.
    """
    chosen = drawn_sentences(len(test), settings.decode)
    sentences = test.select(chosen.tolist())
    mappings = ("hypotheses", "hypothesis_lengths", *kind.widths, "confidences")
    found: dict[str, Any] = {name: {} for name in mappings}
    for name, way in decodings(settings).items() if len(chosen) else ():
        made = decode(
            network.body, sentences, way, pad=summary.pad, end=summary.end, max_tokens=summary.max_tokens
        )
        found["hypotheses"][name], found["hypothesis_lengths"][name] = made.tokens, made.lengths
        first = made.best()
        best = replace(
            sentences,
            targets=tuple(vocabulary.decode(first)),
            # with the end of each that was not cut off
            target_tokens=tuple((*tokens, summary.end)[: summary.max_tokens] for tokens in first),
        )
        for score, counts in statistics(best.targets, sentences.targets, tuple(kind.widths)).items():
            found[score][name] = counts
        forced = ForcedTokens(network.predict(best), best.labels, "the hypotheses")
        lengths = best.lengths.numpy().astype(np.int32)
        found["confidences"][name] = sentence_confidences(forced, lengths, temperature, pnorm)
        if name == _search(max(settings.beams)):
            repeated = [reference for reference in sentences.targets for _ in range(way.beams)]
            nbest = statistics(vocabulary.decode(made.all()), repeated, kind.of_nbest)
            found["nbest"] = {
                score: counts.reshape(*made.lengths.shape, -1) for score, counts in nbest.items()
            }
    return {
        "decoded": chosen,
        "references": packed(sentences.targets),
        "pnorm": np.array(pnorm.p or 0),
        **found,
    }


def drawn_sentences(sentences: int, number: int) -> NDArray[np.int32]:
    """Draw the test sentences that are decoded, the same in every trial, in their order."""
    drawn = np.random.default_rng(SPLIT_SEED).permutation(sentences)[:number]
    return np.sort(drawn).astype(np.int32)
