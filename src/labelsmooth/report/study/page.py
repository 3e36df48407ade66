"""The report: one self-contained HTML page that opens offline, and its text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.files import write_whole
from labelsmooth.measure.catalogue import QUANTITIES, Quantity
from labelsmooth.report.shared.figure import Figure, section
from labelsmooth.report.shared.html import render
from labelsmooth.report.shared.words import listed
from labelsmooth.report.study.classes import Classes, by_class
from labelsmooth.report.study.estimate import show
from labelsmooth.report.study.figures import arm_names, differences, figures
from labelsmooth.report.study.measures import measures
from labelsmooth.report.study.methods import counts_rows, facts, paragraph, study_names
from labelsmooth.report.study.series import differences_by_beams, lines, series_figures, temperature_words
from labelsmooth.report.study.students import Students, students
from labelsmooth.report.study.table import TABLE_FORMATS, cell, scores_table, table_of
from labelsmooth.report.study.texts import Examples, examples
from labelsmooth.report.study.verdict import Verdict, columns, verdict
from labelsmooth.study import Study, load_study
from labelsmooth.study.tasks import find_task
from labelsmooth.study.tasks.base import with_unit_temperature
from labelsmooth.tables import Table

_WIDTH = 100  # of the text for a terminal
# arms that the figures show at first: more would make them hard to read, and the boxes bring them
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Report:
    """A written report."""

    path: Path
    verdicts: tuple[Verdict, ...]  # one for each study
    text: str  # the verdicts and the tables, for a terminal

    @property
    def verdict(self) -> Verdict:
        """The verdict of the first study."""
        return self.verdicts[0]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The part of the page on one study."""

    name: str
    study: Study
    class_names: Sequence[str]  # none where the task names none
    verdict: Verdict
    measures: Table  # beside the scores
    measured: Sequence[Quantity]  # that it holds
    students: Students | None
    figures: Mapping[str, Figure]
    counts_rows: bool  # whether intervals count the chance of rows beside that of seeds
    classes: Classes | None
    examples: Examples | None
    beams: Table | None  # scores of texts minus those of hard labels
    temperatures: Sequence[str]  # which is best, in words
    tables: Mapping[str, str]  # the scores as text, by format
    facts: Mapping[str, str]
    paragraph: str
    untold: int  # trials whose validation rows could not tell a temperature
    ways: Sequence[str]  # in which what the headlines measure was made, in sentences
    units: str  # what is drawn as a whole
    rows: str  # what the rows are, and what is drawn as a whole; "" where these are the rows


def write_report(folder: Path | str, *others: Path | str, out: Path | str | None = None) -> Report:
    """Write `report.html` from the stored trials of a finished study, or of several into one page.

    The page holds all it needs, opens offline and asks for no address. Its figures follow the arms and seeds
    that are chosen on it, and can be saved as SVG and as CSV.

    Args:
        folder: of a study that `run_study` finished.
        others: further folders.
        out: the folder to write to, made where it is missing; None takes that of the one study.

    Returns:
        The report, with its verdicts and its text.

    Raises:
        ValueError: a folder holds no finished study, is damaged, or is named twice; there are several and no
            `out`; or `out` is no folder, or holds another study or an audit, whose report would be replaced.
        ImportError: jinja2 or scipy is missing; `labelsmooth[study]` brings them.

    Cost: a few seconds a study; it reads the logits and features of every trial.
    """
    folders = [Path(folder), *map(Path, others)]
    target = report_folder(folders, None if out is None else Path(out))
    studies = [(study, verdict(study)) for study in (load_study(one).without_diverged() for one in folders)]
    names = study_names([study for study, _ in studies])
    parts = [_part(name, study, found) for name, (study, found) in zip(names, studies, strict=True)]
    html = render(
        "study/study.html",
        scripts=["study/explorer.js"],
        show=show,
        accuracy=QUANTITIES["accuracy"],
        parts=parts,
        scores=columns([found for _, found in studies]),
        cell=cell,
        arm_names=arm_names,
        joined_tables={style: scores_table(studies, style) for style in TABLE_FORMATS},
        data={"sections": [*map(_data, parts), _joined_data(parts)] if len(parts) > 1 else [_data(parts[0])]},
        explored_eps=next(
            (found.chosen.eps for _, found in studies if found.chosen and found.chosen.eps), 0.1
        ),
        explored_classes=studies[0][0].data.num_classes,
    )
    target.mkdir(parents=True, exist_ok=True)
    path = target / "report.html"
    write_whole(path, html)
    return Report(
        path=path,
        verdicts=tuple(found for _, found in studies),
        text="\n\n".join(_text(part, named=len(parts) > 1) for part in parts),
    )


