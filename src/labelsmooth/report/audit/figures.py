"""The numbers of the figures of an audit: those of a study, with models for arms and no seeds."""

from __future__ import annotations

from typing import Any

from labelsmooth.audit import Audit, Model
from labelsmooth.report.shared.figure import (
    Cell,
    Figure,
    bin_rows,
    curve_rows,
    plane_rows,
    short,
    table,
)


def figures(audit: Audit) -> tuple[Figure, ...]:
    """Every figure that the audit has numbers for, in the order of the page."""
    made = [reliability(audit), risk_coverage(audit)]
    if with_gaps := [place for place, model in enumerate(audit.models) if _has_gaps(model)]:
        made.append(logit_gaps(audit, with_gaps))
    if any(model.evaluation.projection is not None for model in audit.models):
        made.append(projection(audit))
    return tuple(made)


def some_rows_without_gap(audit: Audit) -> bool:
    """Whether some rows give a class the probability 0."""
    return any(_rows_with_gap(model) < model.evaluation.rows for model in audit.models)


def reliability(audit: Audit) -> Figure:
    """Bins of confidence of the rows that nothing was fitted on, without and with the temperature."""
    rows: list[tuple[Cell, ...]] = []
    errors: list[dict[str, Any]] = []
    for arm, model in enumerate(audit.models):
        for scaled, part in enumerate(("held_out", "with_temperature")):
            if part in model.evaluation.numbers:
                ece = model.evaluation.numbers[part]["ece"].value
                errors.append({"arm": arm, "with_temperature": scaled, "ece": short(ece)})
                bins = model.evaluation.figures[part]["reliability"]
                rows += [(arm, scaled, *cells) for cells in bin_rows(bins)]
    names = ("arm", "with_temperature", "from", "to", "rows", "confidence", "accuracy")
    return Figure(
        name="reliability",
        columns=table(names, rows),
        constants={"ece": errors, "before": "as given"},
    )


def risk_coverage(audit: Audit) -> Figure:
    """Risk against coverage of the same rows, by the largest probability and by a p-norm that helps."""
    rows: list[tuple[Cell, ...]] = []
    areas: list[dict[str, Any]] = []
    for arm, model in enumerate(audit.models):
        numbers = model.evaluation.numbers
        parts = ("held_out", "with_pnorm") if numbers["fitted"]["pnorm"].value else ("held_out",)
        for with_pnorm, part in enumerate(parts):
            areas.append({"arm": arm, "with_p_norm": with_pnorm, "aurc": short(numbers[part]["aurc"].value)})
            curve = model.evaluation.figures[part]["risk_coverage"]
            rows += [(arm, with_pnorm, *point) for point in curve_rows(curve)]
    return Figure(
        name="risk_coverage",
        columns=table(("arm", "with_p_norm", "coverage", "risk"), rows),
        constants={"areas": areas},
    )


def logit_gaps(audit: Audit, arms: list[int]) -> Figure:
    """The distribution of the logit gaps of the rows of some models."""
    rows = [
        (arm, short(low), short(high), int(count))
        for arm in arms
        for low, high, count in zip(*_gaps(audit.models[arm]).values(), strict=True)
    ]
    return Figure(name="logit_gaps", columns=table(("arm", "from", "to", "rows"), rows))


def projection(audit: Audit) -> Figure:
    """Penultimate features of the first three classes in the plane through their templates."""
    rows = [
        (arm, "measured", *cells)
        for arm, model in enumerate(audit.models)
        if model.evaluation.projection is not None
        for cells in plane_rows(model.evaluation.projection)
    ]
    return Figure(
        name="projection",
        columns=table(("arm", "rows", "kind", "class", "x", "y"), rows),
        constants={"classes": ["class 0", "class 1", "class 2"]},
    )


def _has_gaps(model: Model) -> bool:
    """Whether at least half of the rows have a gap: of fewer the gaps say little of the model."""
    return 2 * _rows_with_gap(model) >= model.evaluation.rows


def _rows_with_gap(model: Model) -> int:
    return int(_gaps(model)["rows"].sum()) if "logit_gaps" in model.evaluation.figures["all"] else 0


def _gaps(model: Model) -> Any:
    return model.evaluation.figures["all"]["logit_gaps"]
