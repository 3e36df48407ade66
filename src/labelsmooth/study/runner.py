"""Running a study: train the trials of the plan that are still missing."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from labelsmooth.study.augment import seen_shape
from labelsmooth.study.data import load_data
from labelsmooth.study.models import build_network, model_sha256
from labelsmooth.study.progress import Progress
from labelsmooth.study.recipe import Recipe
from labelsmooth.study.store import (
    Study,
    Versions,
    begin_study,
    has_trial,
    load_study,
    lock_study,
    save_trial,
    write_results,
)
from labelsmooth.study.training import train_trial


def run_study(recipe: Recipe, out: Path | str) -> Study:
    """Train every trial of a recipe that `out` does not hold yet, and measure it.

    A study that was stopped, by whatever means, goes on from its last complete trial when it is run again;
    one with more ε or seeds keeps the trials that it already has. Progress goes to stderr.

    Args:
        recipe: data, model, ε, seeds and training settings.
        out: folder of the study, made where it is missing.

    Returns:
        The complete study.

    Raises:
        FileNotFoundError: a data file is missing.
        ValueError: the data cannot be used, the model does not fit it, a training diverged, a stored trial is
            damaged, or another process is running a study in `out`.
    """
    out = Path(out)
    data = load_data(recipe.data)
    configs = recipe.trials(data.summary.sha256, model_sha256(recipe.model))
    # a model that cannot take these images says so before anything is written
    build_network(
        recipe.model, seen_shape(configs[0], data.summary.shape), len(data.summary.class_names), seed=0
    )
    with lock_study(out):
        begin_study(out, recipe, data.summary, configs)
        missing = [config for config in configs if not has_trial(out, config)]
        write_results(out)
        complete = len(configs) - len(missing)
        print(f"study in {out}: {len(configs)} trials, {complete} of them complete", file=sys.stderr)
        version = importlib.metadata.version("labelsmooth")  # may be missing: ask before training
        with Progress(trials=len(configs), complete=complete, epochs=recipe.epochs) as progress:
            for config in missing:
                start = time.monotonic()
                result = train_trial(config, data, progress.epoch_done)
                save_trial(out, result, _versions(version, time.monotonic() - start))
                write_results(out)
                progress.trial_done(result)
        return load_study(out)


def _versions(version: str, seconds: float) -> Versions:
    return Versions(
        labelsmooth=version,
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=np.__version__,
        platform=platform.platform(),
        threads=torch.get_num_threads(),
        seconds=seconds,
    )
