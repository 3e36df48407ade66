"""What is measured of the tokens and the sentences of a network that decodes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from labelsmooth.evaluation import exactly
from labelsmooth.measure.arrays import State
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.study.tasks.base import Influence, Metrics
from labelsmooth.study.tasks.classifier import plain_values
from labelsmooth.study.tasks.sequences.decoded import AT, RECTIFIED, DecodedArrays, unpacked
from labelsmooth.study.tasks.sequences.quality import (
    best_of,
    quality,
    quality_influences,
    sentence_risks,
    sentence_scores,
)
from labelsmooth.study.tasks.sequences.selective import (
    ORDERS,
    in_orders,
    risk_influences,
    sentence_aurc_influence,
    sentence_risk_coverage,
)
from labelsmooth.study.tasks.sequences.series import token_series
from labelsmooth.study.tasks.sequences.tokens import measure_tokens, token_influences
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary
from labelsmooth.study.tasks.shown import Floats, Headline, Series, Texts

# scores of texts of any use: hardly a word of others is right, or they are of another length
_USEFUL = {"bleu": (1.0, math.inf), "length_ratio": (0.5, 2.0), "wer": (-math.inf, 100.0)}
_COVERAGES = tuple(np.linspace(0.1, 1, 10).round(1).tolist())


def measure_decoded(arrays: DecodedArrays) -> Metrics:
    """Measure a network that predicts tokens, and what it decodes.

    Returns:
        The numbers of `measure_tokens`, and of the hypotheses

        - test_beams_1 and so on by the beams of the search, test_rectified_beams_1 and so on: the scores; of
          the widest the mean risk of a sentence
        - test_best_of_4: the scores of the best of the hypotheses of each sentence that the widest search
          found, which nobody can choose without the reference
        - test_beams_4_by_mean and so on: the AURC of the hypotheses of the widest search, in each of `ORDERS`
    """
    numbers = {part: quality(counts) for part, counts in _counted(arrays).items()}
    for part, confidence in _confidences(arrays).items():
        numbers[part] = {"sentence_aurc": sentence_risk_coverage(confidence, _risk(arrays)).aurc}
    if arrays.hypotheses:
        numbers[f"test_{arrays.widest}"]["sentence_risk"] = float(_risk(arrays).mean())
    decoded = {
        part: plain_values({name: exactly(value) for name, value in found.items()})
        for part, found in numbers.items()
    }
    return {**measure_tokens(arrays), **decoded}


def _counted(arrays: DecodedArrays) -> dict[str, State]:
    """What the scores of the hypotheses are made of, by part of the metrics."""
    searches = [name for name in arrays.hypotheses if not name.startswith(AT)]
    found = {f"test_{name}": arrays.statistics_of(name) for name in searches}
    number = arrays.nbest[arrays.of_sentence].shape[1] if arrays.nbest else 1
    if number > 1:
        found[f"test_best_of_{number}"] = best_of(arrays.nbest, arrays.of_sentence)
    return found


def _confidences(arrays: DecodedArrays) -> dict[str, Floats]:
    """How sure the network is of each hypothesis of the widest search, by part of the metrics."""
    if not arrays.hypotheses:
        return {}
    name = arrays.widest
    found = in_orders(arrays.confidences[name])
    return {f"test_{name}_by_{order}": confidence for order, confidence in found.items()}


def _risk(arrays: DecodedArrays) -> Floats:
    """The risk of each hypothesis of the widest search."""
    return sentence_risks(arrays.of_sentence, arrays.statistics_of(arrays.widest)[arrays.of_sentence])


def part_words(part: str) -> str:
    """Say which hypotheses a part of `measure_decoded` is of; "" of one that is of tokens.

    Example:
        >>> part_words("test_rectified_beams_4"), part_words("test_best_of_4")
        ('beam search of 4, rectified', 'best of 4 hypotheses')
        >>> part_words("test_beams_4_by_mean")
        'beam search of 4, by the mean log-probability'
    """
    if match := re.fullmatch(r"test_best_of_([0-9]+)", part):
        return f"best of {match[1]} hypotheses"
    match = re.fullmatch(rf"test_(rectified_)?beams_([0-9]+)(?:_by_({'|'.join(ORDERS)}))?", part)
    if match is None:
        return ""
    rectified, order = ", rectified" if match[1] else "", f", by {ORDERS[match[3]]}" if match[3] else ""
    return f"beam search of {match[2]}{rectified}{order}"


def decoded_headlines(metrics: Metrics, shown: Sequence[str]) -> list[Headline]:
    """Name the scores of the widest search; none where nothing was decoded.

    Args:
        metrics: of `measure_decoded`.
        shown: names of scores.
    """
    widths = [int(match[1]) for part in metrics if (match := re.fullmatch(r"test_beams_([0-9]+)", part))]
    if not widths:
        return []
    part = f"test_beams_{max(widths)}"
    return [
        Headline(
            quantity=QUANTITIES[name],
            field=f"{part}.{name}",
            way=part_words(part),
            useful=_USEFUL.get(name, (-math.inf, math.inf)),
        )
        for name in shown
    ]


def decoded_influences(arrays: DecodedArrays, metrics: Metrics) -> dict[str, Influence]:
    """The influence of each sentence on the numbers of `measure_decoded`, by part and name.

    The sentences that are decoded are the set `decoded`.
    """
    known = token_influences(arrays, metrics)
    for part, counts in _counted(arrays).items():
        for score, moved in quality_influences(counts).items():
            known[f"{part}.{score}"] = {"decoded": moved}
    for part, confidence in _confidences(arrays).items():
        known[f"{part}.sentence_aurc"] = {"decoded": sentence_aurc_influence(confidence, _risk(arrays))}
    if arrays.hypotheses:
        known[f"test_{arrays.widest}.sentence_risk"] = {"decoded": _risk(arrays)}
    return known


def decoded_series(arrays: DecodedArrays) -> dict[str, list[Series]]:
    """Give numbers along what they depend on: those of `token_series`, and those of hypotheses.

    These are the first of the scores that are shown at each of the temperatures that were asked for, by the
    widest search; all of them at each number of beams; and the risk of the most confident hypotheses of the
    widest search at each coverage, in each of `ORDERS`.
    """
    found = token_series(arrays)
    at = dict(sorted({1.0: arrays.widest, **arrays.curve}.items())) if arrays.curve else {}
    if len(at) > 1:
        found["temperatures"].append(_score_along(arrays, arrays.shown[0], at))
    found["beams"] = [
        _score_along(arrays, score, searches, how)
        for how in ("", RECTIFIED)
        for searches in [arrays.searches(how)]
        if len(searches) > 1
        for score in arrays.shown
    ]
    orders = in_orders(arrays.confidences[arrays.widest]) if arrays.hypotheses else {}
    found["coverage"] = [
        Series(
            quantity="sentence_risk",
            title=f"by {ORDERS[order]}",
            at=np.array(_COVERAGES),
            influences={"decoded": risk_influences(confidence, _risk(arrays), _COVERAGES)},
        )
        for order, confidence in orders.items()
    ]
    return found


def _score_along(
    arrays: DecodedArrays, score: str, ways: Mapping[int, str] | Mapping[float, str], how: str = ""
) -> Series:
    """A score of the hypotheses by several decodings, by what these differ in."""
    moved = [quality_influences(arrays.statistics_of(name))[score] for name in ways.values()]
    return Series(
        quantity=score,
        title=f"{QUANTITIES[score].label}, rectified" if how else "",
        at=np.array(list(ways), dtype=np.float64),
        words=[str(beams) for beams in ways if isinstance(beams, int)],
        influences={"decoded": np.stack(moved)},
    )


def decoded_texts(arrays: DecodedArrays, vocabulary: Vocabulary) -> Texts | None:
    """Give what the widest search found, with the score of each; None where nothing was decoded."""
    if not arrays.hypotheses:
        return None
    score, widest = arrays.of_sentence, arrays.widest
    return Texts(
        way=part_words(f"test_{widest}"),
        sources=arrays.source_texts,
        references=unpacked(arrays.references),
        outputs=vocabulary.decode(arrays.hypotheses_of(widest).best()),
        scores=sentence_scores(score, arrays.statistics_of(widest)[score]),
        score=score,
    )
