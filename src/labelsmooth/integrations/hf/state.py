"""What `smooth` leaves in a model, and how it is found there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.integrations.hf.kinds import Kind
from labelsmooth.row_stats import RowStats

_log = logging.getLogger("labelsmooth.integrations.hf")


@dataclass
class SmoothingState:
    """What `smooth` was told, and what was found out since."""

    kind: Kind
    options: dict[str, Any]  # of the losses
    chunk_rows: int | None
    forward: Callable[..., Any]  # of the model as it was
    shifts_labels: bool  # whether the model feeds its decoder from labels
    observers: list[Callable[[RowStats], None]] = field(default_factory=list)  # of the tokens trained on
    unfused: str = ""  # why the loss is made of logits

    def observe(self, stats: RowStats | None) -> None:
        if stats is not None:
            for observer in self.observers:
                observer(stats)

    def use_logits(self, why: str) -> None:
        """Make the loss of logits from now on, and say why once."""
        self.unfused = why
        _log.warning("all logits are made, as %s", why)


def smoothing_of(model: Any) -> SmoothingState:
    """Give what `smooth` left in a model, or refuse one that it was not given."""
    smoothing = getattr(base_of(model), "_label_smoothing", None)
    if not isinstance(smoothing, SmoothingState):
        raise InputError("the model of this trainer is not smoothed, call smooth(model, …) first")
    return smoothing


def base_of(model: Any) -> Any:
    """Give the model within a PEFT model, and any other itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
