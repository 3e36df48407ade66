"""Smooth calibration error of Błasiok & Nakkiran, from moments of residuals on a fine grid of confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelsmooth.measure.arrays import Floats
from labelsmooth.measure.interval import Interval, shrinking_interval

# equal intervals of [0, 1] that rows are summed in
INTERVALS = 4096

# halvings of a width between 0 and 1, the last of 1e-9
_HALVINGS = 30


@dataclass(frozen=True, eq=False, kw_only=True)
class ResidualMoments:
    """Residuals r = confidence − correct in M equal intervals of [0, 1], as shares of all rows' weight.

    An interval's moments are about its middle, with d the distance of a confidence from it.
    """

    mass: Floats  # (…, M), Σ w
    mass_1: Floats  # (…, M), Σ w·d
    residual: Floats  # (…, M), Σ w·r
    residual_1: Floats  # (…, M), Σ w·r·d
    residual_2: Floats  # (…, M), Σ w·r·d²


def moments_of_sums(
    mass: Floats,  # (2, M), of the rows that are wrong, and of those that are right
    mass_1: Floats,  # (2, M)
    mass_2: Floats,  # (2, M)
    mass_3: Floats,  # (2, M)
) -> ResidualMoments:
    """The moments of residuals from Σ w, Σ w·d, Σ w·d² and Σ w·d³ of M intervals."""
    total, num = mass.sum(), mass.shape[-1]
    # r = c − y = gap + d
    gap = (np.arange(num) + 0.5) / num - np.array([[0.0], [1.0]])
    return ResidualMoments(
        mass=mass.sum(0) / total,
        mass_1=mass_1.sum(0) / total,
        residual=(gap * mass + mass_1).sum(0) / total,
        residual_1=(gap * mass_1 + mass_2).sum(0) / total,
        residual_2=(gap * mass_2 + mass_3).sum(0) / total,
    )


def moments_of_rows(
    confidence: Floats,  # (N,), in 0..1
    correct: npt.NDArray[np.bool_],  # (N,)
) -> ResidualMoments:
    """The moments of residuals of rows, each of the same weight."""
    scaled = confidence * INTERVALS
    interval = np.minimum(scaled.astype(np.int64), INTERVALS - 1)
    distance = (scaled - interval - 0.5) / INTERVALS
    where = interval + INTERVALS * correct

    def summed(values: Floats | None) -> Floats:
        return np.bincount(where, values, 2 * INTERVALS).astype(np.float64).reshape(2, INTERVALS)

    square = distance * distance
    return moments_of_sums(summed(None), summed(distance), summed(square), summed(square * distance))


def smooth_ece(moments: ResidualMoments) -> Floats:
    """The width σ at which smECE_σ = σ, in 0..1.

    smECE_σ = ∫₀¹ |Σ_i w_i·K_σ(t, c_i)·(c_i − y_i)| dt, with the Gaussian kernel reflected at 0 and 1. That
    kernel is diagonal in cosines, K_σ(t, c) = 1 + 2·Σ_k exp(−π²k²σ²/2)·cos(πkt)·cos(πkc), so one transform
    of the residuals serves every σ, and mass on a border counts in full. The integral is a sum over the
    middles of 2·M intervals. smECE_σ falls as σ grows, so halving finds the width.

    Args:
        moments: of arrays (…, M), one smooth calibration error for each leading index.

    Returns:
        (…) floats. With M = 4096 and at least 1e5 rows it is within 1e-6 of the definition; widths below
        4e-4, which need tens of millions of calibrated rows, are within 1e-5.

    Cost: 30 Fourier transforms of 4·M numbers, whatever the number of rows.

    Source: Błasiok & Nakkiran 2024, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", §3.
    """
    waves = _cosine_sums(moments)
    return _fixed_width(waves, 2 * moments.residual.shape[-1], _HALVINGS)


def smooth_ece_interval(
    value: float,
    residual: Floats,  # (M,)
    draws: Floats,  # (R, M)
    level: float,
) -> Interval:
    """The interval of a smooth calibration error, from the residuals in M intervals and draws of them.

    `shrinking_interval` of the cosine sums: noise is about equal in all, and what is true is in the first
    few. As smECE_σ falls with σ, a draw has a width above the measured σ just where its smECE_σ is above σ.
    """
    waves, noise = _waves(residual).real, _waves(draws).real
    points = residual.shape[-1]

    def error(sums: Floats) -> Floats:
        return _fixed_width(sums, points, _HALVINGS)

    width = error(waves)

    def statistic(sums: Floats) -> Floats:
        return _smooth_ece_at(sums, width, points)

    return shrinking_interval(value, waves, noise, error, level, statistic=statistic)


def smooth_ece_influence(confidence: Floats, correct: npt.NDArray[np.bool_], smece: float) -> Floats:
    """The influence of each row on the smooth calibration error of all of them, which is their mean.

    With s(t) the sign of the smoothed residuals, a row moves smECE_σ by (c − y)·∫ s(t)·K_σ(t, c) dt, and the
    width at which smECE_σ = σ by 1/(1 − d smECE_σ/dσ) of that.

    Args:
        confidence: (N,), in 0..1.
        correct: (N,).
        smece: of these rows, or near it; then the mean is better by one step of Newton's.

    Returns:
        (N,) floats.

    Cost: four Fourier transforms of 16,384 numbers.
    """
    points = 2 * INTERVALS
    waves = _cosine_sums(moments_of_rows(confidence, correct))
    width, step = np.array(smece), 1e-3 * max(smece, 1e-3)
    narrow, wide = np.maximum(width - step, 0.0), width + step
    slope = (_smooth_ece_at(waves, wide, points) - _smooth_ece_at(waves, narrow, points)) / (wide - narrow)
    sign = np.sign(_smoothed(waves, width, points))
    seen = _smoothed(_waves(sign).real / points, width, points)
    middles = (np.arange(points) + 0.5) / points
    moved: Floats = (confidence - correct) * np.interp(confidence, middles, seen)
    influence: Floats = width + (moved - width) / (1 - slope)
    return influence


def _fixed_width(waves: Floats, points: int, halvings: int) -> Floats:
    """The σ at which Σ|field smoothed with σ|/points = σ, of fields (…, M) given by their cosine sums."""
    low, high = np.zeros(waves.shape[:-1]), np.ones(waves.shape[:-1])
    for _ in range(halvings):
        width = (low + high) / 2
        above = _smooth_ece_at(waves, width, points) > width
        low, high = np.where(above, width, low), np.where(above, high, width)
    return low


def _smooth_ece_at(waves: Floats, width: Floats, points: int) -> Floats:
    """∫₀¹ |field smoothed with the width| dt, as a sum over the middles of `points` intervals."""
    mean: Floats = np.abs(_smoothed(waves, width, points)).mean(-1)
    return mean


def _smoothed(waves: Floats, width: Floats, points: int) -> Floats:
    """A field given by its cosine sums, smoothed with the width, at the middles of `points` intervals."""
    k = np.arange(waves.shape[-1])
    damped = waves * np.exp(-0.5 * np.square(np.pi * k * width[..., None]))
    # Re Σ_k damped_k·exp(iπkt) at t = (m + ½)/points, which one inverse transform of 2·points numbers gives
    turned = damped * np.exp(0.5j * np.pi * k / points)
    field: Floats = 2 * points * np.fft.irfft(turned, 2 * points)[..., :points]
    return field


def _cosine_sums(moments: ResidualMoments) -> Floats:
    """Σ_i w_i·r_i·cos(πk·c_i) for k = 0..M−1, each interval expanded to second order about its middle."""
    k = np.pi * np.arange(moments.residual.shape[-1])
    sums: Floats = (
        _waves(moments.residual).real
        + k * _waves(moments.residual_1).imag
        - 0.5 * np.square(k) * _waves(moments.residual_2).real
    )
    return sums


def _waves(values: Floats) -> npt.NDArray[np.complex128]:
    """Σ_j values_j·exp(−iπk·x_j) for k = 0..M−1, with the middles x of M intervals."""
    num = values.shape[-1]
    middle = np.exp(-0.5j * np.pi * np.arange(num) / num)
    result: npt.NDArray[np.complex128] = np.fft.rfft(values, 2 * num)[..., :num] * middle
    return result


def smooth_ece_of_relplot(moments: ResidualMoments, rows: float) -> float:
    """The smooth calibration error as apple's relplot 1.0.3 computes it, to about 1e-7.

    It differs from the definition in four ways, all kept: rows move to the two neighbours on a grid of 1001
    points (more below a width of 0.01), the kernel ends half a unit from its middle, the outermost points of
    the grid have no image in the reflection, so that mass lying on 0 or 1 counts by half, and the width is
    the lowest multiple of 1/1024 at or above which the error does not exceed it.

    Args:
        moments: of arrays (M,).
        rows: their number, of which relplot's density depends by an added 1e-4.
    """
    low, high = 0.0, 1.0
    if _relplot_at(moments, rows, high) > high:
        return _relplot_at(moments, rows, high)
    for _ in range(10):
        width = (low + high) / 2
        if width < 0.001 or _relplot_at(moments, rows, width) > width:
            low = width
        else:
            high = width
    return _relplot_at(moments, rows, high)


def _relplot_at(moments: ResidualMoments, rows: float, width: float) -> float:
    intervals = max(2000, round(20 / width)) // 2
    nodes = np.linspace(0, 1, intervals + 1)
    kernel = np.exp(-np.square(nodes - 0.5) / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
    points = np.linspace(0, 1, max(round(10 / width), 200))
    middles = (np.arange(len(moments.mass)) + 0.5) / len(moments.mass)
    filled = moments.mass > 0
    mean = middles + np.divide(moments.mass_1, moments.mass, out=np.zeros_like(middles), where=filled)
    left = np.clip((mean * intervals).astype(int), 0, intervals - 1)

    def smoothed(total: Floats, first: Floats) -> Floats:
        to_right = total * (middles * intervals - left) + first * intervals
        on_nodes = np.bincount(left, total - to_right, intervals + 1)
        on_nodes += np.bincount(left + 1, to_right, intervals + 1)
        mirrored = np.concatenate([on_nodes[:0:-1], on_nodes, on_nodes[-2::-1]])
        size = 1 << (len(mirrored) + len(kernel)).bit_length()
        convolved = np.fft.irfft(np.fft.rfft(mirrored, size) * np.fft.rfft(kernel, size), size)
        start = intervals + (intervals + 1) // 2
        values: Floats = np.interp(points, nodes, convolved[start : start + intervals + 1])
        return values

    error = smoothed(moments.residual, moments.residual_1)
    density = smoothed(moments.mass, moments.mass_1) + 1e-4 / rows
    return float(np.abs(error).sum() / density.sum())
