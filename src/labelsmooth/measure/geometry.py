"""The shape of what the last layer sees and says: features around class templates, gaps between logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import FLOAT_DTYPES, require_classes
from labelsmooth.measure.inputs import Array, as_tensor, classified_rows, labelled_rows

Floats: TypeAlias = npt.NDArray[np.float64]

QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False, kw_only=True)
class PlaneProjection:
    """Rows of three classes in the plane through the templates of these classes, in units of the features."""

    points: Floats  # (n, 2)
    labels: npt.NDArray[np.int64]  # (n,), each one of `classes`
    templates: Floats  # (3, 2), in the order of `classes`
    classes: tuple[int, int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitGap:
    """The distribution over rows of the gap between the label's logit and the mean of the others."""

    rows: int
    mean: float
    sd: float  # over the rows, dividing by their number
    quantile_levels: Floats  # (5,): 0.05, 0.25, 0.5, 0.75, 0.95
    quantiles: Floats  # (5,)


def plane_projection(
    features: Array,  # (..., D)
    labels: Array,  # (...)
    templates: Array,  # (K, D)
    bias: Array,  # (K,)
    classes: Sequence[int],  # (3,)
) -> PlaneProjection:
    """Project the features of three classes onto the plane through the templates of these classes.

    The bias is part of the template and a 1 is appended to each activation, t_k = [w_k, b_k] and x̃ = [x, 1],
    so that a logit is one inner product, z_k = x̃·t_k. With the QR decomposition Q·R = [t_b−t_a, t_c−t_a] of
    the classes (a, b, c), a row is at u = Qᵀx̃ and a template at Qᵀt_k.

    The origin is the foot of x̃ = 0, not a template: then z_k − z_j = u·(Qᵀt_k − Qᵀt_j) for any two of the
    three, so the lines where two logits are equal all pass through it, each perpendicular to the line between
    its two templates. The diagonal of R is taken positive: b lies to the right of a, and c above that line,
    whatever the network, so pictures of several networks can be compared.

    Args:
        features: (…, D) floats, the input of the last linear layer.
        labels: (…) integers in 0..K−1.
        templates: (K, D) floats, the weight of that layer.
        bias: (K,) floats, its bias.
        classes: three different classes in 0..K−1, in the order (a, b, c).

    Returns:
        `PlaneProjection` with the rows whose label is one of `classes`, in the order given, in float64.

    Raises:
        TypeError: an argument is no tensor or array, or does not hold floats or integers.
        ValueError: shapes that do not fit, values that are not finite, a class out of range or named twice,
            or three templates on one line, which span no plane.

    Cost: one float64 copy of the features of the three classes.

    Example:
        >>> weight, bias = torch.eye(3), torch.zeros(3)
        >>> projection = plane_projection(torch.eye(3), torch.tensor([0, 1, 2]), weight, bias, (0, 1, 2))
        >>> projection.points.round(3) + 0.0
        array([[-0.707, -0.408],
               [ 0.707, -0.408],
               [ 0.   ,  0.816]])

    Source: Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?", §2, in which the rows are
    projected onto the plane through three templates; the bias and the fixed orientation are ours.
    """
    rows, row_labels = labelled_rows(features, labels, "features", "labels")
    weight, offsets = as_tensor(templates, "templates"), as_tensor(bias, "bias")
    for name, value in (("templates", weight), ("bias", offsets)):
        if value.dtype not in FLOAT_DTYPES:
            raise TypeError(f"{name} must hold floating-point values, got {value.dtype}")
    if weight.dim() != 2 or weight.shape[1] != rows.shape[1]:
        raise ValueError(f"templates must have shape (K, {rows.shape[1]}), got {tuple(weight.shape)}")
    num_classes = weight.shape[0]
    if offsets.shape != (num_classes,):
        raise ValueError(f"bias must have shape ({num_classes},), got {tuple(offsets.shape)}")
    require_classes(row_labels.cpu(), num_classes, "labels")
    if len(classes) != 3 or len(set(classes)) != 3:
        raise ValueError(f"classes must name three different classes, got {tuple(classes)}")
    chosen = torch.tensor([int(label) for label in classes])
    require_classes(chosen, num_classes, "classes")

    chosen = chosen.to(rows.device)
    shown = torch.isin(row_labels, chosen)
    rows, row_labels = _finite(rows[shown], "features"), row_labels[shown]
    t = torch.cat([weight, offsets.unsqueeze(-1)], -1).to(rows.device)[chosen]
    t = _finite(t, "templates and bias")  # (3, D + 1)
    q, r = torch.linalg.qr((t[1:] - t[0]).T)
    q = q * torch.where(r.diagonal() < 0, -1, 1)  # (D + 1, 2)
    if r.diagonal().abs().min() <= 1e-12 * r.abs().max():
        raise ValueError(
            f"the templates of three classes must span a plane, got {tuple(classes)} on one line"
        )
    a, b, c = chosen.tolist()
    return PlaneProjection(
        points=(rows @ q[:-1] + q[-1]).cpu().numpy(),
        labels=row_labels.cpu().numpy(),
        templates=(t @ q).cpu().numpy(),
        classes=(a, b, c),
    )


