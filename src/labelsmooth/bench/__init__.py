"""Benchmarks of the losses beside their peers, measured on the machine at hand."""

from labelsmooth.bench.cases import GROUPS, contests
from labelsmooth.bench.contest import Row, run_contest
from labelsmooth.bench.document import (
    SCALED,
    UNFINISHED,
    Result,
    cells,
    from_json,
    markdown,
    missing,
    table,
    to_json,
)
from labelsmooth.bench.hardware import machine

__all__ = [
    "GROUPS",
    "SCALED",
    "UNFINISHED",
    "Result",
    "Row",
    "cells",
    "contests",
    "from_json",
    "machine",
    "markdown",
    "missing",
    "run_contest",
    "table",
    "to_json",
]
