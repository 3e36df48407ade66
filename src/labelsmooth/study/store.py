"""The folder of a study, written so that a kill leaves nothing half done.

OUT/study.json         the task, the recipe, a summary of the data, and the plan: the names of the trials
OUT/trials/TRIAL/      config.json, versions.json, curves.json of its training, arrays.npz, weights.npz, and
                       metrics.json, which follows from the arrays and is written anew where it is missing,
                       damaged or of an earlier version; of one that diverged config.json, versions.json,
                       diverged.json
OUT/tracked-NAME.txt   the trials that the tracker NAME has got; OUT/tracking/ is TensorBoard's
OUT/results.jsonl      one line per complete trial in the order of the plan, with its curves and metrics or
                       with why it diverged; the same bytes for the same numbers, so it holds no times, dates
                       or paths

A trial's folder appears whole, by a rename, or not at all.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.files import PARTIAL, sync_folder, write_synced, write_whole
from labelsmooth.study.cache import metrics_to_json
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.stored import (
    FORMAT,
    Study,
    Trial,
    load_study,
    read_trial,
    read_weights,
    reading_trial,
    to_json,
)
from labelsmooth.study.trial import DivergedTrial, Outcome, TrialConfig, TrialResult, Weights


@contextmanager
def lock_study(out: Path) -> Iterator[None]:
    """Hold a study's folder, made where it is missing, against every other process.

    Raises:
        ValueError: another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(out / ".lock").acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"another process is running a study in {out}") from error
    with held:
        yield


def check_folder(out: Path, recipe: BaseRecipe, data: Any) -> None:
    """Check that a folder can take a study: it holds none, or this one with other objectives and seeds.

    Raises:
        InputError: as `begin_study`.
    """
    if not (out / "study.json").exists():
        return
    before = load_study(out)
    if before.recipe.task != recipe.task:
        differing = [f"the task {before.recipe.task}"]
    else:
        old, new = asdict(before.recipe), asdict(recipe)
        differing = [
            f"{name} {old[name]}" for name in new if old[name] != new[name] and name not in recipe.growing
        ]
    if not differing and before.data.sha256 != data.sha256:
        differing = ["other rows"]
    if differing:
        raise InputError(
            f"{out} holds a study with other settings ({', '.join(differing)}); give this one another folder"
        )


def begin_study(out: Path, recipe: BaseRecipe, data: Any, configs: Sequence[TrialConfig]) -> None:
    """Write study.json, and remove what a killed process left half written.

    Raises:
        InputError: the folder holds a study that differs in more than its objectives, seeds and students,
            whose results and report this one would replace.
    """
    check_folder(out, recipe, data)
    (out / "trials").mkdir(exist_ok=True)
    for leftover in (out / "trials").glob(f"{PARTIAL}*"):
        shutil.rmtree(leftover)
    for leftover in out.glob(f"{PARTIAL}*"):
        leftover.unlink(missing_ok=True)
    header = {
        "format": FORMAT,
        "task": recipe.task,
        "recipe": asdict(recipe),
        "data": asdict(data),
        "plan": [config.id for config in configs],
    }
    write_whole(out / "study.json", to_json(header))


def has_trial(out: Path, config: TrialConfig) -> bool:
    """Tell whether this trial is complete; all of it is read, so that damage shows before any training.

    Raises:
        InputError: its folder is damaged. No kill of a study does that, so the folder is left for a person
            to look at.
    """
    folder = out / "trials" / config.id
    if not folder.exists():
        return False
    trial = read_trial(folder)
    with reading_trial(folder):
        if trial.config != config:
            raise InputError("config.json is not that of this trial")
    if isinstance(trial, Trial):
        trial.arrays  # noqa: B018 (it is read and checked)
        read_weights(folder)
    return True


def load_weights(out: Path, config: TrialConfig) -> Weights:
    """Read the weights of a complete trial's network.

    Raises:
        InputError: the file is missing or damaged.
    """
    return read_weights(out / "trials" / config.id)


def save_trial(out: Path, outcome: Outcome) -> None:
    """Store a finished trial: the folder appears complete and on the disk, or not at all."""
    folder = out / "trials" / outcome.config.id
    partial = folder.with_name(PARTIAL + folder.name)
    partial.mkdir()
    write_synced(partial / "config.json", to_json(asdict(outcome.config)))
    write_synced(partial / "versions.json", to_json(asdict(outcome.versions)))
    if isinstance(outcome, TrialResult):
        write_synced(partial / "curves.json", to_json(asdict(outcome.curves)))
        write_synced(partial / "metrics.json", to_json(metrics_to_json(outcome.metrics)))
        write_synced(partial / "arrays.npz", _npz(vars(outcome.arrays)))
        write_synced(partial / "weights.npz", _npz(outcome.weights))
    else:
        write_synced(partial / "diverged.json", to_json({"reason": outcome.reason}))
    sync_folder(partial)
    partial.rename(folder)
    sync_folder(folder.parent)


def write_results(out: Path) -> Study:
    """Write results.jsonl from the complete trials of the stored plan, and give them."""
    study = load_study(out)
    found: list[Trial | DivergedTrial] = [*study.trials, *study.diverged]
    by_id = {trial.config.id: trial for trial in found}
    lines = [json.dumps(_line(by_id[name]), allow_nan=False) for name in study.plan if name in by_id]
    write_whole(out / "results.jsonl", "".join(f"{line}\n" for line in lines).encode())
    return study


def _line(trial: Trial | DivergedTrial) -> dict[str, Any]:
    known = {"trial": trial.config.id, "config": asdict(trial.config)}
    if isinstance(trial, Trial):
        return {**known, "curves": asdict(trial.curves), "metrics": trial.metrics}
    return {**known, "diverged": trial.reason}


def _npz(arrays: Mapping[str, Any]) -> bytes:
    """Archive arrays, those of a mapping under dotted names; what there is none of is left out."""
    flat: dict[str, NDArray[Any]] = {}
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{part}": array for part, array in value.items()}
        elif value is not None:
            flat[name] = value
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **flat)
    return stream.getvalue()
