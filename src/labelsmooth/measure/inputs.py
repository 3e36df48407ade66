"""What every measure takes: rows of floats with one integer label each, as torch tensors or numpy arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import FLOAT_DTYPES, require_classes, require_num_classes
from labelsmooth.errors import InputError, InputTypeError

Array: TypeAlias = Tensor | npt.NDArray[Any]


def as_tensor(value: Array, name: str) -> Tensor:
    """A detached tensor of the same values, sharing memory where that is possible."""
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, np.ndarray):
        raise InputTypeError(f"{name} must be a torch.Tensor or a numpy.ndarray, got {type(value).__name__}")
    if value.dtype.kind not in "biuf":
        raise InputTypeError(f"{name} must hold numbers, got dtype {value.dtype}")
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
        raise InputTypeError(f"{rows_name} must hold floating-point values, got {rows.dtype}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputTypeError(f"{labels_name} must hold integers, got {labels.dtype}")
    if rows.dim() < 1 or labels.shape != rows.shape[:-1]:
        raise InputError(
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
        ValueError: a row is no distribution (`are_distributions`).
    """
    given, labels = classified_rows(probs, target, "probs")
    require_distributions(given, "probs")
    return given.double(), labels


def are_distributions(rows: Tensor) -> Tensor:  # (N, K) -> (N,)
    """Which rows hold probabilities in 0..1, or up to four units of rounding above, that sum to 1.

    They do within 1e-3, or within the square root of their dtype's epsilon in half precision.
    """
    eps = torch.finfo(rows.dtype).eps
    p = rows.float() if rows.dtype.itemsize < 4 else rows
    inside = (p.amin(-1) >= 0) & (p.amax(-1) <= 1 + 4 * eps)  # False for NaN
    off = (summed(p) - 1).abs()
    distributions: Tensor = inside & (off <= max(1e-3, eps**0.5))
    return distributions


def require_distributions(rows: Tensor, name: str) -> None:
    """Raise `ValueError` unless all `are_distributions`."""
    wrong = ~are_distributions(rows)
    if wrong.any():
        row = rows[wrong][0].double()
        outside = ~((row >= 0) & (row <= 1 + 4 * torch.finfo(rows.dtype).eps))  # NaN is outside
        if outside.any():
            raise InputError(f"{name} must lie in 0..1, got {float(row[outside][0])}")
        raise InputError(f"each row of {name} must sum to 1, got a sum of {float(row.sum())}")


def summed(values: Tensor) -> Tensor:  # (N, K) -> (N,)
    """Sums over classes, of which torch's own take ten times as long where there are two."""
    sums: Tensor = values @ values.new_ones(values.shape[-1]) if values.shape[-1] <= 8 else values.sum(-1)
    return sums


def require_usable(largest: Tensor, name: str) -> None:
    """Raise `ValueError` unless what is given of each row, its largest logit or ℓ, is finite."""
    bad = ~largest.isfinite()
    if bad.any():
        raise InputError(
            f"each row of {name} must hold a finite value and neither NaN nor +inf, got "
            f"{int(bad.sum())} of {bad.numel()} rows that do not"
        )


def on_cpu(values: Tensor) -> npt.NDArray[Any]:
    """One number a row, (N,)."""
    return values.detach().cpu().numpy().reshape(-1)


def on_cpu_float64(values: Tensor) -> npt.NDArray[np.float64]:
    """The same, widened after the move, because not every device has float64."""
    return values.detach().cpu().double().numpy().reshape(-1)


def score_rows(scores: Array, name: str) -> Tensor:
    """Scores (…, K), one for each class, as (N, K)."""
    rows = as_tensor(scores, name)
    if rows.dtype not in FLOAT_DTYPES:
        raise InputTypeError(f"{name} must hold floating-point values, got {rows.dtype}")
    if rows.dim() == 0:
        raise InputError(f"{name} must have shape (…, K), got ()")
    require_num_classes(rows.shape[-1])
    return rows.reshape(-1, rows.shape[-1])
