"""What is kept of a network that translates: of its tokens, and its translations of some sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.measure import PNorm
from labelsmooth.measure.arrays import State
from labelsmooth.study.tasks.sequences.decoding import Decoding, Hypotheses, decode
from labelsmooth.study.tasks.sequences.forced import CONFIDENCES, ForcedTokens, sentence_confidences
from labelsmooth.study.tasks.sequences.quality import STATISTICS, sentence_statistics, signatures
from labelsmooth.study.tasks.sequences.sentences import Sentences
from labelsmooth.study.tasks.sequences.split import SPLIT_SEED
from labelsmooth.study.tasks.sequences.tokens import TokenArrays
from labelsmooth.study.tasks.translation.data import TranslationData
from labelsmooth.study.tasks.translation.models import Translator
from labelsmooth.study.tasks.translation.settings import TranslationSettings

AT = "temperature_"  # what the names of decodings of the curve begin with
RECTIFIED = "rectified_"  # of rectified searches
_BEAMS = "beams_"  # and those of searches by the network's own probabilities
OF_NBEST = ("bleu", "chrf")  # what is counted of all translations of a search
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslationArrays(TokenArrays):
    """What the numbers and pictures of one network that translates are computed from.

    D of the test sentences are translated, in several ways, by whose names the mappings are; each way keeps
    as many translations of a sentence as it has beams, the best first, of which alone scores are counted.
    All n translations of the widest search, that of most beams by the network's own probabilities, have
    BLEU's and chrF's counts too.
    """

    decoded: NDArray[np.int32]  # (D,) the numbers of these test sentences
    source_lengths: NDArray[np.int32]  # (D,)
    source_tokens: NDArray[np.int32]  # of all of them
    pnorm: NDArray[np.int64]  # () fitted on the validation tokens; 0: the largest probability is as good
    hypotheses: State = field(default_factory=dict)  # tokens of all translations
    hypothesis_lengths: State = field(default_factory=dict)  # (D, beams)
    bleu: State = field(default_factory=dict)  # (D, 10) as `sentence_statistics` counts them
    chrf: State = field(default_factory=dict)  # (D, 18)
    ter: State = field(default_factory=dict)  # (D, 2)
    confidences: State = field(default_factory=dict)  # (D, 4) as `sentence_confidences` has them
    nbest: State = field(default_factory=dict)  # (D, n, 10) and (D, n, 18) of the widest search, by the score
    signatures: State = field(default_factory=dict)  # of sacrebleu, in UTF-8, by bleu, chrf and ter

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        super().check()
        number = len(self.decoded)
        if not np.isin(self.decoded, np.arange(len(self.test_lengths))).all():
            raise InputError(f"decoded must hold numbers of the {len(self.test_lengths):,} test sentences")
        if len(self.source_lengths) != number or len(self.source_tokens) != self.source_lengths.sum():
            raise InputError(f"source_lengths must hold the lengths of {number:,} sentences of source_tokens")
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
            raise InputError(f"hypotheses must hold the translations {name} of {number:,} sentences")
        classes = len(self.class_counts)
        if len(tokens) != lengths.sum() or (len(tokens) and not 0 <= tokens.min() <= tokens.max() < classes):
            raise InputError(f"hypotheses must hold {lengths.sum():,} tokens in 0..{classes - 1} by {name}")
        for score, width in STATISTICS.items():
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
        for score in OF_NBEST:
            first = getattr(self, score)[self.widest]
            counts = self.nbest.get(score)
            _check_counts("nbest", counts, (*lengths.shape, first.shape[1]), f"for {score}")
            if not np.array_equal(self.nbest[score][:, 0], first):
                raise InputError(f"nbest must begin with the counts that {score} has of {self.widest}")

    def statistics_of(self, name: str) -> State:
        """Give what the scores of the translations by one decoding are made of."""
        return {score: getattr(self, score)[name] for score in STATISTICS}

    def translations(self, name: str) -> Hypotheses:
        """Give the translations by one decoding."""
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


def _check_counts(name: str, counts: NDArray[Any] | None, shape: tuple[int, ...], of: str) -> None:
    """Refuse what are no counts of this shape."""
    if counts is None or counts.shape != shape or not np.isfinite(counts).all() or not (counts >= 0).all():
        raise InputError(f"{name} must hold counts of the shape {shape} {of}")


def _search(beams: int) -> str:
    """Name a search by the network's own probabilities."""
    return f"{_BEAMS}{beams}"


