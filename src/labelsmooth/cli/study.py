"""`labelsmooth study [TASK]`: train with and without smoothing, measure both and write a report."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, make_dataclass
from importlib import import_module
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from labelsmooth.cli.options import flag
from labelsmooth.extras import needs_extra
from labelsmooth.progress import duration
from labelsmooth.report import write_report
from labelsmooth.study import Plan, plan_study, run_study
from labelsmooth.study.engines import ENGINES
from labelsmooth.study.engines.placement import is_first_process
from labelsmooth.study.settings import setting_words
from labelsmooth.study.store import check_folder, has_trial
from labelsmooth.study.tasks import TASKS, find_task
from labelsmooth.study.tracking import TRACKERS
from labelsmooth.tables import Table

HELP = "train with and without label smoothing, measure both and write a report"
KINDS = TASKS  # `labelsmooth study TASK`; images without one


@dataclass(frozen=True, kw_only=True)
class _RunOptions:
    """Where a study goes, and how much of it is trained at a time."""

    dry_run: bool = field(
        default=False, metadata={"help": "say what would be trained and about how long it takes, and stop"}
    )
    out: Path = field(
        default=Path("runs/study"), metadata={"help": "folder of the study and its report", "metavar": "DIR"}
    )
    jobs: int | None = field(
        default=None,
        metadata={
            "help": "trials to train at a time, each in a process of its own (default: one for each thread "
            "that torch has: each core, unless OMP_NUM_THREADS says otherwise; or 1 on a GPU); "
            "the numbers do not depend on it",
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


def options_of(name: str | None) -> tuple[type[Any], str]:
    """Make the options of a study of a task, which are the settings of its recipe and those of the run.

    Returns:
        The options as a dataclass, and what the task's studies are in a paragraph.
    """
    task = find_task(name or "images")
    presets = field(
        default=None,
        metadata={
            "help": "settings of an experiment of the literature, in place of the defaults",
            "presets": task.recipes,
        },
    )
    options = make_dataclass(
        "Options",
        [("recipe", str | None, presets)] if task.recipes else [],
        bases=(_RunOptions, task.recipe),
        frozen=True,
        kw_only=True,
    )
    return options, task.description


def run(options: Any) -> None:
    kind = find_task(options.task).recipe
    recipe = kind(**{setting.name: getattr(options, setting.name) for setting in fields(kind)})
    sys.path.append(str(Path.cwd()))  # where the module of the user's own network is likely to be
    if options.dry_run:
        plan = plan_study(recipe, options.jobs)
        if is_first_process():
            print(_shown(plan, options.out))
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


def _shown(plan: Plan, out: Path) -> str:
    """Write the plan as lines: every setting in use as its option, then what follows from them."""
    task = find_task(plan.recipe.task)
    check_folder(out, plan.recipe, plan.data)
    left = [config.id for config in plan.trials if not has_trial(out, config)]
    lines = [
        [flag(setting), setting_words(getattr(plan.recipe, setting.name))]
        for setting in fields(plan.recipe)
        if setting.name not in plan.recipe.idle
    ]
    lines += [
        *([name, words] for name, words in zip(_once("rows"), task.data_words(plan.data), strict=False)),
        *(["parameters", f"{number:,} of {model}"] for model, number in plan.parameters.items()),
        ["trials", f"{len(plan.trials)}, {len(plan.trials) - len(left)} of them complete in {out}"],
        *(
            ["steps", f"{number:,} a trial of {model}{_too_few(plan, model)}"]
            for model, number in plan.steps.items()
        ),
        [
            "time",
            f"about {duration(sum(plan.seconds.values()) / len(plan.trials))} a trial and "
            f"{duration(sum(plan.seconds[name] for name in left) / plan.at_a_time)} for those left, "
            f"{plan.at_a_time} at a time, by a few first steps on this machine as busy as it is now, without "
            "the start of processes",
        ],
    ]
    return Table(head=lines[0], rows=lines[1:], words=2).text()


def _too_few(plan: Plan, model: str) -> str:
    """Say that a network that begins with nothing hardly learns anything in so many steps."""
    steps, fewest = plan.steps[model], find_task(plan.recipe.task).fewest_steps
    if steps >= fewest or model.startswith("hf:"):
        return ""
    epochs = math.ceil(fewest * plan.recipe.settings().epochs / steps)
    return (
        f", in which hardly anything is learned from nothing: {fewest:,} would take --epochs {epochs:,} or a "
        "smaller --batch-size"
    )


def _once(name: str) -> Iterator[str]:
    """Give a name for the first of several lines, and none for the others."""
    return chain([name], repeat(""))
