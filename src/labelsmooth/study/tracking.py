"""Finished trials in an experiment tracker, through the trackers of accelerate."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.study.stored import Study, Trial

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TRACKERS = ("tensorboard", "wandb", "mlflow")


def check_tracker(name: str) -> None:
    """Check that a tracker is known and can be used.

    Raises:
        ValueError: it is none of `TRACKERS`, or its package is missing.
        ModuleNotFoundError: accelerate is missing.
    """
    if name not in TRACKERS:
        raise InputError(f"track must be one of {', '.join(TRACKERS)}, got {name!r}")
    with needs_extra("accelerate"):
        importlib.import_module("accelerate")
    if importlib.util.find_spec(name) is None:
        raise InputError(f"tracking with {name} needs the package {name}, which pip install {name} brings")


def track_trials(name: str, study: Study) -> None:
    """Hand the complete trials that a tracker has not got to it, and note in the study's folder that it has.

    Each is a run with its settings, its curves by epoch, and its metrics at the end. The note is
    `tracked-NAME.txt`: without it, as after a kill right before, a trial gets a second run, never none.

    Args:
        name: one of `TRACKERS`. TensorBoard writes to the folder `tracking` of the study; the others take the
            study's name for their project or experiment.
        study: as it is stored.
    """
    from accelerate import PartialState

    PartialState()  # some of the trackers ask for it
    noted = study.folder / f"tracked-{name}.txt"
    done = set(noted.read_text().split()) if noted.exists() else set()
    for trial in study.trials:
        if trial.config.id not in done:
            _track(name, study.folder, trial)
            with noted.open("a") as stream:
                stream.write(f"{trial.config.id}\n")


def _track(name: str, out: Path, trial: Trial) -> None:
    tracker = _tracker(name, out, trial.config.id)
    tracker.start()
    tracker.store_init_configuration(dict(_settings(asdict(trial.config))))
    curves = vars(trial.curves)
    for name, values in curves.items():
        if not name.endswith("_epochs"):  # those tell when a curve was measured that is not of every epoch
            epochs = curves.get(f"{name}_epochs", range(1, len(values) + 1))
            for epoch, value in zip(epochs, values, strict=True):
                tracker.log({name: value}, step=epoch)
    final = {
        f"final/{part}/{name}": float(value)
        for part, numbers in trial.metrics.items()
        for name, value in numbers.items()
    }
    tracker.log(final, step=trial.config.settings.epochs)
    tracker.finish()


def _tracker(name: str, out: Path, run: str) -> GeneralTracker:
    from accelerate import tracking

    if name == "tensorboard":
        return tracking.TensorBoardTracker(run, logging_dir=out / "tracking")
    if name == "wandb":
        return tracking.WandBTracker(out.resolve().name, name=run, dir=str(out))
    return tracking.MLflowTracker(out.resolve().name, run_name=run)


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Flatten a config; a tuple becomes text, which all trackers take."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _settings(value)
        else:
            yield name, str(value) if isinstance(value, tuple) else "" if value is None else value
