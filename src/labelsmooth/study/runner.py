"""Running a study: train the trials of the plan that are still missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import torch

from labelsmooth.study.data import Data, load_data
from labelsmooth.study.progress import Progress
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
from labelsmooth.study.training import (
    TrainedNetwork,
    TrialResult,
    new_network,
    threads_of_a_trial,
    torch_threads,
    train_trial,
)
from labelsmooth.study.workers import train_trials

ENGINES = ("local", "ray")


def run_study(
    recipe: Recipe,
    out: Path | str,
    *,
    jobs: int | None = None,
    engine: str = "local",
    address: str | None = None,
) -> Study:
    """Train every trial of a recipe that `out` does not hold yet, and measure it.

    A study that was stopped, by whatever means, goes on from its last complete trial when it is run again;
    one with more objectives, seeds or students keeps the trials that it already has. Progress goes to stderr.

    Args:
        recipe: data, models, objectives, seeds and training settings.
        out: folder of the study, made where it is missing.
        jobs: trials to train at a time, ≥ 1. None takes one for each of torch's threads, or with an `address`
            as many as the cluster has cores for. The numbers do not depend on it, nor on the engine.
        engine: "local" trains each trial in a process of its own, or in this one with 1 job; "ray" as a task
            of a Ray cluster.
        address: of an existing cluster that this machine is part of, as `HOST:PORT`, or "auto" to look for
            it; None starts one on this machine. Its machines need labelsmooth and torch in the versions that
            are here, and no disk in common.

    Returns:
        The complete study.

    Raises:
        FileNotFoundError: a data file is missing.
        ModuleNotFoundError: the engine is ray and Ray is missing; `labelsmooth[ray]` brings it.
        ValueError: the data cannot be used, the model does not fit it, a training diverged, a stored trial is
            damaged, a process that trained one died, another process is running a study in `out`, or the
            cluster cannot be used.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if address is not None and engine != "ray":
        raise ValueError(f"an address is for the engine ray, got {address!r} with the engine {engine}")
    out = Path(out)
    data = load_data(recipe.data)
    configs = recipe.trials(data.summary.sha256)
    for config in {config.model: config for config in configs}.values():
        new_network(config, data.summary)  # one that cannot take these images says so before all else
    threads = threads_of_a_trial(len(configs))
    at_a_time = jobs or torch.get_num_threads()
    cluster = (
        connected(address, min(at_a_time, len(configs)) * threads, {config.model for config in configs})
        if engine == "ray"
        else nullcontext()
    )
    with cluster, lock_study(out):
        begin_study(out, recipe, data.summary, configs)
        missing = [config for config in configs if not has_trial(out, config)]
        write_results(out)
        complete = len(configs) - len(missing)
        print(f"study in {out}: {len(configs)} trials, {complete} of them complete", file=sys.stderr)
        teacher_of = partial(_teacher, out, configs)
        with Progress(trials=len(configs), complete=complete, epochs=recipe.epochs) as progress:
            # students when all who may teach them are there
            for part in (
                [config for config in missing if not config.teacher],
                [config for config in missing if config.teacher],
            ):
                if engine == "ray":
                    results = train_on_cluster(part, teacher_of, data, jobs, threads, progress.epoch_done)
                elif min(at_a_time, len(part)) <= 1:
                    results = _train_here(part, teacher_of, data, threads, progress.epoch_done)
                else:
                    results = train_trials(
                        part, teacher_of, recipe.data, at_a_time, threads, progress.epoch_done
                    )
                with closing(results):
                    for result in results:
                        save_trial(out, result)
                        write_results(out)
                        progress.trial_done(result)
        return load_study(out)


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
) -> Generator[TrialResult, None, None]:
    with torch_threads(threads):
        for config in configs:
            yield train_trial(config, data, on_epoch, teacher_of(config))
