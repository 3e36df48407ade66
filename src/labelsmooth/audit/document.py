"""An audit as JSON.

{"models": {NAME: {METRIC: {"value", "low", "high"}}}, "groups": {NAME: {GROUP: {METRIC: …}}},
"differences": [{"of": NAME, "minus": NAME, "metrics": {METRIC: …}}], "notes": {NAME: [SENTENCE]}}

Null stands for what JSON has no number for: a value that is infinite (then `infinite_nll_rows` counts the
rows that made it so) or that could not be told (then a note says why), an end of an interval that is
infinite, or both ends where there is no interval.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from labelsmooth.measure.interval import Interval

if TYPE_CHECKING:
    from labelsmooth.audit.runner import Audit


def to_json(audit: Audit) -> str:
    """The numbers of an audit; the same text for the same numbers."""
    document = {
        "models": {model.name: _metrics(model.metrics) for model in audit.models},
        "groups": {
            model.name: {group: _metrics(metrics) for group, metrics in model.groups.items()}
            for model in audit.models
            if model.groups
        },
        "differences": [
            {"of": pair.of, "minus": pair.minus, "metrics": _metrics(pair.metrics)} for pair in audit.pairs
        ],
        "notes": {model.name: list(model.notes) for model in audit.models},
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _metrics(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            "value": _number(interval.value),
            "low": _number(interval.low),
            "high": _number(interval.high),
        }
        for name, interval in metrics.items()
    }


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(value)