def within_class_spread(features: Array, labels: Array) -> float:
    """Scatter of features around their class means relative to that of the class means, a ratio in 0..∞.

    tr Σ_W / tr Σ_B with Σ_W = Ave_c Ave_{i in c} (h_i − μ_c)(h_i − μ_c)ᵀ and
    Σ_B = Ave_c (μ_c − μ_G)(μ_c − μ_G)ᵀ, where μ_c is the mean feature of class c and μ_G = Ave_c μ_c. Every
    class has the same share, so splits with other class frequencies compare. 0 is full collapse; scaling,
    shifting or rotating the features changes nothing.

    Args:
        features: (…, D) floats.
        labels: (…) integers, of any range; at least two different ones.

    Returns:
        A float; inf where all class means coincide, nan where all features do.

    Raises:
        TypeError: an argument is no tensor or array, or does not hold floats or integers.
        ValueError: the shapes do not fit, a feature is not finite, or there are fewer than two classes.

    Cost: two passes over a float64 copy of the features.

    Example:
        >>> features = torch.tensor([[0.0, 1.0], [0.0, -1.0], [4.0, 1.0], [4.0, -1.0]])
        >>> within_class_spread(features, torch.tensor([0, 0, 1, 1]))
        0.25

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse during the terminal phase of deep
    learning training", for Σ_W and Σ_B, there of balanced classes; the ratio of traces stands in for its
    tr(Σ_W Σ_B⁺)/K, as it needs no (D, D) table. Of features scaled to length 1 it is 1/R² − 1, with the class
    separation R² of Kornblith et al. 2021, "Why Do Better Loss Functions Lead to Less Transferable
    Features?".
    """
    rows, row_labels = labelled_rows(features, labels, "features", "labels")
    h = _finite(rows, "features")
    present, of_row, counts = torch.unique(row_labels, return_inverse=True, return_counts=True)
    if len(present) < 2:
        raise ValueError(f"a spread needs features of at least two classes, got {len(present)}")
    sums = torch.zeros(len(present), h.shape[1], dtype=h.dtype, device=h.device).index_add(0, of_row, h)
    means = sums / counts.unsqueeze(-1)
    square = (h - means[of_row]).square().sum(-1)
    within = (square / counts[of_row]).sum() / len(present)
    between = (means - means.mean(0)).square().sum(-1).mean()
    return float(within / between)


def logit_gaps(logits: Array, target: Array) -> Floats:
    """How far each row's label logit stands above the mean of its other logits, in nats.

    gap = z_y − (1/(K−1)) Σ_{k≠y} z_k = K/(K−1)·(z_y − (1/K) Σ_k z_k).

    This is what theory's optimal gap z_y − z_k is to be compared with. At the optimum all wrong logits are
    equal, so any summary of them would do; in a trained network they are not, and the mean is the one that
    averages z_y − z_k over the wrong classes, while the largest of K−1 noisy logits lies above them all by an
    amount that grows with K and has nothing to do with smoothing.

    Args:
        logits: (…, K) finite floats, K ≥ 2.
        target: (…) integers in 0..K−1.

    Returns:
        (N,) float64, the rows in their order.

    Raises:
        TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
        ValueError: the shapes do not fit, a target is out of range or a logit is not finite.

    Cost: one float64 copy of the logits.

    Example:
        >>> logit_gaps(torch.tensor([[3.0, 1.0, -1.0], [0.0, 5.0, 2.0]]), torch.tensor([0, 1]))
        array([3., 4.])

    Source: He et al. 2019, "Bag of Tricks for Image Classification with Convolutional Neural Networks", §5.2,
    which sets the largest logit against the mean of the rest; a row that is classified wrongly differs.
    """
    rows, labels = classified_rows(logits, target, "logits")
    z = _finite(rows, "logits")
    label_logit = z.gather(-1, labels.unsqueeze(-1))
    # relative to the label's logit, so that a large common offset costs no digits
    return ((label_logit - z).sum(-1) / (z.shape[1] - 1)).cpu().numpy()


def logit_gap(logits: Array, target: Array) -> LogitGap:
    """The distribution of `logit_gaps` over all rows, in nats.

    Args:
        logits: (…, K) finite floats, K ≥ 2.
        target: (…) integers in 0..K−1.

    Returns:
        `LogitGap`, in float64.

    Raises:
        TypeError, ValueError: as `logit_gaps`, or there is no row.

    Cost: that of `logit_gaps`.

    Example:
        >>> gap = logit_gap(torch.tensor([[3.0, 1.0, -1.0], [0.0, 4.0, 2.0]]), torch.tensor([0, 1]))
        >>> gap.mean, gap.sd
        (3.0, 0.0)
    """
    gaps = logit_gaps(logits, target)
    if len(gaps) == 0:
        raise ValueError("a logit gap needs at least one row, got none")
    return LogitGap(
        rows=len(gaps),
        mean=float(gaps.mean()),
        sd=float(gaps.std()),
        quantile_levels=np.array(QUANTILE_LEVELS),
        quantiles=np.quantile(gaps, QUANTILE_LEVELS),
    )


def _finite(values: Tensor, name: str) -> Tensor:
    """The values in float64, refused where one is not finite."""
    values = values.double()
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got {float(values[~values.isfinite()][0])}")
    return values
