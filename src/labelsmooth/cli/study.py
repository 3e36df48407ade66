"""`labelsmooth study`: train with and without smoothing on real images and write a report."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path

from labelsmooth.report import write_report
from labelsmooth.study import Recipe, run_study

HELP = "train with and without label smoothing on real images, measure both and write a report"
DESCRIPTION = (
    "Train a network on real images with several amounts of label smoothing, from the same initial weights "
    "and over several seeds, measure accuracy, calibration and the last layer of each, and write one HTML "
    "report. Run the same command again to go on with a study that was interrupted."
)


@dataclass(frozen=True, kw_only=True)
class Options(Recipe):
    """The recipe, where its study goes, and how much of it is trained at a time."""

    out: Path = field(
        default=Path("runs/study"), metadata={"help": "folder of the study and its report", "metavar": "DIR"}
    )
    jobs: int | None = field(
        default=None,
        metadata={
            "help": "trials to train at a time, each in a process of its own (default: one for each core); "
            "the numbers do not depend on it",
            "metavar": "N",
        },
    )


def run(options: Options) -> None:
    recipe = Recipe(**{setting.name: getattr(options, setting.name) for setting in fields(Recipe)})
    sys.path.append(str(Path.cwd()))  # where the module of the user's own network is likely to be
    for package in ("jinja2", "matplotlib", "scipy", "tqdm"):  # now, and not after the training
        import_module(package)
    try:
        run_study(recipe, options.out, jobs=options.jobs)
    except KeyboardInterrupt:
        print(
            f"the complete trials are kept in {options.out}: run the same command again to go on from there",
            file=sys.stderr,
        )
        raise
    report = write_report(options.out)
    print(report.text)
    print(report.path)
