"""Evaluations: predictions measured, as given and with what is fitted, for audits and studies alike."""

from labelsmooth.evaluation.document import (
    from_document,
    numbers_from_document,
    numbers_to_document,
    to_document,
)
from labelsmooth.evaluation.fit import Fitted, fit
from labelsmooth.evaluation.layer import layer_numbers
from labelsmooth.evaluation.numbers import Numbers, exactly, numbers_of, ordered
from labelsmooth.evaluation.pairs import paired_differences
from labelsmooth.evaluation.result import Evaluation
from labelsmooth.evaluation.scores import Scores, statistics
from labelsmooth.evaluation.split import Split
from labelsmooth.evaluation.suite import evaluate

__all__ = [
    "Evaluation",
    "Fitted",
    "Numbers",
    "Scores",
    "Split",
    "evaluate",
    "exactly",
    "fit",
    "from_document",
    "layer_numbers",
    "numbers_from_document",
    "numbers_of",
    "numbers_to_document",
    "ordered",
    "paired_differences",
    "statistics",
    "to_document",
]
