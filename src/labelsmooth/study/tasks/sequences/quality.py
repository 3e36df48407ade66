"""How good translations are: BLEU, chrF, TER and lengths, from statistics that add up over sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.extras import needs_extra
from labelsmooth.measure.arrays import State
from labelsmooth.study.tasks.base import Floats

_ORDERS = 4  # of BLEU's n-grams
STATISTICS = {"bleu": 10, "chrf": 18, "ter": 2}  # how many each has of a sentence


def sentence_statistics(
    hypotheses: Sequence[str], references: Sequence[str], scores: Iterable[str] = STATISTICS
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


# each score of the catalogue by the statistics that it is made of
_SCORES: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "bleu": ("bleu", _bleu),
    "chrf": ("chrf", _chrf),
    "ter": ("ter", _ter),
    "length_ratio": ("bleu", _length_ratio),
}


def quality(statistics: State) -> dict[str, float]:
    """Compute BLEU, chrF, TER (0..100 and beyond) and the length ratio of all sentences together.

    Args:
        statistics: of `sentence_statistics`; those of drawn sentences give a draw of the bootstrap, and of
            what was not counted there are no scores.
    """
    return {
        name: float(score(_sums(statistics[of]))) for name, (of, score) in _SCORES.items() if of in statistics
    }


def sentence_chrf(counts: NDArray[np.float32]) -> Floats:  # (…, 18)
    """Give the chrF of each sentence by itself, 0..100."""
    scores: Floats = _chrf(torch.from_numpy(counts).double()).numpy()
    return scores


def best_of(nbest: State) -> State:
    """Choose of the n translations of each sentence the one of the highest chrF.

    Args:
        nbest: counts (S, n, …) of `sentence_statistics`.

    Returns:
        The counts (S, …) of those that are chosen; of equal ones, the first.
    """
    best = sentence_chrf(nbest["chrf"]).argmax(1)
    return {score: counts[np.arange(len(best)), best] for score, counts in nbest.items()}


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
