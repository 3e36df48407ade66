"""Running a study: train the trials of the plan that are still missing."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch

from labelsmooth.provenance import commit, processor
from labelsmooth.study.data import Data, load_data
from labelsmooth.study.engine import Engine, make_engine
from labelsmooth.study.progress import Progress
from labelsmooth.study.recipe import Recipe, TrialConfig
from labelsmooth.study.store import (
    Study,
    Versions,
    begin_study,
    has_trial,
    load_study,
    load_weights,
    lock_study,
    save_trial,
    write_results,
)
from labelsmooth.study.timing import threads_of_a_trial, torch_threads, trials_at_a_time
from labelsmooth.study.tracking import check_tracker, track_trial
from labelsmooth.study.training import TrainedNetwork, TrialResult, new_network, train_trial
from labelsmooth.study.workers import train_trials


def run_study(recipe: Recipe, out: Path | str, *, jobs: int | None = None, track: str | None = None) -> Study:
    """Train every trial of a recipe that `out` does not hold yet, and measure it.

    A study that was stopped, by whatever means, goes on from its last complete trial when it is run again;
    one with more objectives, seeds or students keeps the trials that it already has. Progress goes to stderr.

    With accelerate installed, trials train on a GPU where there is one. Under `accelerate launch` or
    `torchrun` all processes call this and train each trial together; only the first writes and prints.

    Args:
        recipe: data, models, objectives, seeds and training settings.
        out: folder of the study, made where it is missing.
        jobs: trials to train at a time, ≥ 1, each in a process of its own; 1 trains in this process. None
            takes one for each of torch's threads on a CPU, and 1 elsewhere. The numbers do not depend on it.
        track: tensorboard, wandb or mlflow, which gets the curves and metrics of each trial that is trained.

    Returns:
        The complete study.

    Raises:
        FileNotFoundError: a data file is missing.
        ModuleNotFoundError: accelerate is needed and missing.
        ValueError: the data cannot be used, the model does not fit it, a training diverged, a stored trial is
            damaged, a process that trained one died, another process is running a study in `out`, or
            accelerate or the tracker cannot do what is asked.
    """
    if track is not None:
        check_tracker(track)
    engine = make_engine(recipe.precision)
    jobs = trials_at_a_time(jobs, engine)
    if recipe.batch_size < engine.processes:
        raise ValueError(
            f"batch_size must be at least the number of processes, {engine.processes}, "
            f"got {recipe.batch_size}"
        )
    out = Path(out)
    data = load_data(recipe.data)
    configs = recipe.trials(data.summary.sha256)
    for config in {config.model: config for config in configs}.values():
        new_network(config, data.summary)  # one that cannot take these images says so before all else
    with lock_study(out) if engine.rank == 0 else nullcontext():
        missing = engine.from_first(partial(_begin, recipe, out, data, configs))
        complete = len(configs) - len(missing)
        threads = threads_of_a_trial(len(configs))
        version = importlib.metadata.version("labelsmooth")  # may be missing: ask before training
        teacher_of = partial(_teacher, out, configs)
        shown = Progress(trials=len(configs), complete=complete, epochs=recipe.epochs, silent=engine.rank > 0)
        with shown as progress:
            # students when all who may teach them are there
            for part in (
                [config for config in missing if not config.teacher],
                [config for config in missing if config.teacher],
            ):
                results = (
                    _train_here(part, teacher_of, data, threads, progress.epoch_done, engine)
                    if min(jobs, len(part)) <= 1
                    else train_trials(part, teacher_of, recipe.data, jobs, threads, progress.epoch_done)
                )
                with closing(results):
                    for result in results:
                        if engine.rank == 0:
                            save_trial(out, result, _versions(version, threads, engine, result.seconds))
                            write_results(out)
                            if track is not None:
                                track_trial(track, out, result)
                        progress.trial_done(result)
        return engine.from_first(partial(load_study, out))


def _begin(recipe: Recipe, out: Path, data: Data, configs: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Write what can be written before any training; the trials that are missing."""
    begin_study(out, recipe, data.summary, configs)
    missing = [config for config in configs if not has_trial(out, config)]
    write_results(out)
    complete = len(configs) - len(missing)
    print(f"study in {out}: {len(configs)} trials, {complete} of them complete", file=sys.stderr)
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
    engine: Engine,
) -> Generator[TrialResult, None, None]:
    with torch_threads(threads):
        for config in configs:
            # other machines need not see the study's folder
            teacher = engine.from_first(partial(teacher_of, config))
            yield train_trial(config, data, on_epoch, teacher)


def _versions(version: str, threads: int, engine: Engine, seconds: float) -> Versions:
    return Versions(
        labelsmooth=version,
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=np.__version__,
        platform=platform.platform(),
        device=str(engine.device),
        processes=engine.processes,
        threads=threads,
        seconds=seconds,
        processor=processor(),
        commit=commit(),
    )
