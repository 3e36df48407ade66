"""An evaluation as the values of a JSON document, and back.

{"classes": K, "scores": "logits" or "probabilities", "chance": SHARE,
"numbers": {PART: {QUANTITY: {"value", "low", "high"}}}, "groups": {GROUP: {QUANTITY: …}},
"recovered": {FIELD: VALUE} or null, "untold": SENTENCE or null, "notes": [SENTENCE]}

The parts are those of `Evaluation`, the quantities those of the catalogue. Null stands for what JSON has no
number for: a value that is infinite (an infinite NLL, of a part whose `infinite_nll_rows` are above 0) or
that could not be told (then a note says why; a threshold is one that no row reached), an end of an interval
that is infinite, or both ends where there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from labelsmooth.evaluation.numbers import Numbers
from labelsmooth.evaluation.result import Evaluation
from labelsmooth.measure import Interval, RecoveredSmoothing

_INTERVALS = ("uniform", "others")  # of `RecoveredSmoothing`
_UNBOUNDED = ("log_odds", "log_odds_spread", "wrong_spread")  # of it, which can be infinite


def to_document(evaluation: Evaluation) -> dict[str, Any]:
    """The numbers of an evaluation as what `json.dumps` takes, without its figures."""
    return {
        "classes": evaluation.num_classes,
        "scores": "probabilities" if evaluation.are_probs else "logits",
        "chance": evaluation.chance,
        "numbers": {part: numbers_to_document(numbers) for part, numbers in evaluation.numbers.items()},
        "groups": {group: numbers_to_document(numbers) for group, numbers in evaluation.groups.items()},
        "recovered": _recovered_to_document(evaluation.recovered),
        "untold": evaluation.untold,
        "notes": list(evaluation.notes),
    }


def from_document(document: Mapping[str, Any]) -> Evaluation:
    """The evaluation that `to_document` wrote, without its figures."""
    return Evaluation(
        num_classes=document["classes"],
        are_probs=document["scores"] == "probabilities",
        chance=document["chance"],
        numbers={part: numbers_from_document(numbers) for part, numbers in document["numbers"].items()},
        groups={group: numbers_from_document(numbers) for group, numbers in document["groups"].items()},
        recovered=_recovered(document["recovered"]),
        untold=document["untold"],
        notes=tuple(document["notes"]),
    )


def numbers_to_document(numbers: Numbers) -> dict[str, dict[str, float | None]]:
    """Numbers as what `json.dumps` takes."""
    return {name: _interval_to_document(interval) for name, interval in numbers.items()}


def numbers_from_document(document: Mapping[str, Mapping[str, float | None]]) -> Numbers:
    """The numbers that `numbers_to_document` wrote."""
    numbers = {name: _interval(fields) for name, fields in document.items()}
    infinite = numbers.get("infinite_nll_rows")
    if infinite is not None and infinite.value > 0:
        numbers["nll"] = Interval(value=math.inf, low=math.inf, high=math.inf)
    return numbers


def _recovered_to_document(found: RecoveredSmoothing | None) -> dict[str, Any] | None:
    if found is None:
        return None
    document = asdict(found)
    for name in _INTERVALS:
        interval = getattr(found, name)
        document[name] = None if interval is None else _interval_to_document(interval)
    for name in _UNBOUNDED:
        document[name] = _number(document[name])
    return document


def _recovered(document: Mapping[str, Any] | None) -> RecoveredSmoothing | None:
    if document is None:
        return None
    found = dict(document)
    for name in _INTERVALS:
        found[name] = found[name] and _interval(found[name])
    for name in _UNBOUNDED:
        found[name] = math.inf if found[name] is None else found[name]
    return RecoveredSmoothing(**found)


def _interval_to_document(interval: Interval) -> dict[str, float | None]:
    return {
        "value": _number(interval.value),
        "low": _number(interval.low),
        "high": _number(interval.high),
    }


def _interval(fields: Mapping[str, float | None]) -> Interval:
    ends = {name: math.nan if end is None else end for name, end in fields.items()}
    return Interval(**ends)


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(value)
