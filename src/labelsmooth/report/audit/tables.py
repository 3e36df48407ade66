"""The tables of an audit: quantities of the catalogue against models, and what changes them."""

from __future__ import annotations

from collections.abc import Collection

from labelsmooth.audit import Audit, Model, Pair
from labelsmooth.evaluation import Numbers
from labelsmooth.measure.catalogue import GROUP_TITLES, QUANTITIES, Quantity
from labelsmooth.measure.format import NOTHING, show
from labelsmooth.report.audit.findings import within_noise
from labelsmooth.report.shared.words import counted
from labelsmooth.tables import Table

BRACKETS = "95 % intervals in brackets"

_OF_A_GROUP = ("rows", "accuracy", "nll", "over_confidence", "ece")  # of rows, so that they fit on a page


def all_rows(audit: Audit) -> Table:
    """Every number of all rows as given, a column for each model."""
    columns = [model.evaluation.of_all_rows for model in audit.models]
    sections: dict[int, str] = {}
    rows: list[list[str]] = []
    group = None
    for quantity in _present(columns):
        if quantity.group != group:
            group = quantity.group
            sections[len(rows)] = GROUP_TITLES[group]
        rows.append([quantity.label, *(_cell(quantity, column) for column in columns)])
    return Table(head=(BRACKETS, *(model.name for model in audit.models)), rows=rows, sections=sections)


def quantities_of(audit: Audit) -> list[Quantity]:
    """The quantities in the table of all rows."""
    columns = [model.evaluation.of_all_rows for model in audit.models]
    return [quantity for quantity in _present(columns) if quantity.name != "rows"]


def with_and_without(model: Model) -> Table | None:
    """Numbers that can be good or bad, without and with what was fitted; None where nothing was."""
    numbers, fitted = model.evaluation.numbers, model.evaluation.numbers["fitted"]
    columns = {"as given": numbers["held_out"]}
    if "with_temperature" in numbers:
        columns[f"T = {show('temperature', fitted['temperature'].value)}"] = numbers["with_temperature"]
    if fitted["pnorm"].value:
        columns[f"p-norm, p = {fitted['pnorm'].value:g}"] = numbers["with_pnorm"]
    if len(columns) == 1:
        return None
    rows = [
        [quantity.label, *(_cell(quantity, column) for column in columns.values())]
        for quantity in _present(columns.values())
        if quantity.better is not None
    ]
    held_out = counted(int(numbers["held_out"]["rows"].value), "row")
    return Table(head=(f"{model.name}, {held_out} that nothing was fitted on", *columns), rows=rows)


def differences(pair: Pair) -> Table:
    """The numbers of a model minus those of another."""
    words = {"all": "as given", "with_temperature": "with the temperature of each"}
    rows = [
        [quantity.difference.label, *(_difference(quantity, numbers) for numbers in pair.numbers.values())]
        for quantity in _present(pair.numbers.values())
    ]
    head = f"{pair.of} minus {pair.minus}, on the same rows"
    return Table(head=(head, *(words[part] for part in pair.numbers)), rows=rows)


def groups(model: Model) -> Table | None:
    """The first numbers of every group of rows; None without groups."""
    if not model.evaluation.groups:
        return None
    shown = [QUANTITIES[name] for name in _OF_A_GROUP]
    return Table(
        head=(f"groups of {model.name}", *(quantity.label for quantity in shown)),
        rows=[
            [group, *(_cell(quantity, numbers) for quantity in shown)]
            for group, numbers in model.evaluation.groups.items()
        ],
    )


def _present(columns: Collection[Numbers]) -> list[Quantity]:
    """The quantities that one of the columns has, in the order of the catalogue."""
    return [q for name, q in QUANTITIES.items() if any(name in column for column in columns)]


def _cell(quantity: Quantity, numbers: Numbers) -> str:
    return show(quantity, numbers[quantity.name], unit=False) if quantity.name in numbers else NOTHING


def _difference(quantity: Quantity, numbers: Numbers) -> str:
    if quantity.name not in numbers:
        return NOTHING
    noise = ", within noise" if within_noise(numbers[quantity.name]) else ""
    return _cell(quantity.difference, numbers) + noise
