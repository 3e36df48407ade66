"""Checks and conversions of what smoothings are made of: ε, distributions and excluded classes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

import torch
from torch import Tensor

from labelsmooth.checks import PerRow, as_values, require
from labelsmooth.errors import InputError, InputTypeError

# How far from 1 the sum of a prior may be: single-precision rounding over a large vocabulary.
PRIOR_SUM_TOLERANCE = 1e-4
# How far above 1 rounding may put an ε that was converted from another convention.
EPS_ROUNDING = 1e-12


def as_eps(eps: PerRow, *, signed: bool = False) -> float | Tensor:
    """Return a checked ε: a float, or a tensor in at least float32."""
    return as_share(eps, "eps", signed=signed)


def as_share(value: PerRow, name: str, *, signed: bool = False) -> float | Tensor:
    """Return a checked share: a number or one per row, in [0, 1], or at most 1 where `signed`."""
    expected = "at most 1" if signed else "in [0, 1]"
    share = value if type(value) is float else as_values(value)  # as it mostly is
    if isinstance(share, Tensor):
        if not share.is_floating_point():
            raise InputTypeError(f"a tensor {name} must be floating-point, got {share.dtype}")
        values = share
        inside = (values <= 1) & values.isfinite()
        if not signed:
            inside = inside & (values >= 0)
        require(inside, lambda: f"{name} must be {expected}, got {first_value(values[~inside])}")
        return at_least_float32(share)
    if type(share) is not float and (isinstance(share, bool) or not isinstance(share, Real | torch.SymFloat)):
        raise InputTypeError(f"{name} must be a number or a tensor, got {type(share).__name__}")
    share = float(share)
    if not (share <= 1 and (share >= 0 or (signed and share > -math.inf))):
        raise InputError(f"{name} must be {expected}, got {share}")
    return share


def one_per_row(value: Tensor, rows: torch.Size, name: str) -> Tensor:
    """Return one value, or one for each of the rows (…), whose dimensions of 1 at the end are dropped."""
    if value.dim() == 0 or value.shape == rows:
        return value
    if value.shape[: len(rows)] == rows and value.numel() == rows.numel():
        return value.reshape(rows)
    raise InputError(f"a tensor {name} must hold one value per row {tuple(rows)}, got {tuple(value.shape)}")


def as_distributions(p: Tensor, *, dim: int, name: str) -> Tensor:
    """Return checked distributions, (K,) or (…, K), in at least float32."""
    if not isinstance(p, Tensor) or not p.is_floating_point():
        raise InputTypeError(
            f"the {name} must be a floating-point tensor, got {getattr(p, 'dtype', type(p))}"
        )
    p = at_least_float32(p)
    if p.dim() != dim or p.shape[-1] < 2:
        shape = "(K,)" if dim == 1 else "(K, K)"
        raise InputError(f"the {name} must have shape {shape} with K ≥ 2, got {tuple(p.shape)}")
    require(p >= 0, lambda: f"the {name} must not be negative or NaN, got {first_value(p[~(p >= 0)])}")
    off = (p.sum(-1) - 1).abs()
    require(
        off <= PRIOR_SUM_TOLERANCE,
        lambda: f"the {name} must sum to 1, got {first_value(p.sum(-1)[off == off.max()])}",
    )
    return p


def as_excluded(classes: Iterable[int]) -> frozenset[int]:
    """Return checked class indices; which classes there are is checked later."""
    if not isinstance(classes, Iterable):
        raise InputTypeError(f"excluded classes must be a list of ints, got {type(classes).__name__}")
    excluded: set[int] = set()
    for k in classes:
        if isinstance(k, bool) or not isinstance(k, Integral):
            raise InputTypeError(f"excluded classes must be ints, got {k!r}")
        excluded.add(int(k))
    if any(k < 0 for k in excluded):
        raise InputError(f"excluded classes must not be negative, got {min(excluded)}")
    return frozenset(excluded)


def check_excluded(excluded: frozenset[int], num_classes: int, *, least: int) -> None:
    """Raise `ValueError` for an excluded class that is not there, or fewer than `least` classes left."""
    if excluded and max(excluded) >= num_classes:
        raise InputError(f"excluded classes must lie in 0..{num_classes - 1}, got {max(excluded)}")
    if num_classes - len(excluded) < least:
        raise InputError(
            f"at least {least} of the {num_classes} classes must stay, got {len(excluded)} excluded"
        )


def allowed_classes(excluded: frozenset[int], num_classes: int, device: torch.device) -> Tensor:
    """Return (K,) ones, with zeros at the excluded classes: a uniform prior times the number of the rest."""
    allowed = torch.ones(num_classes, device=device)
    return allowed.index_fill(0, torch.tensor(sorted(excluded), dtype=torch.int64, device=device), 0)


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision: 1−ε of a bfloat16 ε would be off by parts in a thousand."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def widest_float(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device without it."""
    return torch.float32 if device.type == "mps" else torch.float64


def as_column(value: float | Tensor, rows: Tensor) -> float | Tensor:
    """Return a value per row as a column beside dense rows (…, K)."""
    return value.to(rows).unsqueeze(-1) if isinstance(value, Tensor) else value


def first_value(values: Tensor) -> float:
    return float(values.flatten()[0])


def show_eps(eps: float | Tensor) -> str:
    return f"{eps:g}" if isinstance(eps, float) else f"tensor{tuple(eps.shape)}"


def show_excluded(excluded: frozenset[int]) -> str:
    return f".exclude({sorted(excluded)})" if excluded else ""
