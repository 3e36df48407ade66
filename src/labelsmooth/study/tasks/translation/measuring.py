"""What is measured of the tokens and the translations of a network that translates."""

from __future__ import annotations

import re

import numpy as np

from labelsmooth.evaluation import exactly
from labelsmooth.measure.arrays import State
from labelsmooth.measure.protocol import Table
from labelsmooth.study.tasks.base import Floats, Influence, Metrics
from labelsmooth.study.tasks.classifier import plain_values
from labelsmooth.study.tasks.sequences.quality import best_of, quality, quality_influences, sentence_chrf
from labelsmooth.study.tasks.sequences.selective import (
    ORDERS,
    in_orders,
    sentence_aurc_influence,
    sentence_risk_coverage,
)
from labelsmooth.study.tasks.sequences.tokens import measure_tokens, token_influences, token_tables
from labelsmooth.study.tasks.translation.arrays import AT, TranslationArrays


def measure_translation(arrays: TranslationArrays) -> Metrics:
    """Measure a network that translates.

    Returns:
        The numbers of `measure_tokens`, and of the translations

        - test_beams_1 and so on by the beams of the search, test_rectified_beams_1 and so on: BLEU, chrF, TER
          and the length ratio
        - test_best_of_4: BLEU, chrF and the length ratio of the best of the translations of each sentence
          that the widest search found, which nobody can choose without the reference
        - test_beams_4_by_mean and so on: the AURC of the translations of the widest search, in each of
          `ORDERS`
    """
    numbers = {part: quality(counts) for part, counts in _counted(arrays).items()}
    for part, confidence in _confidences(arrays).items():
        numbers[part] = {"sentence_aurc": sentence_risk_coverage(confidence, _risk(arrays)).aurc}
    translations = {
        part: plain_values({name: exactly(value) for name, value in found.items()})
        for part, found in numbers.items()
    }
    return {**measure_tokens(arrays), **translations}


def _counted(arrays: TranslationArrays) -> dict[str, State]:
    """What the scores of the translations are made of, by part of the metrics."""
    searches = [name for name in arrays.hypotheses if not name.startswith(AT)]
    found = {f"test_{name}": arrays.statistics_of(name) for name in searches}
    number = arrays.nbest["chrf"].shape[1] if arrays.nbest else 1
    if number > 1:
        found[f"test_best_of_{number}"] = best_of(arrays.nbest)
    return found


def _confidences(arrays: TranslationArrays) -> dict[str, Floats]:
    """How sure the network is of each translation of the widest search, by part of the metrics."""
    if not arrays.hypotheses:
        return {}
    name = arrays.widest
    found = in_orders(arrays.confidences[name])
    return {f"test_{name}_by_{order}": confidence for order, confidence in found.items()}


def _risk(arrays: TranslationArrays) -> Floats:
    """The risk of each translation of the widest search."""
    risk: Floats = np.clip(1 - sentence_chrf(arrays.chrf[arrays.widest]) / 100, 0, 1)
    return risk


def part_words(part: str) -> str:
    """Say which translations a part of `measure_translation` is of; "" of one that is of tokens.

    Example:
        >>> part_words("test_rectified_beams_4"), part_words("test_best_of_4")
        ('beam search of 4, rectified', 'best of 4 translations')
        >>> part_words("test_beams_4_by_mean")
        'beam search of 4, by the mean log-probability'
    """
    if match := re.fullmatch(r"test_best_of_([0-9]+)", part):
        return f"best of {match[1]} translations"
    match = re.fullmatch(rf"test_(rectified_)?beams_([0-9]+)(?:_by_({'|'.join(ORDERS)}))?", part)
    if match is None:
        return ""
    rectified, order = ", rectified" if match[1] else "", f", by {ORDERS[match[3]]}" if match[3] else ""
    return f"beam search of {match[2]}{rectified}{order}"


def translation_influences(arrays: TranslationArrays, metrics: Metrics) -> dict[str, Influence]:
    """The influence of each sentence on the numbers of `measure_translation`, by part and name.

    The sentences that are translated are the set `decoded`.
    """
    known = token_influences(arrays, metrics)
    for part, counts in _counted(arrays).items():
        for score, moved in quality_influences(counts).items():
            known[f"{part}.{score}"] = {"decoded": moved}
    for part, confidence in _confidences(arrays).items():
        known[f"{part}.sentence_aurc"] = {"decoded": sentence_aurc_influence(confidence, _risk(arrays))}
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
