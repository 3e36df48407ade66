"""How good sentences are, from statistics that add up over them: BLEU, chrF, TER, lengths, WER, CER."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.extras import needs_extra
from labelsmooth.measure.arrays import State
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.study.tasks.shown import Floats

_ORDERS = 4  # of BLEU's n-grams
_EDITS = ("substitute", "delete", "insert", "equal")  # as jiwer calls them
# how many statistics each score has of a sentence: of translations, and of what was recognised
TRANSLATION = {"bleu": 10, "chrf": 18, "ter": 2}
RECOGNITION = {"wer": 4, "cer": 4}


def sentence_statistics(
    hypotheses: Sequence[str], references: Sequence[str], scores: Iterable[str] = TRANSLATION
) -> State:
    """Count what BLEU, chrF and TER need of each sentence, as sacrebleu does.

    Args:
        hypotheses: translations.
        references: what they should be.
        scores: to count for, of bleu, chrf and ter.

    Returns:
        bleu (S, 10): words of hypothesis and reference, n-grams that are right, n-grams, n = 1..4;
        chrf (S, 18): for n = 1..6 n-grams of characters in the hypothesis, in the reference, in both;
        ter (S, 2): edits, and words of the reference.

    Cost: about 5 ms a sentence, most of it for the TER.

    Source: Post 2018, "A Call for Clarity in Reporting BLEU Scores".
    """
    metrics = _metrics()
    return {
        # sacrebleu has no public name for what its own significance tests are made of
        name: np.array(metrics[name]._extract_corpus_statistics(hypotheses, [references]), dtype=np.float32)
        for name in scores
    }


def edit_statistics(
    hypotheses: Sequence[str], references: Sequence[str], scores: Iterable[str] = RECOGNITION
) -> State:
    """Count the edits that make each reference of its hypothesis, as jiwer does.

    Args:
        hypotheses: what was recognised.
        references: what was said, none of them empty.
        scores: to count for, of wer and cer.

    Returns:
        wer (S, 4): words that are substituted, deleted, inserted, and right; cer (S, 4): characters likewise,
        spaces among them.

    Cost: about 20 µs a sentence.

    Source: Morris, Maier & Green 2004, "From WER and RIL to MER and WIL: improved evaluation measures for
    connected speech recognition".
    """
    with needs_extra("speech"):
        import jiwer

    processes: Mapping[str, Callable[..., Any]] = {
        "wer": jiwer.process_words,
        "cer": jiwer.process_characters,
    }
    found = {}
    for name in scores:
        aligned = processes[name](list(references), list(hypotheses)).alignments
        found[name] = np.array([[_edits(chunks, kind) for kind in _EDITS] for chunks in aligned], np.float32)
    return found


def _edits(chunks: Sequence[Any], kind: str) -> int:
    """Count the edits of a kind in an alignment of jiwer: an insertion has no length in the reference."""
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
        if chunk.type == kind
    )


def signatures() -> dict[str, str]:
    """Give the signatures by which others can repeat the scores, for one reference."""
    found = {}
    for name, metric in _metrics().items():
        metric.corpus_score(["a"], [["a"]])  # it learns the number of references from them
        found[name] = metric.get_signature().format()
    return found


def _metrics() -> Mapping[str, Any]:
    with needs_extra("translation"):
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
        from sacrebleu.metrics.ter import TER

    # force: nothing is said about texts that look as if they were tokenised
    return {"bleu": BLEU(force=True), "chrf": CHRF(), "ter": TER()}


def _bleu(sums: Tensor) -> Tensor:
    words, expected, correct, total = sums[0], sums[1], sums[2 : 2 + _ORDERS], sums[2 + _ORDERS :]
    if not correct.any() or not total.all():
        return 0 * sums.sum()
    # an order without a match counts half a match, the next a quarter, and so on
    halved = torch.where(correct == 0, 0.5 ** (correct == 0).cumsum(0), correct)
    brevity = (1 - expected / words).clamp_max(0)
    log_precision = (halved / total).log().mean()
    score: Tensor = 100 * (brevity + log_precision).exp()
    return score


def _chrf(counts: Tensor) -> Tensor:  # (…, 18)
    hypothesis, reference, both = counts.reshape(*counts.shape[:-1], -1, 3).unbind(-1)
    orders = (hypothesis > 0) & (reference > 0)
    precision, recall = (
        torch.where(orders, both / of.clamp_min(1), 0).sum(-1) / orders.sum(-1).clamp_min(1)
        for of in (hypothesis, reference)
    )
    # β = 2; without an n-gram in common both are 0
    score: Tensor = 100 * 5 * precision * recall / torch.where(both.any(-1), 4 * precision + recall, 1)
    return score


def _ter(sums: Tensor) -> Tensor:
    return 100 * sums[0] / sums[1]


def _length_ratio(sums: Tensor) -> Tensor:
    return sums[0] / sums[1]


def _error_rate(counts: Tensor) -> Tensor:  # (…, 4)
    substituted, deleted, inserted, right = counts.unbind(-1)
    rate: Tensor = 100 * (substituted + deleted + inserted) / (substituted + deleted + right)
    return rate


# each score of the catalogue by the statistics that it is made of
_SCORES: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "bleu": ("bleu", _bleu),
    "chrf": ("chrf", _chrf),
    "ter": ("ter", _ter),
    "length_ratio": ("bleu", _length_ratio),
    "wer": ("wer", _error_rate),
    "cer": ("cer", _error_rate),
}


def quality(statistics: State) -> dict[str, float]:
    """Compute the scores of all sentences together, those whose statistics are given: BLEU, chrF, TER and the
    length ratio of translations, WER and CER of what was recognised (0..100, and beyond in TER, WER and CER).

    Args:
        statistics: of `sentence_statistics` or `edit_statistics`; those of drawn sentences give a draw of the
            bootstrap.
    """
    return {
        name: float(score(_sums(statistics[of]))) for name, (of, score) in _SCORES.items() if of in statistics
    }


def sentence_scores(score: str, counts: NDArray[np.float32]) -> Floats:
    """Give the chrF, WER or CER of each sentence by itself.

    Args:
        score: chrf, wer or cer.
        counts: (…, numbers), its statistics of each sentence.

    Returns:
        (…), 0..100, and beyond of wer and cer.
    """
    scores: Floats = _SCORES[score][1](torch.from_numpy(counts).double()).numpy()
    return scores


def sentence_risks(score: str, counts: NDArray[np.float32]) -> Floats:
    """Give the risk of each sentence: 1 less its chrF, or its WER or CER up to 1.

    Args:
        score: chrf, wer or cer.
        counts: (…, numbers), its statistics of each sentence.

    Returns:
        (…), 0..1.
    """
    shares = sentence_scores(score, counts) / 100
    risks: Floats = np.clip(1 - shares if QUANTITIES[score].better == "high" else shares, 0, 1)
    return risks


def best_of(nbest: State, score: str) -> State:
    """Choose of the n hypotheses of each sentence the one of the lowest risk.

    Args:
        nbest: statistics (S, n, numbers) by the score that they are of.
        score: that the risk is of.

    Returns:
        The statistics (S, numbers) of those that are chosen; of equal ones, the first.
    """
    best = sentence_risks(score, nbest[score]).argmin(1)
    return {name: counts[np.arange(len(best)), best] for name, counts in nbest.items()}


def quality_influences(statistics: State) -> dict[str, Floats]:
    """The influence of each sentence on the scores of all of them, which are their means.

    A score is a function of sums, and a sentence moves it along the gradient of that.
    """
    found: dict[str, Floats] = {}
    for name, (of, score) in _SCORES.items():
        if of not in statistics:
            continue
        sums = _sums(statistics[of]).requires_grad_()
        with torch.enable_grad():
            value = score(sums)
            (gradient,) = torch.autograd.grad(value, sums)
        each = torch.from_numpy(statistics[of]).double()
        found[name] = (value.detach() + (len(each) * each - sums.detach()) @ gradient).numpy()
    return found


def _sums(statistics: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(statistics).double().sum(0)
