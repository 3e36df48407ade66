"""Predictions of models, read from files larger than memory, every row of them checked."""

from labelsmooth.predictions.checked import Predictions, Scan
from labelsmooth.predictions.formats import FORMATS
from labelsmooth.predictions.lm_eval import LmEvalTable, find_logs, require_same_documents
from labelsmooth.predictions.memory import InMemory
from labelsmooth.predictions.names import Names
from labelsmooth.predictions.source import Batch, Source

__all__ = [
    "FORMATS",
    "Batch",
    "InMemory",
    "LmEvalTable",
    "Names",
    "Predictions",
    "Scan",
    "Source",
    "find_logs",
    "require_same_documents",
]
