"""The report of an audit: one self-contained HTML page, its numbers as JSON, and its text for a terminal."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
import torch

from labelsmooth.audit import Audit, Model, to_json
from labelsmooth.errors import InputError
from labelsmooth.files import write_together
from labelsmooth.report.audit import tables
from labelsmooth.report.audit.figures import figures, some_rows_without_gap
from labelsmooth.report.audit.findings import comparison, findings, headlines, reference, remarks
from labelsmooth.report.shared.figure import section
from labelsmooth.report.shared.html import render
from labelsmooth.tables import Table

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
        ImportError: jinja2 is missing; `labelsmooth[audit]` brings it.
    """
    out = Path(out)
    check_audit_folder(out)
    made = figures(audit)
    names = [model.name for model in audit.models]
    versions = {
        "labelsmooth": importlib.metadata.version("labelsmooth"),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    html = render(
        "audit/audit.html",
        audit=audit,
        headlines=headlines(audit),
        findings={model.name: findings(model.evaluation) for model in audit.models},
        remarks={model.name: remarks(model) for model in audit.models},
        reference=reference(audit),
        pairs=[(comparison(pair), tables.differences(pair)) for pair in audit.pairs],
        all_rows=tables.all_rows(audit),
        fitted=_tables(audit, tables.with_and_without),
        groups=_tables(audit, tables.groups),
        noted=tables.quantities_of(audit),
        drawn_figures=[figure.name for figure in made],
        some_left_out=some_rows_without_gap(audit),
        data={"sections": [section("audit", "model", names, made, shown=range(len(names)))]},
        versions=versions,
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    write_together({out / "metrics.json": to_json(audit), path: html})
    return AuditReport(path=path, text=_text(audit))


def _text(audit: Audit) -> str:
    lines = [*(fill(words, _WIDTH) for words in headlines(audit)), ""]
    for model in audit.models:
        lines += [f"{model.name}: {model.evaluation.rows:,} rows, {model.evaluation.num_classes} classes"]
        said = [
            f"{found.question} {found.answer.capitalize()}. {found.sentence}"
            for found in findings(model.evaluation)
        ]
        lines += [fill(f"- {words}", _WIDTH, subsequent_indent="  ") for words in (*said, *remarks(model))]
        lines.append("")
    lines += [fill(note, _WIDTH) + "\n" for note in audit.notes]
    lines.append(tables.all_rows(audit).text())
    for table in (*_tables(audit, tables.with_and_without), *_tables(audit, tables.groups)):
        lines += ["", table.text()]
    if audit.pairs:
        lines += ["", fill(reference(audit), _WIDTH)]
    for pair in audit.pairs:
        lines += ["", *(fill(sentence, _WIDTH) for sentence in comparison(pair))]
        lines += ["", tables.differences(pair).text()]
    return "\n".join(lines) + "\n"


def _tables(audit: Audit, make: Callable[[Model], Table | None]) -> list[Table]:
    """The tables of the models that have one."""
    return [table for model in audit.models if (table := make(model)) is not None]
