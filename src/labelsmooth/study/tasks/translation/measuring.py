"""What is measured of the tokens and the translations of a network that translates."""

from __future__ import annotations

import re

import numpy as np

from labelsmooth.evaluation import exactly
from labelsmooth.measure.protocol import Table
from labelsmooth.study.tasks.base import Influence, Metrics
from labelsmooth.study.tasks.classifier import plain_values
from labelsmooth.study.tasks.sequences.quality import (
    quality,
    quality_influences,
)
from labelsmooth.study.tasks.sequences.tokens import (
    measure_tokens,
    token_influences,
    token_tables,
)
from labelsmooth.study.tasks.translation.arrays import AT, TranslationArrays


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
        if not name.startswith(AT)
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
        if not name.startswith(AT):
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
