"""The report: one self-contained HTML page that opens offline, and its text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill

from labelsmooth.report.figures import (
    curves_svg,
    gap_svg,
    has_plane,
    projection_svg,
    reliability_svg,
)
from labelsmooth.report.html import data_uri, render
from labelsmooth.report.verdict import Verdict, estimate, show, show_number, verdict
from labelsmooth.study import Clusters, Study, Trial, load_study
from labelsmooth.theory import optimal_gap

SCORES = (
    ("accuracy", "accuracy (%)"),
    ("nll", "NLL (nats)"),
    ("ece", "ECE (%)"),
    ("smece", "smECE (%)"),
    ("brier", "Brier"),
    ("aurc", "AURC"),
    ("over_confidence", "over-conf. (%)"),
)
_WIDTH = 100  # of the text for a terminal


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of the networks themselves, beside their predictions: a row of the second table."""

    name: str
    values: tuple[str, ...]  # one for each objective


@dataclass(frozen=True, kw_only=True)
class Report:
    """A written report."""

    path: Path
    verdict: Verdict
    text: str  # the verdict and the table, for a terminal


def write_report(folder: Path | str) -> Report:
    """Write `report.html` into the folder of a finished study.

    Args:
        folder: of a study that `run_study` finished.

    Returns:
        The report, with its verdict and its text.

    Raises:
        ValueError: the folder holds no finished study, or is damaged.
        ImportError: jinja2, matplotlib or scipy is missing; `labelsmooth[study]` brings them.

    Cost: a few seconds; it reads the logits and features of every trial.
    """
    study = load_study(folder)
    found = verdict(study)
    shown = ["hard"] if found.chosen is None else ["hard", str(found.chosen)]
    pictures = {
        "reliability": reliability_svg(study, shown),
        "gap": gap_svg(study),
        "curves": curves_svg(study),
    }
    if has_plane(study):
        pictures["projection"] = projection_svg(study, shown)
    html = render(
        "template.html",
        show=show,
        study=study,
        verdict=found,
        measures=_measures(study),
        scores=SCORES,
        pictures={name: data_uri(svg) for name, svg in pictures.items()},
        untold=sum(trial.metrics.temperature_at_boundary for trial in study.trials),
        versions=study.trials[0].versions,
    )
    path = study.folder / "report.html"
    partial = path.with_name(".partial-report.html")
    partial.write_text(html, encoding="utf-8", errors="replace")  # a path need not be UTF-8
    partial.replace(path)
    return Report(path=path, verdict=found, text=_text(found))


def _measures(study: Study) -> tuple[Measure, ...]:
    rows: list[tuple[str, Callable[[Trial], float]]] = [
        ("temperature", lambda trial: trial.metrics.temperature),
        ("logit gap, training rows", lambda trial: trial.metrics.train_gap),
        ("logit gap, validation rows", lambda trial: trial.metrics.validation_gap),
        ("p of the p-norm, 0 for none", lambda trial: trial.metrics.pnorm),
        ("information of the wrong classes (nats)", lambda trial: trial.metrics.wrong_information),
    ]
    for words, clusters in (
        ("training rows", lambda trial: trial.metrics.train_clusters),
        ("validation rows", lambda trial: trial.metrics.validation_clusters),
    ):
        rows += [
            (f"{name}, {words}", partial(_cluster_measure, clusters, field))
            for name, field in (
                ("spread", "spread"),
                ("spread that the logits see", "spread_in_span"),
                ("class separation R²", "class_separation"),
                ("NC1", "nc1"),
                ("NC2 of the class means", "frame_error"),
                *([("distance from a triangle", "triangle_error")] if has_plane(study) else []),
            )
        ]
    measures = [
        Measure(
            name=name,
            values=tuple(
                show_number(estimate([of(trial) for trial in trials])) for trials in study.arms().values()
            ),
        )
        for name, of in rows
    ]
    gaps = [
        math.nan if objective.eps is None else optimal_gap(objective.eps, len(study.data.class_names))
        for objective in study.recipe.objectives
    ]
    measures.insert(
        1,
        Measure(name="optimal logit gap", values=tuple(_shown_gap(gap) for gap in gaps)),
    )
    return tuple(measures)


def _cluster_measure(clusters: Callable[[Trial], Clusters], field: str, trial: Trial) -> float:
    value: float = getattr(clusters(trial), field)
    return value


def _shown_gap(gap: float) -> str:
    return "–" if math.isnan(gap) else "∞" if math.isinf(gap) else f"{gap:.3g}"


def _text(found: Verdict) -> str:
    lines = [fill(found.headline, _WIDTH), ""]
    lines += [fill(f"- {sentence}", _WIDTH, subsequent_indent="  ") for sentence in found.sentences]
    lines += ["", "Test rows, mean ± 95 % interval over seeds; * is the recommended arm:", ""]
    table = [["", *(title for _, title in SCORES)]]
    for arm in found.arms:
        mark = " *" if arm == found.recommended else ""
        scores = (show(arm.estimate(metric), metric, unit=False) for metric, _ in SCORES)
        table.append([arm.name + mark, *scores])
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        first, *rest = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]))
    return "\n".join(lines) + "\n"