def report_folder(folders: Sequence[Path], out: Path | None) -> Path:
    """The folder that a report of these studies goes to.

    Raises:
        ValueError: as `write_report` of `out`, or as `check_folders`.
    """
    check_folders(folders, out)
    if out is None:
        if len(folders) > 1:
            raise InputError(
                f"a report of {len(folders)} studies must be told where to go: give a folder as out "
                "(--out DIR)"
            )
        return folders[0]
    for name, what in (("study.json", "a study"), ("metrics.json", "an audit")):
        if (out / name).exists() and [folder.resolve() for folder in folders] != [out.resolve()]:
            raise InputError(
                f"{out} holds {what}, whose report this would replace: give another folder as out"
            )
    return out


def check_folders(folders: Sequence[Path], out: Path | None) -> None:
    """Check the folders of stored studies, and where something of them goes to.

    Raises:
        ValueError: one is named twice, or `out` is no folder.
    """
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise InputError(f"a study must not be named twice, got {folder} again")
        seen.add(folder.resolve())
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"out must be a folder, got the file {out}")


def _part(name: str, study: Study, found: Verdict) -> _Part:
    table, measured = measures(study, found.scores)
    classes = by_class(study)
    series = lines(study)
    drawn = (*figures(study, found, classes), *series_figures(series))
    return _Part(
        name=name,
        study=study,
        class_names=find_task(study.recipe.task).class_names(study.data),
        verdict=found,
        measures=table,
        measured=measured,
        students=students(study),
        figures={figure.name: figure for figure in drawn},
        counts_rows=counts_rows(study),
        classes=classes,
        examples=examples(study),
        beams=differences_by_beams(study, series),
        temperatures=temperature_words(study, series),
        tables={style: scores_table([(study, found)], style) for style in TABLE_FORMATS},
        facts=facts(study),
        paragraph=paragraph(study),
        untold=sum(with_unit_temperature(trial.metrics) is not trial.metrics for trial in study.trials),
        ways=_ways(found),
        units=find_task(study.recipe.task).unit_words(study.data),
        rows=_what_rows_are(study),
    )


def _what_rows_are(study: Study) -> str:
    task = find_task(study.recipe.task)
    units = task.unit_words(study.data)
    return "" if units == task.row_words else f"The rows are {task.row_words}, drawn by whole {units}."


def _ways(found: Verdict) -> list[str]:
    titles: dict[str, list[str]] = {}
    for score in found.scores.values():
        if score.way:
            titles.setdefault(score.way, []).append(score.quantity.title)
    return [f"{listed(names)}: {way}." for way, names in titles.items()]


def _data(part: _Part) -> dict[str, Any]:
    """Gather what the page's script reads of a study."""
    arms = arm_names(part.study)
    compared = {arm.objective for arm in part.verdict.compared}
    shown = [
        place
        for place, objective in enumerate(part.study.recipe.objectives)
        if len(arms) <= _SHOWN or objective in compared
    ]
    return section(
        part.name,
        "arm",
        arms,
        tuple(part.figures.values()),
        shown=shown,
        seeds=range(part.study.recipe.seeds),
        nothing="No uniform ε is among the chosen arms.",
    )


def _joined_data(parts: Sequence[_Part]) -> dict[str, Any]:
    """Gather what the page's script reads of all studies together."""
    verdicts = {part.name: part.verdict for part in parts}
    arms = tuple(dict.fromkeys(arm.objective.name for found in verdicts.values() for arm in found.arms))
    compared = {arm.objective.name for found in verdicts.values() for arm in found.compared}
    shown = [place for place, arm in enumerate(arms) if len(arms) <= _SHOWN or arm in compared]
    return section("studies", "arm", arms, [differences(verdicts, arms)], shown=shown)


def _text(part: _Part, named: bool) -> str:
    found = part.verdict
    lines = [part.name, "=" * len(part.name), ""] if named else []
    lines += [fill(found.headline, _WIDTH), ""]
    lines += [fill(f"- {sentence}", _WIDTH, subsequent_indent="  ") for sentence in found.sentences]
    marked = "; * is the recommended arm" if found.recommended else ""
    over = "seeds and rows" if part.counts_rows else "seeds"
    lines += ["", f"Test rows, mean ± 95 % interval over {over}{marked}:", ""]
    table = table_of([(part.study, found)])
    rows = [
        [name + " *" if at in table.strong else name, *cells] for at, (name, *cells) in enumerate(table.rows)
    ]
    lines.append(replace(table, head=("", *table.head[1:]), rows=rows).text())
    lines += [fill(" ".join(filter(None, (part.rows, *part.ways))), _WIDTH)]
    return "\n".join(lines) + "\n"
