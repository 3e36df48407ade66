"""The input of every measure: rows of floats with an integer label each, as torch tensors or arrays."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import (
    FLOAT_DTYPES,
    classes_last,
    require_classes,
    require_int,
    require_num_classes,
    stacklevel_of_caller,
)
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
    if value.dtype.itemsize > 8:
        raise InputTypeError(f"{name} must hold numbers of at most 64 bits, got dtype {value.dtype}")
    value = value.astype(value.dtype.newbyteorder("="), copy=False)
    # torch takes neither negative strides nor, without a warning, memory that it may not write to
    return torch.from_numpy(np.require(value, requirements=["C", "W"]))


def labelled_rows(
    rows: Array, labels: Array, rows_name: str, labels_name: str, *, class_axis: int = -1
) -> tuple[Tensor, Tensor]:
    """Rows (…, C) and labels (…) as (N, C) floats and (N,) int64, both where the rows are.

    Args:
        class_axis: where the C values of a row lie, 1 in maps (N, C, H, W) with labels (N, H, W).

    Raises:
        TypeError: `rows` does not hold floats or `labels` does not hold integers.
        ValueError: the shapes do not fit together.
    """
    rows, labels = as_tensor(rows, rows_name), as_tensor(labels, labels_name)
    if rows.dtype not in FLOAT_DTYPES:
        swapped = f"; {rows_name} come before {labels_name}" if labels.dtype in FLOAT_DTYPES else ""
        raise InputTypeError(f"{rows_name} must hold floating-point values, got {rows.dtype}{swapped}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputTypeError(f"{labels_name} must hold integers, got {labels.dtype}")
    last = classes_last(rows, class_axis, rows_name)
    if labels.shape != last.shape[:-1]:
        raise InputError(
            f"{labels_name} must have one entry for each row of {rows_name}, whose axis {class_axis} is left "
            f"out, got {labels_name} {tuple(labels.shape)} with {rows_name} {tuple(rows.shape)}"
        )
    return last.reshape(-1, last.shape[-1]), labels.reshape(-1).to(rows.device, torch.int64)


def weighted_rows(
    scores: Array,
    target: Array,
    weight: Array | None,
    scores_name: str,
    *,
    ignore_index: int | None = None,
    class_axis: int = -1,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rows that count: scores (N, K), their targets (N,) in 0..K−1 and their weights (N,) above 0.

    Rows of weight 0 and ignored ones are left out before anything of them is checked.

    Args:
        scores: (…, K) floats, one for each class.
        target: (…) integers in 0..K−1, or `ignore_index`.
        weight: (…) finite and at least 0, in the layout of `target`; None for rows that count alike.
        scores_name: what the caller calls the scores.
        ignore_index: the target whose rows are left out, as in `cross_entropy`; None for none.
        class_axis: of `scores`; 1 in maps (N, K, H, W) with targets (N, H, W).

    Returns:
        Rows and int64 targets where the scores are, and float64 weights on the CPU.

    Raises:
        TypeError: as `labelled_rows`, or `ignore_index` or `class_axis` is not an int.
        ValueError: the shapes do not fit together, or a target or a weight is out of range.
    """
    rows, labels = labelled_rows(scores, target, scores_name, "target", class_axis=class_axis)
    require_num_classes(rows.shape[-1])
    weights = None if weight is None else row_weights(weight, target.shape, "target")
    counted = None if weights is None else weights.to(rows.device) > 0
    if ignore_index is not None:
        require_int(ignore_index, "ignore_index")
        kept = labels != ignore_index
        counted = kept if counted is None else counted & kept
    if counted is not None and not counted.all():
        rows, labels = rows[counted], labels[counted]
        weights = None if weights is None else weights[counted.cpu()]
    # looked at on the CPU, because a wrong class must be refused before any of the measure's state changes
    require_classes(labels.cpu(), rows.shape[-1], "target")
    return rows, labels, weights


