"""What every measure takes: rows of floats with one integer label each, as torch tensors or numpy arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import FLOAT_DTYPES, require_classes, require_num_classes

Array: TypeAlias = Tensor | npt.NDArray[Any]


def as_tensor(value: Array, name: str) -> Tensor:
    """A detached tensor of the same values, sharing memory where that is possible."""
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a torch.Tensor or a numpy.ndarray, got {type(value).__name__}")
    if value.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got dtype {value.dtype}")
    # torch takes neither negative strides nor, without a warning, memory that it may not write to
    return torch.from_numpy(np.require(value, requirements=["C", "W"]))


def labelled_rows(rows: Array, labels: Array, rows_name: str, labels_name: str) -> tuple[Tensor, Tensor]:
    """Rows (…, C) and labels (…) as (N, C) floats and (N,) int64, both where the rows are.

    Raises:
        TypeError: `rows` does not hold floats or `labels` does not hold integers.
        ValueError: the shapes do not fit together.
    """
    rows, labels = as_tensor(rows, rows_name), as_tensor(labels, labels_name)
    if rows.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{rows_name} must hold floating-point values, got {rows.dtype}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{labels_name} must hold integers, got {labels.dtype}")
    if rows.dim() < 1 or labels.shape != rows.shape[:-1]:
        raise ValueError(
            f"{labels_name} must have one entry for each row of {rows_name}, its last axis left out, got "
            f"{labels_name} {tuple(labels.shape)} with {rows_name} {tuple(rows.shape)}"
        )
    return rows.reshape(-1, rows.shape[-1]), labels.reshape(-1).to(rows.device, torch.int64)


def classified_rows(scores: Array, target: Array, scores_name: str) -> tuple[Tensor, Tensor]:
    """The same for scores (…, K), one for each class, with targets in 0..K−1."""
    rows, labels = labelled_rows(scores, target, scores_name, "target")
    require_num_classes(rows.shape[-1])
    # looked at on the CPU, because a wrong class must be refused before any of the measure's state changes
    require_classes(labels.cpu(), rows.shape[-1], "target")
    return rows, labels


def probability_rows(probs: Array, target: Array) -> tuple[Tensor, Tensor]:
    """The same for probabilities (…, K), as float64 rows, checked to be distributions and left as they are.

    Raises:
        ValueError: a probability outside 0..1 by more than four units of rounding, or a row that does not sum
            to 1 within 1e-3, or within the square root of its dtype's epsilon in half precision.
    """
    given, labels = classified_rows(probs, target, "probs")
    rows, eps = given.double(), torch.finfo(given.dtype).eps
    outside = ~((rows >= 0) & (rows <= 1 + 4 * eps))  # written so that NaN is outside
    if outside.any():
        raise ValueError(f"probs must lie in 0..1, got {float(rows[outside][0])}")
    total = rows.sum(-1)
    off = (total - 1).abs() > max(1e-3, eps**0.5)
    if off.any():
        raise ValueError(f"each row of probs must sum to 1, got a sum of {float(total[off][0])}")
    return rows, labels


def score_rows(scores: Array, name: str) -> Tensor:
    """Scores (…, K), one for each class, as (N, K)."""
    rows = as_tensor(scores, name)
    if rows.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{name} must hold floating-point values, got {rows.dtype}")
    if rows.dim() == 0:
        raise ValueError(f"{name} must have shape (…, K), got ()")
    require_num_classes(rows.shape[-1])
    return rows.reshape(-1, rows.shape[-1])
