"""How good sentences are, from statistics that add up over them: BLEU, chrF, TER, lengths, WER, CER."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.extras import needs_extra
from labelsmooth.measure.arrays import State
from labelsmooth.study.tasks.base import Floats

_ORDERS = 4  # of BLEU's n-grams
_EDITS = ("substitute", "delete", "insert", "equal")  # as jiwer calls them


def sentence_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> State:
    """Count what BLEU, chrF and TER need of each sentence, as sacrebleu does.

    Args:
        hypotheses: translations.
        references: what they should be.

    Returns:
        bleu (S, 10): words of hypothesis and reference, n-grams that are right, n-grams, n = 1..4;
        chrf (S, 18): for n = 1..6 n-grams of characters in the hypothesis, in the reference, in both;
        ter (S, 2): edits, and words of the reference.

    Cost: about 5 ms a sentence, most of it for the TER.

    Source: Post 2018, "A Call for Clarity in Reporting BLEU Scores".
    """
    return {
        # sacrebleu has no public name for what its own significance tests are made of
        name: np.array(metric._extract_corpus_statistics(hypotheses, [references]), dtype=np.float32)
        for name, metric in _metrics().items()
    }


def edit_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> State:
    """Count the edits that make each reference of its hypothesis, as jiwer does.

    Args:
        hypotheses: what was recognised.
        references: what was said, none of them empty.

    Returns:
        wer (S, 4): words that are substituted, deleted, inserted, and right; cer (S, 4): characters likewise,
        spaces among them.

    Cost: about 20 µs a sentence.

    Source: Morris, Maier & Green 2004, "From WER and RIL to MER and WIL: improved evaluation measures for
    connected speech recognition".
    """
    with needs_extra("speech"):
        import jiwer

    found = {}
    for name, process in (("wer", jiwer.process_words), ("cer", jiwer.process_characters)):
        aligned = process(list(references), list(hypotheses)).alignments
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


def _chrf(sums: Tensor) -> Tensor:
    hypothesis, reference, both = sums.reshape(-1, 3).T
    orders = (hypothesis > 0) & (reference > 0)
    if not both.any():
        return 0 * sums.sum()
    precision = (both[orders] / hypothesis[orders]).mean()
    recall = (both[orders] / reference[orders]).mean()
    score: Tensor = 100 * 5 * precision * recall / (4 * precision + recall)  # β = 2
    return score


def _ter(sums: Tensor) -> Tensor:
    return 100 * sums[0] / sums[1]


def _length_ratio(sums: Tensor) -> Tensor:
    return sums[0] / sums[1]


def _error_rate(sums: Tensor) -> Tensor:
    substituted, deleted, inserted, right = sums
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
