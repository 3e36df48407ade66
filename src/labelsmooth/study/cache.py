"""The numbers of a trial in a file, which only saves computing them again from the trial's arrays."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.study.tasks.base import Metrics

# Raised when numbers of the same names are measured in another way, or others of the catalogue are too.
_EDITION = 1


def metrics_to_json(metrics: Metrics) -> dict[str, Any]:
    """Give the numbers with a digest of them and of what is measured."""
    return {"sha256": _digest(metrics), "metrics": metrics}


def cached_metrics(path: Path) -> Metrics | None:
    """Read what `metrics_to_json` gave; None where that is missing, altered, or of another edition."""
    try:
        stored = json.loads(path.read_bytes())
        metrics: Metrics = stored["metrics"]
        return metrics if stored["sha256"] == _digest(metrics) else None
    except (FileNotFoundError, ValueError, RecursionError, KeyError, TypeError):
        return None


def _digest(metrics: Metrics) -> str:
    measured = json.dumps([_EDITION, list(QUANTITIES), metrics])
    return hashlib.sha256(measured.encode()).hexdigest()
