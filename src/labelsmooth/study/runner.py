"""Running a study: train the trials of the plan that are still missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

from labelsmooth.errors import InputError
from labelsmooth.progress import Progress
from labelsmooth.study.data import Data, load_data
from labelsmooth.study.placement import Placement, make_placement
from labelsmooth.study.ray_engine import connected, train_on_cluster
from labelsmooth.study.recipe import Recipe, TrialConfig
from labelsmooth.study.store import (
    Study,
    begin_study,
    has_trial,
    load_study,
    load_weights,
    lock_study,
    save_trial,
    write_results,
)
from labelsmooth.study.timing import threads_of_a_trial, torch_threads, trials_at_a_time
from labelsmooth.study.tracking import check_tracker, track_trials
from labelsmooth.study.training import TrainedNetwork, TrialResult, batch_sizes, new_network, train_trial
from labelsmooth.study.workers import train_trials

ENGINES = ("local", "ray")


def run_study(
    recipe: Recipe,
    out: Path | str,
    *,
    jobs: int | None = None,
    engine: str = "local",
    address: str | None = None,
    track: str | None = None,
) -> Study:
    """Train every trial of a recipe that `out` does not hold yet, and measure it.

    A study that was stopped, by whatever means, goes on from its last complete trial when it is run again;
    one with more objectives, seeds or students keeps the trials that it already has. Progress goes to stderr.

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
        ValueError: the data cannot be used, the model does not fit it, a training diverged, a stored trial is
            damaged, a process that trained one died, another process is running a study in `out`, or the
            cluster, accelerate or the tracker cannot do what is asked.
    """
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if address is not None and engine != "ray":
        raise InputError(f"an address is for the engine ray, got {address!r} with the engine {engine}")
    if track is not None:
        check_tracker(track)
    placement = make_placement(recipe.precision)
    at_a_time = trials_at_a_time(jobs, placement)
    if placement.processes > 1:
        _check_together(recipe, engine, placement.processes)
    out = Path(out)
    data = load_data(recipe.data)
    configs = recipe.trials(data.summary.sha256)
    for config in {config.model: config for config in configs}.values():
        # one that cannot take these images, or batches of them, says so before all else
        batch_sizes(data.summary.train_rows, config, new_network(config, data.summary))
    threads = threads_of_a_trial(len(configs))
    cluster = (
        connected(address, min(at_a_time, len(configs)) * threads, {config.model for config in configs})
        if engine == "ray"
        else nullcontext()
    )
    first = placement.rank == 0
    with cluster, lock_study(out) if first else nullcontext():
        missing = placement.from_first(partial(_begin, recipe, out, data, configs))
        complete = len(configs) - len(missing)
        teacher_of = partial(_teacher, out, configs)
        if track is not None and first:
            track_trials(track, load_study(out))  # those that were trained without it, or that a kill kept
        shown = Progress("trial", len(configs), unit="epochs", complete=complete, silent=not first)
        with shown as progress:
            progress.begin(f"{len(configs)} trials", len(configs) * recipe.epochs, complete * recipe.epochs)
            # students when all who may teach them are there
            for part in (
                [config for config in missing if not config.teacher],
                [config for config in missing if config.teacher],
            ):
                if engine == "ray":
                    results = train_on_cluster(
                        part, teacher_of, data, jobs, threads, placement.device.type, progress.advance
                    )
                elif min(at_a_time, len(part)) <= 1:
                    results = _train_here(part, teacher_of, data, threads, progress.advance, placement)
                else:
                    results = train_trials(
                        part, teacher_of, recipe.data, at_a_time, threads, progress.advance
                    )
                with closing(results):
                    for result in results:
                        if first:
                            save_trial(out, result)
                            study = write_results(out)
                            if track is not None:
                                track_trials(track, study)
                        progress.item_done(
                            f"{result.config.words}, test accuracy {result.metrics.test.accuracy:.2%}"
                        )
        return placement.from_first(partial(load_study, out))


def _check_together(recipe: Recipe, engine: str, processes: int) -> None:
    """Check that several processes can train the trials of a recipe together."""
    if engine != "local":
        raise InputError(
            f"engine must be local where {processes} processes train each trial together, got {engine}"
        )
    if recipe.batch_size < processes:
        raise InputError(
            f"batch_size must be at least the number of processes, {processes}, got {recipe.batch_size}"
        )


def _begin(recipe: Recipe, out: Path, data: Data, configs: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Write what can be written before any training; the trials that are missing."""
    begin_study(out, recipe, data.summary, configs)
    missing = [config for config in configs if not has_trial(out, config)]
    write_results(out)
    complete = len(configs) - len(missing)
    others = sum(folder.is_dir() for folder in (out / "trials").iterdir()) - complete
    left_out = f"; stored there, but not in this study: {others}" if others else ""
    print(f"study in {out}: {len(configs)} trials, {complete} of them complete{left_out}", file=sys.stderr)
    return missing


def _teacher(out: Path, configs: Sequence[TrialConfig], student: TrialConfig) -> TrainedNetwork | None:
    if not student.teacher:
        return None
    (config,) = (config for config in configs if config.id == student.teacher)
    return TrainedNetwork(config=config, weights=load_weights(out, config))


def _train_here(
    configs: Sequence[TrialConfig],
    teacher_of: Callable[[TrialConfig], TrainedNetwork | None],
    data: Data,
    threads: int,
    on_epoch: Callable[[], None],
    placement: Placement,
) -> Generator[TrialResult, None, None]:
    with torch_threads(threads):
        for config in configs:
            # other machines need not see the study's folder
            teacher = placement.from_first(partial(teacher_of, config))
            yield train_trial(config, data, on_epoch, teacher)
