"""Finished trials in an experiment tracker, through the trackers of accelerate."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.study.store import Study, Trial

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TRACKERS = ("tensorboard", "wandb", "mlflow")
_PER_EPOCH = ("train_loss", "train_accuracy", "validation_nll", "validation_accuracy")


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
    tracker.store_init_configuration(
        {
            key: str(value) if isinstance(value, tuple) else value
            for key, value in asdict(trial.config).items()
        }
    )
    curves = trial.metrics.curves
    for epoch, values in enumerate(zip(*(getattr(curves, curve) for curve in _PER_EPOCH), strict=True), 1):
        tracker.log(dict(zip(_PER_EPOCH, values, strict=True)), step=epoch)
    for epoch, value in zip(curves.information_epochs, curves.information, strict=True):
        tracker.log({"information": value}, step=epoch)
    metrics = {field.name: getattr(trial.metrics, field.name) for field in fields(trial.metrics)}
    del metrics["curves"]
    tracker.log(dict(_flat(metrics, "final/")), step=trial.config.epochs)
    tracker.finish()


def _tracker(name: str, out: Path, run: str) -> GeneralTracker:
    from accelerate import tracking

    if name == "tensorboard":
        return tracking.TensorBoardTracker(run, logging_dir=out / "tracking")
    if name == "wandb":
        return tracking.WandBTracker(out.resolve().name, name=run, dir=str(out))
    return tracking.MLflowTracker(out.resolve().name, run_name=run)


def _flat(metrics: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """Numbers by their path, as in final/test/accuracy."""
    for name, value in metrics.items():
        if hasattr(value, "__dataclass_fields__"):
            yield from _flat(asdict(value), f"{prefix}{name}/")
        elif value is not None:
            yield f"{prefix}{name}", float(value)
