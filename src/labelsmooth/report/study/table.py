"""The table of scores: as text, or for a paper as Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from labelsmooth.errors import InputError
from labelsmooth.measure.catalogue import Quantity
from labelsmooth.measure.format import NOTHING
from labelsmooth.report.study.arms import Arm
from labelsmooth.report.study.estimate import show
from labelsmooth.report.study.methods import study_names
from labelsmooth.report.study.verdict import Verdict, columns
from labelsmooth.study import Study
from labelsmooth.tables import Table

TABLE_FORMATS = ("markdown", "latex")


def scores_table(studies: Sequence[tuple[Study, Verdict]], style: str) -> str:
    """The test scores of every arm, mean ± 95 % interval over seeds and rows, recommended arms in bold.

    Args:
        studies: with their verdicts, at least one.
        style: "markdown" or "latex"; the latter needs the package booktabs.

    Returns:
        Text that ends in a newline.

    Raises:
        ValueError: `style` is neither.
    """
    if style not in TABLE_FORMATS:
        raise InputError(f"a table must be one of {', '.join(TABLE_FORMATS)}, got {style!r}")
    table = table_of(studies)
    return table.markdown() if style == "markdown" else table.latex()


def table_of(studies: Sequence[tuple[Study, Verdict]]) -> Table:
    """The test scores of every arm, with a section for each of several studies."""
    rows: list[list[str]] = []
    strong, sections = set(), {}
    shown = columns([found for _, found in studies])
    for name, (_, found) in zip(study_names([study for study, _ in studies]), studies, strict=True):
        sections[len(rows)] = name
        for arm in found.arms:
            if arm == found.recommended:
                strong.add(len(rows))
            rows.append([arm.name, *(cell(found, arm, quantity) for quantity in shown)])
    return Table(
        head=("arm", *(quantity.label for quantity in shown)),
        rows=rows,
        strong=strong,
        sections=sections if len(studies) > 1 else {},
        section="study",
    )


def cell(found: Verdict, arm: Arm, quantity: Quantity) -> str:
    """Write what an arm has of a column; "–" where its study has none."""
    names = (name for name, score in found.scores.items() if score.quantity == quantity)
    return next((show(arm.estimate(name), quantity, unit=False) for name in names), NOTHING)
