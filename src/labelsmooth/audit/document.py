"""An audit as JSON.

{"models": {NAME: EVALUATION}, "differences": [{"of": NAME, "minus": NAME, "level": SHARE, "numbers": {PART:
{QUANTITY: {"value", "low", "high"}}}}], "notes": [SENTENCE]}

An EVALUATION is as `evaluation.document` says, with the notes of its file in front; the notes of the audit
say which models could not be compared, and why. The level of the differences is that of each interval, at
which those of a number in all differences hold together at 95 %.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from labelsmooth.evaluation import numbers_to_document, to_document

if TYPE_CHECKING:
    from labelsmooth.audit.runner import Audit


def to_json(audit: Audit) -> str:
    """The numbers of an audit; the same text for the same numbers."""
    document = {
        "models": {
            model.name: to_document(model.evaluation) | {"notes": list(model.notes)} for model in audit.models
        },
        "differences": [
            {
                "of": pair.of,
                "minus": pair.minus,
                "level": pair.level,
                "numbers": {part: numbers_to_document(numbers) for part, numbers in pair.numbers.items()},
            }
            for pair in audit.pairs
        ],
        "notes": list(audit.notes),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
