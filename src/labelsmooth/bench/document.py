"""A benchmark's result as JSON, as a table, and as the page of the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from labelsmooth.bench.cases import GROUPS
from labelsmooth.bench.contest import Goal, Row, Unit
from labelsmooth.bench.hardware import Machine
from labelsmooth.bench.timing import Spread
from labelsmooth.tables import Table

_NONE = "–"
SCALED = "Measured at {:g} of the rows, which says nothing of the full size that the targets are for"
UNFINISHED = "The run ended early, and rows are missing"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a run of the benchmark.

    Args:
        command: the command that ran it.
        repetitions: how often each time was measured.
        scale: the share of the rows of the full size.
        complete: False where the run ended early.
        machine: the machine that it ran on.
        rows: the rows of the table.
    """

    command: str
    repetitions: int
    scale: float
    complete: bool
    machine: Machine
    rows: tuple[Row, ...]


def to_json(result: Result) -> str:
    return json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Result:
    """Read the result that `to_json` wrote."""
    fields = json.loads(text)
    machine, rows = Machine(**fields.pop("machine")), tuple(map(_row, fields.pop("rows")))
    return Result(**fields, machine=machine, rows=rows)


def _row(fields: dict[str, Any]) -> Row:
    ratio, goal, shape = (fields.pop(name) for name in ("ratio", "goal", "shape"))
    return Row(**fields, shape=tuple(shape), ratio=ratio and Spread(**ratio), goal=goal and Goal(**goal))


def header(scale: float) -> list[str]:
    """Return the titles of the columns; goals are shown for the full size only."""
    return [
        "work",
        "against",
        "ours",
        "theirs",
        "ratio (spread)",
        *(["target", "reached"] if scale == 1 else []),
    ]


def cells(row: Row, scale: float) -> list[str]:
    """Return a line of the table, under `header`."""
    work = f"{row.work}, {'×'.join(map(str, row.shape))} {row.dtype}"
    measured = (
        [_shown(row.ours, row.unit), _shown(row.theirs, row.unit), _spread(row.ratio)]
        if row.skipped is None
        else [_NONE, _NONE, "not run"]
    )
    judged = [_target(row.goal, row.unit), {None: _NONE, True: "yes", False: "no"}[row.reached]]
    return [work, row.against, *measured, *(judged if scale == 1 else [])]


def table(rows: Iterable[Row], scale: float) -> Table:
    """Return the rows of contests as a table under `header`."""
    return Table(head=header(scale), rows=[cells(row, scale) for row in rows], words=2)


def missing(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each peer that could not run."""
    # the keys of a dict are each reason once, in the order of the rows
    return list(dict.fromkeys(f"{row.against} did not run: {row.skipped}" for row in rows if row.skipped))


def markdown(result: Result) -> str:
    """Return the page: the machine, how to read the tables, and a table for each group."""
    machine = result.machine
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{result.command}`, which measures the same on any machine.",
        "",
        Table(head=("", ""), rows=_facts(machine), words=2).markdown(),
        *_remarks(result),
    ]
    for group, sentence in GROUPS.items():
        rows = [row for row in result.rows if row.group == group]
        if rows:
            lines += ["", f"## {group}", "", sentence, "", table(rows, result.scale).markdown().rstrip()]
        for reason in missing(rows):
            lines += ["", reason]
    return "\n".join(lines) + "\n"


def _facts(machine: Machine) -> list[list[str]]:
    memory = _NONE if machine.memory is None else f"{machine.memory / 2**30:.0f} GiB"
    return [
        ["processor", f"{machine.cpu}, {machine.cores} cores, of which torch uses {machine.threads}"],
        ["our backend", machine.backend],
        ["memory", f"{memory}, transparent huge pages: {machine.huge_pages or 'unknown'}"],
        ["GPU", machine.gpu or "none"],
        ["system", machine.system],
        [
            "versions",
            f"labelsmooth {machine.labelsmooth}, torch {machine.torch}, numpy {machine.numpy}, "
            f"Python {machine.python}",
        ],
        ["date", machine.date],
    ]


def _remarks(result: Result) -> list[str]:
    lines = [
        "Ours and theirs take turns within one run. A time is the median over "
        f"{result.repetitions} repetitions, and a ratio is taken within each: "
        "its median, and in brackets its smallest and largest.",
        "It is theirs / ours, so that above 1 ours is better, but for targets that begin with ≤ and count "
        "times: there it is ours / theirs.",
        "Sizes are rows × classes, with the features of the layer between them where there is one.",
    ]
    if result.scale == 1:
        lines.append("The targets are for two threads.")
    else:
        lines.append(f"**{SCALED.format(result.scale)}**.")
    if not result.complete:
        lines.append(f"**{UNFINISHED}**.")
    return lines


def _shown(value: float | None, unit: Unit) -> str:
    if value is None:
        return _NONE
    match unit:
        case "s":
            scale, name = (1e6, "µs") if value < 1e-3 else (1e3, "ms") if value < 1 else (1, "s")
            return f"{_digits(value * scale)} {name}"
        case "bytes":
            return f"{_digits(value / 2**20)} MiB"
        case "relative error":
            return f"{value:.1e}"


def _digits(value: float) -> str:
    """Write a number with three digits, or all those before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _spread(ratio: Spread | None) -> str:
    if ratio is None:
        return _NONE
    if ratio.low == ratio.high:
        return f"{_digits(ratio.median)}×"
    return f"{_digits(ratio.median)}× ({_digits(ratio.low)}–{_digits(ratio.high)})"


def _target(goal: Goal | None, unit: Unit) -> str:
    if goal is None:
        return _NONE
    match goal.of:
        case "speed-up":
            return f"≥ {goal.limit:g}×"
        case "cost":
            return f"≤ {goal.limit:g}×"
        case "ours":
            return f"≤ {_shown(goal.limit, unit)}"
