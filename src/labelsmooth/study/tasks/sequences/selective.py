"""Selective prediction of whole sentences: how good those are that a network is most sure of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labelsmooth.measure import Selective, SelectiveResult
from labelsmooth.measure.influence import AurcInfluence
from labelsmooth.study.tasks.shown import Floats

# by what sentences can be put in order
ORDERS = {
    "product": "the product of probabilities",
    "mean": "the mean log-probability",
    "product_with_temperature": "the product at the fitted temperature",
    "mean_with_temperature": "the mean log-probability at the fitted temperature",
    "pnorm": "the mean p-norm",
}


def in_orders(confidences: NDArray[np.float32]) -> dict[str, Floats]:
    """Give the confidence of each sentence by each of `ORDERS`, of what `sentence_confidences` gave."""
    tokens, plain, scaled, pnorm = confidences.astype(np.float64).T
    return {
        "product": plain,  # its logarithm, of the same order
        "mean": plain / tokens,
        "product_with_temperature": scaled,
        "mean_with_temperature": scaled / tokens,
        "pnorm": pnorm,
    }


def sentence_risk_coverage(confidence: Floats, risk: Floats) -> SelectiveResult:
    """Give the risk–coverage curve of sentences whose risk is any number in 0..1, and its areas.

    A sentence of the risk r counts as one of the weight r that is wrong, and one of 1 − r that is right.

    Args:
        confidence: (S,) finite, higher for sentences to be accepted first.
        risk: (S,).

    Example:
        >>> sentence_risk_coverage(np.array([3.0, 2.0, 1.0]), np.array([0.2, 0.4, 0.9])).risk
        array([0.2, 0.3, 0.5])
    """
    selective = Selective(len(confidence))
    correct = np.repeat([False, True], len(risk))
    selective.update_scores(np.tile(confidence, 2), correct, np.concatenate([risk, 1 - risk]))
    return selective.compute()


def risk_influences(confidence: Floats, risk: Floats, coverages: Sequence[float]) -> Floats:
    """The influence of each sentence on the risk of those that a network is most sure of.

    A sentence that is accepted moves the mean by its risk less that at the threshold, to which another has to
    give way; that is the mean risk of the tenth of all sentences around the threshold.

    Args:
        confidence: (S,).
        risk: (S,).
        coverages: (G,) shares of the sentences that are accepted, in (0, 1].

    Returns:
        (G, S), whose means over sentences are the risks.
    """
    falling, number = np.argsort(-confidence, kind="stable"), len(risk)
    near = max(number // 20, 1)
    moved = np.empty((len(coverages), number))
    for row, coverage in zip(moved, coverages, strict=True):
        last = math.ceil(round(coverage * number, 6))
        accepted, around = falling[:last], falling[max(last - near, 0) : last + near]
        row[:] = risk[around].mean()
        row[accepted] += (risk[accepted] - risk[around].mean()) * number / last
    return moved


def sentence_aurc_influence(confidence: Floats, risk: Floats) -> Floats:
    """The influence of each sentence on the AURC of `sentence_risk_coverage`, of which it is the mean."""
    of = AurcInfluence(sentence_risk_coverage(confidence, risk)).of
    every = np.ones(len(risk), dtype=bool)
    influence: Floats = risk * of(confidence, ~every) + (1 - risk) * of(confidence, every)
    return influence
