"""`labelsmooth report`: the report of stored studies, anew or joined, and their scores as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labelsmooth.files import write_whole
from labelsmooth.report import (
    TABLE_FORMATS,
    check_folders,
    report_folder,
    scores_table,
    verdict,
    write_report,
)
from labelsmooth.study import load_study

HELP = "write the report of stored studies anew, join several, or print their scores as a table"
DESCRIPTION = (
    "Write report.html from the stored trials of a study, or of several studies into one page, without "
    "training anything; or give the table of scores as Markdown or LaTeX. For example: labelsmooth report "
    "runs/a runs/b --out runs/joined, and labelsmooth report runs/a --table latex > scores.tex"
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which studies, and what to write of them.

    Raises:
        ValueError: as `report_folder`, or as `check_folders` for a table.
    """

    folders: tuple[Path, ...] = field(
        metadata={"help": "folders of finished studies", "metavar": "DIR", "positional": True}
    )
    out: Path | None = field(
        default=None,
        metadata={
            "help": "folder for report.html (default: that of the study); with --table, for scores.md or "
            "scores.tex, or a file of that kind",
            "metavar": "DIR",
        },
    )
    table: str | None = field(
        default=None,
        metadata={
            "help": "no page but the table of scores: printed, or written where --out says; LaTeX needs "
            "booktabs",
            "choices": TABLE_FORMATS,
        },
    )

    def __post_init__(self) -> None:
        if self.table is None:
            report_folder(self.folders, self.out)
        else:
            check_folders(self.folders, None if self.table_path is None else self.table_path.parent)

    @property
    def table_path(self) -> Path | None:
        """The file of the table; None to print it."""
        if self.table is None or self.out is None:
            return None
        name = "scores.md" if self.table == "markdown" else "scores.tex"
        return self.out if self.out.suffix == Path(name).suffix else self.out / name


def run(options: Options) -> None:
    if options.table is None:
        report = write_report(*options.folders, out=options.out)
        print(report.text)
        print(report.path)
        return
    stored = [load_study(folder).without_diverged() for folder in options.folders]
    studies = [(study, verdict(study)) for study in stored]
    table = scores_table(studies, options.table)
    path = options.table_path
    if path is None:
        print(table, end="")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, table)
    print(path)