def logit_rows(
    logits: Array,
    target: Array,
    weight: Array | None = None,
    name: str = "logits",
    *,
    ignore_index: int | None = None,
    class_axis: int = -1,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`weighted_rows` of logits, with a warning where they look like probabilities."""
    rows, labels, weights = weighted_rows(
        logits, target, weight, name, ignore_index=ignore_index, class_axis=class_axis
    )
    warn_of_probabilities(rows, name)
    return rows, labels, weights


def classified_rows(
    scores: Array,
    target: Array,
    scores_name: str,
    *,
    ignore_index: int | None = None,
    class_axis: int = -1,
) -> tuple[Tensor, Tensor]:
    """`weighted_rows` without weights."""
    rows, labels, _ = weighted_rows(
        scores, target, None, scores_name, ignore_index=ignore_index, class_axis=class_axis
    )
    return rows, labels


def probability_rows(
    probs: Array,
    target: Array,
    weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    class_axis: int = -1,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`weighted_rows` of probabilities, as float64 rows, checked to be distributions (`distributions`)."""
    given, labels, weights = weighted_rows(
        probs, target, weight, "probs", ignore_index=ignore_index, class_axis=class_axis
    )
    return distributions(given, "probs").double(), labels, weights


def row_weights(weight: Array, rows: tuple[int, ...], rows_name: str) -> Tensor:
    """Weights in the layout of the rows, as (N,) float64 on the CPU, because not every device has that.

    Raises:
        ValueError: the layout is another, or there is a `fault_of_weights`.
    """
    given = as_tensor(weight, "weight")
    if given.shape != rows:
        raise InputError(
            f"weight must have the shape of {rows_name}, {tuple(rows)}, got {tuple(given.shape)}"
        )
    weights = given.reshape(-1).cpu().double()
    if fault := fault_of_weights(weights):
        words, at = fault
        raise InputError(f"weight must be {words}, got {float(weights[at])}")
    return weights


def fault_of_weights(weights: Tensor) -> tuple[str, int] | None:  # (N,) float64
    """What weights must be and the place of the first that is not so; None where all are.

    The squares of weights above 1e100 or below 1e-100 would leave the range of float64.
    """
    for fine, words in (
        (weights.isfinite() & (weights >= 0), "finite and at least 0"),
        ((weights == 0) | ((weights >= 1e-100) & (weights <= 1e100)), "0 or in 1e-100..1e100"),
    ):
        if not fine.all():
            return words, int((~fine).int().argmax())
    return None


def weight_of_each(rows: Tensor, weights: Tensor | None) -> Tensor:  # (N, …), (N,) -> (N,)
    """The weights, or a weight of 1 for each row where none are given."""
    return torch.ones(len(rows), dtype=torch.float64) if weights is None else weights


def are_distributions(rows: Tensor) -> Tensor:  # (N, K) -> (N,)
    """Which rows hold probabilities in 0..1, or up to four units of rounding beyond, that sum to 1.

    They do within 1e-3, or within the square root of their dtype's epsilon in half precision.
    """
    least, most = _allowed(rows.dtype)
    p = rows.float() if rows.dtype.itemsize < 4 else rows
    inside = (p.amin(-1) >= least) & (p.amax(-1) <= most)  # False for NaN
    off = (summed(p) - 1).abs()
    distributions: Tensor = inside & (off <= max(1e-3, torch.finfo(rows.dtype).eps ** 0.5))
    return distributions


def distributions(rows: Tensor, name: str) -> Tensor:  # (N, K) -> (N, K)
    """The rows as they are, but for what rounding has put below 0, which is 0.

    Raises:
        ValueError: a row is no distribution (`are_distributions`).
    """
    wrong = ~are_distributions(rows)
    if wrong.any():
        row = rows[wrong][0].double()
        least, most = _allowed(rows.dtype)
        outside = ~((row >= least) & (row <= most))  # NaN is outside
        if outside.any():
            raise InputError(f"{name} must lie in 0..1, got {float(row[outside][0])}")
        raise InputError(f"each row of {name} must sum to 1, got a sum of {float(row.sum())}")
    return rows.clamp_min(0)


def _allowed(dtype: torch.dtype) -> tuple[float, float]:
    """The least and the largest value that is a probability but for rounding."""
    rounding = 4 * torch.finfo(dtype).eps
    return -rounding, 1 + rounding


def look_like_probabilities(rows: Tensor) -> bool:  # (N, K)
    """Whether there are rows and all `are_distributions`.

    Cost: a look at the first row, which of logits hardly ever is one.
    """
    return len(rows) > 0 and bool(are_distributions(rows[:1]).all() and are_distributions(rows).all())


def warn_of_probabilities(rows: Tensor, name: str) -> None:
    """Warn where rows (N, K) of logits `look_like_probabilities`, and are not all zeros and ones."""
    if look_like_probabilities(rows) and not ((rows == 0) | (rows == 1)).all():
        warnings.warn(
            f"every row of {name} lies in 0..1 and sums to 1, as probabilities do, which are to be given "
            "with probs=True, or to update_probs or fit_probs",
            UserWarning,
            stacklevel=stacklevel_of_caller(),
        )


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
    """Move one number a row (N,) to the CPU."""
    return values.detach().cpu().numpy().reshape(-1)


def on_cpu_float64(values: Tensor) -> npt.NDArray[np.float64]:
    """Move one number a row to the CPU and widen it there, because not every device has float64."""
    return values.detach().cpu().double().numpy().reshape(-1)


def score_rows(scores: Array, name: str, *, class_axis: int = -1) -> Tensor:
    """Scores (…, K), one for each class, as (N, K)."""
    rows = as_tensor(scores, name)
    if rows.dtype not in FLOAT_DTYPES:
        raise InputTypeError(f"{name} must hold floating-point values, got {rows.dtype}")
    rows = classes_last(rows, class_axis, name)
    require_num_classes(rows.shape[-1])
    return rows.reshape(-1, rows.shape[-1])


def finite(values: Tensor, name: str) -> Tensor:
    """The values in float64, refused where one is not finite."""
    require_finite(values, name)
    return values.double()


def require_finite(values: Tensor, name: str) -> None:
    """Raise `ValueError` unless all values are finite."""
    if not values.isfinite().all():
        raise InputError(f"{name} must be finite, got {float(values[~values.isfinite()][0])}")
