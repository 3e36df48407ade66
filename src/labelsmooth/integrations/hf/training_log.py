"""The numbers of the training tokens in a trainer's log."""

from __future__ import annotations

from typing import Any

from transformers import Trainer, TrainerCallback

from labelsmooth.errors import InputError
from labelsmooth.integrations.hf.state import smoothing_of
from labelsmooth.measure import Calibration


def log_training(trainer: Trainer) -> Trainer:
    """Put accuracy, NLL and ECE of the tokens that a smoothed model is trained on into a trainer's logs.

    They come from the loss's own pass, cover the steps since the last log in all processes, and go wherever
    the loss goes: to the screen, `state.log_history` and every tracker of `report_to`.

    Args:
        trainer: of a model that `smooth` was given, or a `SmoothedSFTTrainer` of
            `labelsmooth.integrations.trl`.

    Returns:
        The same trainer.

    Raises:
        ValueError: its model is not smoothed; or the trainer smooths as well, or computes its loss from
            logits (`label_smoothing_factor`, `compute_loss_func`).

    Cost: a second product of the statistics with each step's logits in cache, and some numbers of each token.
    """
    smoothing = smoothing_of(trainer.accelerator.unwrap_model(trainer.model))
    others = other_losses(trainer)
    if others:
        raise InputError(f"a smoothed model computes its loss, got {' and '.join(others)} as well")
    log = _LogTraining()
    smoothing.observers.append(log.measured.update_stats)
    trainer.callback_handler.callbacks.insert(0, log)  # before those that send the logs
    return trainer


def other_losses(trainer: Trainer) -> list[str]:
    """Name the arguments of a trainer that make a loss of logits."""
    given = {
        "label_smoothing_factor": trainer.label_smoother is not None,
        "compute_loss_func": trainer.compute_loss_func is not None,
    }
    return [name for name, is_given in given.items() if is_given]


class _LogTraining(TrainerCallback):
    """Adds to a log what was measured since the last."""

    def __init__(self) -> None:
        self.measured = Calibration()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        if logs is None or "loss" not in logs:
            return
        self.measured.all_merge()
        if not self.measured.state()["counts"].any():
            return
        result = self.measured.compute()
        numbers = {"accuracy": result.accuracy, "nll": result.nll, "ece": result.ece}
        logs.update(numbers)
        state.log_history[-1].update(numbers)
        self.measured.reset()
