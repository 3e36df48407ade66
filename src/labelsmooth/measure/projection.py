"""Features of three classes in the plane through the templates of these classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labelsmooth.checks import FLOAT_DTYPES, require_classes
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.arrays import Counts, Floats
from labelsmooth.measure.inputs import Array, as_tensor, finite, labelled_rows


@dataclass(frozen=True, eq=False, kw_only=True)
class PlaneProjection:
    """Rows of three classes in the plane through the templates of these classes, in units of the features."""

    points: Floats  # (n, 2)
    labels: Counts  # (n,), each one of `classes`
    templates: Floats  # (3, 2), in the order of `classes`
    classes: tuple[int, int, int]

    @property
    def borders(self) -> Floats:
        """Where predictions change: unit vectors (3, 2) from the origin, in the order of `classes`.

        Along each, the two logits other than that class's are equal, and above its own.
        """
        borders = np.empty((3, 2))
        for third in range(3):
            first, second = np.delete(self.templates, third, axis=0)
            x, y = second - first
            direction = np.array([-y, x]) / np.hypot(x, y)
            borders[third] = direction if direction @ (first - self.templates[third]) > 0 else -direction
        return borders


def plane_projection(
    features: Array,  # (..., D)
    target: Array,  # (...)
    classifier_weight: Array,  # (K, D)
    classifier_bias: Array,  # (K,)
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
        target: (…) integers in 0..K−1.
        classifier_weight: (K, D) floats, the weight of that layer, whose rows are the templates.
        classifier_bias: (K,) floats, its bias.
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
    rows, row_labels = labelled_rows(features, target, "features", "target")
    weight = as_tensor(classifier_weight, "classifier_weight")
    offsets = as_tensor(classifier_bias, "classifier_bias")
    for name, value in (("classifier_weight", weight), ("classifier_bias", offsets)):
        if value.dtype not in FLOAT_DTYPES:
            raise InputTypeError(f"{name} must hold floating-point values, got {value.dtype}")
    if weight.dim() != 2 or weight.shape[1] != rows.shape[1]:
        raise InputError(f"classifier_weight must have shape (K, {rows.shape[1]}), got {tuple(weight.shape)}")
    num_classes = weight.shape[0]
    if offsets.shape != (num_classes,):
        raise InputError(f"classifier_bias must have shape ({num_classes},), got {tuple(offsets.shape)}")
    require_classes(row_labels.cpu(), num_classes, "target")
    if len(classes) != 3 or len(set(classes)) != 3:
        raise InputError(f"classes must name three different classes, got {tuple(classes)}")
    chosen = torch.tensor([int(label) for label in classes])
    require_classes(chosen, num_classes, "classes")

    chosen = chosen.to(rows.device)
    shown = torch.isin(row_labels, chosen)
    rows, row_labels = finite(rows[shown], "features"), row_labels[shown]
    t = torch.cat([weight, offsets.unsqueeze(-1)], -1).to(rows.device)[chosen]
    t = finite(t, "classifier_weight and classifier_bias")  # (3, D + 1)
    q, r = torch.linalg.qr((t[1:] - t[0]).T)
    q = q * torch.where(r.diagonal() < 0, -1, 1)  # (D + 1, 2)
    if not _has_rank_2(r):
        raise InputError(
            f"the templates of three classes must span a plane, got {tuple(classes)} on one line"
        )
    a, b, c = chosen.tolist()
    return PlaneProjection(
        points=(rows @ q[:-1] + q[-1]).cpu().numpy(),
        labels=row_labels.cpu().numpy(),
        templates=(t @ q).cpu().numpy(),
        classes=(a, b, c),
    )


def spans_plane(weight: Tensor, bias: Tensor, classes: Sequence[int] = (0, 1, 2)) -> bool:
    """Whether the templates of three classes, rows of (K, D) with their (K,) biases, span a plane."""
    if len(weight) <= max(classes):
        return False
    t = torch.cat([weight, bias.unsqueeze(-1)], -1)[list(classes)].double()
    return _has_rank_2(torch.linalg.qr((t[1:] - t[0]).T).R)


def _has_rank_2(r: Tensor) -> bool:  # (2, 2), of a QR decomposition
    return bool(r.diagonal().abs().min() > 1e-12 * r.abs().max())
