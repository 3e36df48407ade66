"""Running a study: train the trials of the plan that are still missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labelsmooth.errors import InputError
from labelsmooth.progress import Progress
from labelsmooth.study.engines import Context, make_engine
from labelsmooth.study.engines.base import Engine
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.engines.select import make_placement
from labelsmooth.study.engines.threads import threads_of_a_trial, trials_at_a_time
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.store import (
    begin_study,
    has_trial,
    load_weights,
    lock_study,
    save_trial,
    write_results,
)
from labelsmooth.study.stored import Study, load_study
from labelsmooth.study.tasks import Data, find_task, load_data
from labelsmooth.study.tracking import check_tracker, track_trials
from labelsmooth.study.training import new_network, run_trial
from labelsmooth.study.trial import DivergedTrial, Outcome, TrainedNetwork, TrialConfig


def run_study(
    recipe: BaseRecipe,
    out: Path | str,
    *,
    jobs: int | None = None,
    engine: str = "local",
    address: str | None = None,
    track: str | None = None,
) -> Study:
    """Train every trial of a recipe that `out` does not hold yet, and measure it.

    A study that was stopped, by whatever means, goes on from its last complete trial when it is run again;
    one with more objectives, seeds or students keeps the trials that it already has. A trial whose training
    diverges is stored as such, and so are the students that it was to teach; the others go on. Progress goes
    to stderr.

    With accelerate installed, trials train on a GPU where there is one. Under `accelerate launch` or
    `torchrun` all processes call this and train each trial together; only the first writes and prints.

    Args:
        recipe: data, models, objectives, seeds and training settings.
        out: folder of the study, made where it is missing.
        jobs: trials to train at a time, ≥ 1. None takes one for each of torch's threads, 1 on a GPU, or with
            an `address` as many as the cluster has cores or GPUs for. The numbers do not depend on it, nor on
            the engine.
        engine: "local" trains each trial in a process of its own, or in this one with 1 job; "ray" as a task
            of a Ray cluster.
        address: of an existing cluster that this machine is part of, as `HOST:PORT`, or "auto" to look for
            it; None starts one on this machine. Its machines need labelsmooth and torch in the versions that
            are here, and no disk in common.
        track: tensorboard, wandb or mlflow, which gets the curves and metrics of each complete trial once.

    Returns:
        The complete study.

    Raises:
        FileNotFoundError: a data file is missing.
        ModuleNotFoundError: Ray or accelerate is needed and missing; `labelsmooth[ray]` and
            `labelsmooth[accelerate]` bring them.
        InputError: the data cannot be used, the model does not fit it, a stored trial is damaged, a process
            that trained one died, another process is running a study in `out`, or the cluster, accelerate or
            the tracker cannot do what is asked.
    """
    chosen = make_engine(engine, address)
    if track is not None:
        check_tracker(track)
    placement = make_placement(recipe.settings().precision)
    at_a_time = trials_at_a_time(jobs, placement)
    if placement.processes > 1:
        _check_together(recipe, engine, placement.processes)
    out = Path(out)
    data = load_data(recipe)
    configs = recipe.trials(data.summary.sha256)
    context = _context(recipe, out, data, configs, placement, jobs, at_a_time)
    first = placement.rank == 0
    with chosen.open(context), lock_study(out) if first else nullcontext():
        missing = placement.from_first(partial(_begin, recipe, out, data, configs))
        if track is not None and first:
            track_trials(track, load_study(out))  # those that were trained without it, or that a kill kept
        diverged = placement.from_first(partial(_diverged, out))
        complete, epochs = len(configs) - len(missing), recipe.settings().epochs
        with Progress("trial", len(configs), unit="epochs", complete=complete, silent=not first) as progress:
            progress.begin(f"{len(configs)} trials", len(configs) * epochs, complete * epochs)
            outcomes = _Outcomes(out, recipe, diverged, progress, track, writes=first)
            teachers = [config for config in missing if config.teacher is None]
            _train(teachers, chosen, context, outcomes)
            # students when all who may teach them are there
            _train(outcomes.taught(missing), chosen, context, outcomes)
        return placement.from_first(partial(load_study, out))


def _context(
    recipe: BaseRecipe,
    out: Path,
    data: Data,
    configs: Sequence[TrialConfig],
    placement: Placement,
    jobs: int | None,
    at_a_time: int,
) -> Context:
    """Make what an engine needs, once every network is known to take the data."""
    task = find_task(recipe.task)
    models = {config.model: config for config in configs}
    for config in models.values():
        # one that cannot take these rows, or batches of them, says so before all else
        task.begin(config, data, new_network(config, data.summary), placement)
    return Context(
        run_trial=run_trial,
        load=partial(load_data, recipe),
        data=data,
        data_name=recipe.data,
        teacher_of=partial(_teacher, out, {config.id: config for config in configs}),
        placement=placement,
        jobs=jobs,
        at_a_time=at_a_time,
        threads=threads_of_a_trial(len(configs)),
        trials=len(configs),
        modules=frozenset(module for model in models for module in task.own_modules(model)),
    )


@dataclass
class _Outcomes:
    """The fate of outcomes: the first process writes, tracks and prints them."""

    out: Path
    recipe: BaseRecipe
    diverged: dict[str, DivergedTrial]  # by the trial's id
    progress: Progress
    track: str | None
    writes: bool

    def take(self, outcome: Outcome) -> None:
        """Store an outcome, and say so."""
        if isinstance(outcome, DivergedTrial):
            self.diverged[outcome.config.id] = outcome
            words = f"diverged: {outcome.reason}"
        else:
            words = find_task(self.recipe.task).result_words(outcome.metrics)
        if self.writes:
            save_trial(self.out, outcome)
            study = write_results(self.out)
            if self.track is not None:
                track_trials(self.track, study)
        self.progress.item_done(f"{outcome.config.words}, {words}")

    def taught(self, missing: Sequence[TrialConfig]) -> list[TrialConfig]:
        """Give the students among the missing trials; those of a diverged teacher are stored as diverged."""
        students = []
        for config in missing:
            if config.teacher is not None and config.teacher.id in self.diverged:
                self.take(_without_teacher(config, self.diverged[config.teacher.id]))
            elif config.teacher is not None:
                students.append(config)
        return students


def _train(trials: Sequence[TrialConfig], engine: Engine, context: Context, outcomes: _Outcomes) -> None:
    with closing(engine.run(trials, context, outcomes.progress.advance)) as results:
        for outcome in results:
            outcomes.take(outcome)


def _check_together(recipe: BaseRecipe, engine: str, processes: int) -> None:
    """Check that several processes can train the trials of a recipe together."""
    if engine != "local":
        raise InputError(
            f"engine must be local where {processes} processes train each trial together, got {engine}"
        )
    if recipe.settings().batch_size < processes:
        raise InputError(
            f"batch_size must be at least the number of processes, {processes}, "
            f"got {recipe.settings().batch_size}"
        )


def _begin(recipe: BaseRecipe, out: Path, data: Data, configs: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Write what can be written before any training, and give the trials that are missing."""
    begin_study(out, recipe, data.summary, configs)
    missing = [config for config in configs if not has_trial(out, config)]
    write_results(out)
    complete = len(configs) - len(missing)
    others = sum(folder.is_dir() for folder in (out / "trials").iterdir()) - complete
    left_out = f"; stored there, but not in this study: {others}" if others else ""
    print(f"study in {out}: {len(configs)} trials, {complete} of them complete{left_out}", file=sys.stderr)
    return missing


def _diverged(out: Path) -> dict[str, DivergedTrial]:
    return {trial.config.id: trial for trial in load_study(out).diverged}


def _without_teacher(config: TrialConfig, teacher: DivergedTrial) -> DivergedTrial:
    reason = f"its teacher diverged: {teacher.reason}"
    return DivergedTrial(config=config, reason=reason, versions=teacher.versions)


def _teacher(out: Path, by_id: dict[str, TrialConfig], student: TrialConfig) -> TrainedNetwork | None:
    if student.teacher is None:
        return None
    config = by_id[student.teacher.id]
    return TrainedNetwork(config=config, weights=load_weights(out, config))
