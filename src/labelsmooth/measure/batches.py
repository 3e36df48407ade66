"""Batches as data loaders give them: a tuple of logits and labels, or a dict that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.inputs import Array

Batch: TypeAlias = tuple[Array, Array] | tuple[Array, Array, Array | None] | Mapping[str, Any]


def require_batches(batches: object) -> None:
    """Raise `TypeError` unless `batches` can be gone through."""
    if not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
        raise InputTypeError(
            f"batches must be an iterable such as a list or a DataLoader, got {type(batches).__name__}"
        )


def parts_of(batch: Batch) -> tuple[Array, Array, Array | None]:
    """Logits, labels and weights of a batch.

    Args:
        batch: (logits, target) or (logits, target, weight), or a dict with "logits", with "labels" or
            "target", and perhaps with "weight"; what else it holds is left alone.

    Raises:
        TypeError: it is neither.
        ValueError: it has other parts.
    """
    if isinstance(batch, Mapping):
        labels = [name for name in ("labels", "target") if name in batch]
        if "logits" not in batch or len(labels) != 1:
            raise InputError(
                'a batch that is a dict must hold "logits" and one of "labels" and "target", '
                f"got {', '.join(map(repr, batch))}"
            )
        return batch["logits"], batch[labels[0]], batch.get("weight")
    if not isinstance(batch, Sequence):
        raise InputTypeError(
            "a batch must be (logits, target), with a weight where rows have some, or a dict of them, "
            f"got {type(batch).__name__}"
        )
    if len(batch) not in (2, 3):
        raise InputError(f"a batch must be (logits, target) or with a weight, got {len(batch)} parts")
    logits, target, *weight = batch
    return logits, target, weight[0] if weight else None
