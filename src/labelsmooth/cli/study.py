"""`labelsmooth study`: train with and without smoothing on real images and write a report."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path

from labelsmooth.cli.options import flag
from labelsmooth.extras import needs_extra
from labelsmooth.progress import duration
from labelsmooth.report import write_report
from labelsmooth.study import RECIPES, Plan, Recipe, plan_study, run_study
from labelsmooth.study.placement import is_first_process, make_placement
from labelsmooth.study.recipe import setting_words
from labelsmooth.study.runner import ENGINES
from labelsmooth.study.store import check_folder, has_trial
from labelsmooth.study.timing import trials_at_a_time
from labelsmooth.study.tracking import TRACKERS
from labelsmooth.tables import Table

HELP = "train with and without label smoothing on real images, measure both and write a report"
DESCRIPTION = (
    "Train a network on real images with several amounts of label smoothing, from the same initial weights "
    "and over several seeds, measure accuracy, calibration and the last layer of each, and write one HTML "
    "report. Run the same command again to go on with a study that was interrupted."
)


@dataclass(frozen=True, kw_only=True)
class Options(Recipe):
    """The recipe, where its study goes, and how much of it is trained at a time."""

    recipe: str | None = field(
        default=None,
        metadata={
            "help": "settings of an experiment of the literature, in place of the defaults",
            "presets": RECIPES,
        },
    )
    dry_run: bool = field(
        default=False, metadata={"help": "say what would be trained and about how long it takes, and stop"}
    )
    out: Path = field(
        default=Path("runs/study"), metadata={"help": "folder of the study and its report", "metavar": "DIR"}
    )
    jobs: int | None = field(
        default=None,
        metadata={
            "help": "trials to train at a time, each in a process of its own (default: one for each core, or "
            "1 on a GPU); the numbers do not depend on it",
            "metavar": "N",
        },
    )
    engine: str = field(
        default="local",
        metadata={
            "help": "where trials are trained: in processes of this machine, or as tasks of a Ray cluster; "
            "the numbers do not depend on it",
            "choices": ENGINES,
        },
    )
    address: str | None = field(
        default=None,
        metadata={
            "help": "with --engine ray, a cluster that this machine is part of, or auto to look for it "
            "(default: start one on this machine)",
            "metavar": "HOST:PORT",
        },
    )
    track: str | None = field(
        default=None,
        metadata={
            "help": "experiment tracker that gets the curves and metrics of every trial, through accelerate",
            "choices": TRACKERS,
        },
    )


def run(options: Options) -> None:
    recipe = Recipe(**{setting.name: getattr(options, setting.name) for setting in fields(Recipe)})
    sys.path.append(str(Path.cwd()))  # where the module of the user's own network is likely to be
    if options.dry_run:
        jobs = trials_at_a_time(options.jobs, make_placement(recipe.precision))
        plan = plan_study(recipe)
        if is_first_process():
            print(_shown(plan, options.out, jobs))
        return
    with needs_extra("study"):  # now, and not after the training
        for package in ("jinja2", "scipy", "tqdm"):
            import_module(package)
    try:
        run_study(
            recipe,
            options.out,
            jobs=options.jobs,
            engine=options.engine,
            address=options.address,
            track=options.track,
        )
    except KeyboardInterrupt:
        print(
            f"the complete trials are kept in {options.out}: run the same command again to go on from there",
            file=sys.stderr,
        )
        raise
    if not is_first_process():
        return
    report = write_report(options.out)
    print(report.text)
    print(report.path)


def _shown(plan: Plan, out: Path, jobs: int) -> str:
    """The plan as lines: every setting as its option, then what follows from them."""
    data = plan.data
    check_folder(out, plan.recipe, data)
    left = [config.id for config in plan.trials if not has_trial(out, config)]
    lines = [[flag(setting), setting_words(getattr(plan.recipe, setting.name))] for setting in fields(Recipe)]
    lines += [
        [
            "rows",
            f"{data.train_rows:,} training, {data.validation_rows:,} validation, {data.test_rows:,} test",
        ],
        ["", f"of shape {data.shape} and {len(data.class_names)} classes"],
        *(["parameters", f"{number:,} of {model}"] for model, number in plan.parameters.items()),
        ["trials", f"{len(plan.trials)}, {len(plan.trials) - len(left)} of them complete in {out}"],
        *(["steps", f"{number:,} a trial of {model}"] for model, number in plan.steps.items()),
        [
            "time",
            f"about {duration(sum(plan.seconds.values()) / len(plan.trials))} a trial and "
            f"{duration(sum(plan.seconds[name] for name in left) / jobs)} for those left, {jobs} at a time, "
            "by a few steps on this machine",
        ],
    ]
    return Table(head=lines[0], rows=lines[1:], words=2).text()