def decodings(settings: TranslationSettings) -> dict[str, Decoding]:
    """List the ways to translate that the settings ask for, by the names that arrays have them under."""
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


def translated(
    tokens: TokenArrays,
    pnorm: PNorm,
    network: Translator,
    data: TranslationData,
    settings: TranslationSettings,
) -> TranslationArrays:
    """Add to what was kept of a network its translations of some test sentences, with what scores need.

    Args:
        tokens: that were kept of it.
        pnorm: that was fitted on its validation tokens.
        network: in evaluation mode.
        data: that it was trained on.
        settings: of its trial.
    """
    chosen = drawn_sentences(len(data.test), settings.decode)
    sentences = data.test.select(chosen)
    mappings = ("hypotheses", "hypothesis_lengths", *STATISTICS, "confidences")
    found: dict[str, Any] = {name: {} for name in mappings}
    ways = decodings(settings) if len(chosen) else {}
    ends = {"pad": data.summary.pad, "end": data.summary.end, "max_tokens": data.summary.max_tokens}
    for name, way in ways.items():
        made = decode(network.body, sentences.source_tokens, way, **ends)
        found["hypotheses"][name], found["hypothesis_lengths"][name] = made.tokens, made.lengths
        best = _with_targets(sentences, made.best(), data)
        for score, counts in sentence_statistics(best.targets, sentences.targets).items():
            found[score][name] = counts
        forced = ForcedTokens(network.predict(best), best.labels, "the translations")
        lengths = best.lengths.numpy().astype(np.int32)
        confidences = sentence_confidences(forced, lengths, tokens.temperature or 1.0, pnorm)
        found["confidences"][name] = confidences
        if name == _search(max(settings.beams)):
            found["nbest"] = _nbest_statistics(made, sentences.targets, data)
    if ways:
        found["signatures"] = {
            score: np.frombuffer(words.encode(), np.uint8) for score, words in signatures().items()
        }
    sources = sentences.source_tokens
    return TranslationArrays(
        **vars(tokens),
        decoded=chosen,
        source_lengths=np.array([len(source) for source in sources], dtype=np.int32),
        source_tokens=np.array([token for source in sources for token in source], dtype=np.int32),
        pnorm=np.array(pnorm.p or 0),
        **found,
    )


def _with_targets(
    sentences: Sentences, translations: Sequence[Sequence[int]], data: TranslationData
) -> Sentences:
    """Pair sentences with their translations, with the end of each that was not cut off."""
    end, most = data.summary.end, data.summary.max_tokens
    return replace(
        sentences,
        targets=tuple(data.vocabulary.decode(translations)),
        target_tokens=tuple((*tokens, end)[:most] for tokens in translations),
    )


def _nbest_statistics(made: Hypotheses, references: Sequence[str], data: TranslationData) -> State:
    """Count for BLEU and chrF what all translations of a search have."""
    repeated = [reference for reference in references for _ in range(made.lengths.shape[1])]
    counts = sentence_statistics(data.vocabulary.decode(made.all()), repeated, OF_NBEST)
    return {score: each.reshape(*made.lengths.shape, -1) for score, each in counts.items()}


def drawn_sentences(sentences: int, number: int) -> NDArray[np.int32]:
    """Draw the test sentences that are translated, the same in every trial, in their order."""
    drawn = np.random.default_rng(SPLIT_SEED).permutation(sentences)[:number]
    return np.sort(drawn).astype(np.int32)
