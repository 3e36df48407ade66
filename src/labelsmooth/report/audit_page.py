"""The report of an audit: one self-contained HTML page, its numbers as JSON, and its text for a terminal."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
import torch

from labelsmooth.audit import Audit, Measured, to_json
from labelsmooth.errors import InputError
from labelsmooth.files import write_together
from labelsmooth.report.audit_figures import gap_svg, projection_svg, reliability_svg, risk_coverage_svg
from labelsmooth.report.audit_verdict import SCORES, differences, findings, headlines, remarks, with_interval
from labelsmooth.report.html import data_uri, render

GROUP_SCORES = ("rows", "accuracy", "nll", "brier", "over_confidence", "ece")
_WIDTH = 100  # of the text for a terminal


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """A written report."""

    path: Path
    text: str  # the findings and the table, for a terminal


def check_audit_folder(out: Path) -> None:
    """Raise unless an audit may be written to `out`.

    Raises:
        ValueError: it is no folder, cannot be made or written to, or holds a study, whose report would be
            replaced.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"out must be a folder, got the file {out}")
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"out must be a folder that can be written to, got {out}")
    if (out / "study.json").exists():
        raise InputError(f"{out} holds a study, whose report this would replace: give another folder as out")


def write_audit(audit: Audit, out: Path | str) -> AuditReport:
    """Write `report.html` and `metrics.json` into a folder, made where it is missing: both whole, or neither.

    Args:
        audit: of `run_audit`.
        out: that folder.

    Returns:
        The report, with its text.

    Raises:
        ValueError: as `check_audit_folder`.
        ImportError: jinja2 or matplotlib is missing; `labelsmooth[audit]` brings them.
    """
    out = Path(out)
    check_audit_folder(out)
    # of fewer rows the gaps say little of the model
    with_gaps = [model for model in audit.models if 2 * model.gaps.count.sum() >= model.rows]
    pictures = {
        "reliability": reliability_svg(audit.models),
        "risk_coverage": risk_coverage_svg(audit.models),
    }
    if with_gaps:
        pictures["gap"] = gap_svg(with_gaps)
    projected = [model for model in audit.models if model.projection is not None]
    if projected:
        pictures["projection"] = projection_svg(projected)
    versions = {
        "labelsmooth": importlib.metadata.version("labelsmooth"),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    html = render(
        "audit.html",
        audit=audit,
        headlines=headlines(audit),
        findings={model.name: findings(model) for model in audit.models},
        remarks={model.name: remarks(model) for model in audit.models},
        differences=[(pair, differences(pair)) for pair in audit.pairs],
        scores={
            metric: title
            for metric, (title, _) in SCORES.items()
            if any(metric in model.metrics for model in audit.models)
        },
        shown=_shown,
        group_scores=GROUP_SCORES,
        some_left_out=any(model.gaps.count.sum() < model.rows for model in audit.models),
        interval=lambda interval, metric: with_interval(interval, metric, unit=False),
        pictures={name: data_uri(svg) for name, svg in pictures.items()},
        versions=versions,
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    write_together({out / "metrics.json": to_json(audit), path: html})
    return AuditReport(path=path, text=_text(audit))


def _text(audit: Audit) -> str:
    lines = [*(fill(words, _WIDTH) for words in headlines(audit)), ""]
    for model in audit.models:
        lines += [f"{model.name}: {model.rows:,} rows, {model.num_classes} classes"]
        said = [
            f"{found.question} {found.answer.capitalize()}. {found.sentence}" for found in findings(model)
        ]
        lines += [fill(f"- {words}", _WIDTH, subsequent_indent="  ") for words in (*said, *remarks(model))]
        lines.append("")
    lines += [fill(note, _WIDTH) + "\n" for note in audit.notes]
    table = [["95 % intervals in brackets", *(model.name for model in audit.models)]]
    table += [
        [title, *(_shown(model, metric) for model in audit.models)]
        for metric, (title, _) in SCORES.items()
        if any(metric in model.metrics for model in audit.models)
    ]
    lines.append(_aligned(table))
    for pair in audit.pairs:
        rows = [[f"{pair.of} minus {pair.minus}, on the same rows", ""]]
        for row in differences(pair):
            noise = ", within noise" if row.within_noise else ""
            rows.append([SCORES[row.metric][0], with_interval(row.interval, row.metric, unit=False) + noise])
        lines += ["", _aligned(rows)]
    return "\n".join(lines) + "\n"


def _shown(model: Measured, metric: str) -> str:
    return with_interval(model.metrics[metric], metric, unit=False) if metric in model.metrics else "–"


def _aligned(table: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
