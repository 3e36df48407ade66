"""Neural collapse of class means and templates: how near they are to a simplex frame, and to each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelsmooth.measure.arrays import IN_CACHE


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameShape:
    """The distance of K centred vectors, class means or templates, from a simplex equiangular tight frame.

    In such a frame all lengths are equal and all angles have the cosine −1/(K−1); every number here is 0.
    """

    equinorm: float  # sd of the lengths over their mean
    equiangular: float  # sd of the cosines between two different vectors
    maximal_angle: float  # mean |cosine + 1/(K−1)| of two different vectors
    nc2: float  # ‖G/‖G‖ − E/‖E‖‖ of the K×K inner products G, with E = δ_jk − 1/K, in 0..2


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierGeometry:
    """The shape of the templates of a linear classifier, and of the features around them."""

    templates: FrameShape  # NC2 of the templates
    nc3: float  # NC3: ‖W/‖W‖ − M/‖M‖‖ of centred templates W and class means M, in 0..2
    duality_error: float  # ‖WMᵀ/‖WMᵀ‖ − E/‖E‖‖ with E = δ_jk − 1/K, in 0..2
    nc1_in_span: float  # NC1 of the features projected onto the span of the centred templates
    spread_in_span: float  # tr Σ_W / tr Σ_B there: what of the features' scatter the logits can see


def classifier_geometry(
    weight: Tensor,  # (C, D)
    centred: Tensor,  # (C, D)
    within: Tensor,  # (D, D)
) -> ClassifierGeometry:
    """The geometry of templates, not yet centred, and centred class means with the scatter around them."""
    templates = weight - weight.mean(0)
    _, lengths, axes = _principal(templates)
    onto = axes[lengths > 0]  # (R, D), orthonormal rows that span the templates
    seen, within_seen = centred @ onto.T, onto @ within @ onto.T
    return ClassifierGeometry(
        templates=frame_shape(templates),
        nc3=float((templates / templates.norm() - centred / centred.norm()).norm()),
        duality_error=_distance_from_frame(templates, centred),
        nc1_in_span=nc1(within_seen, seen),
        spread_in_span=float(within_seen.trace() / seen.square().sum(-1).mean()),
    )


def nc1(
    within: Tensor,  # (D, D), Σ_W
    centred: Tensor,  # (C, D), M
) -> float:
    """Collapse within classes, tr(Σ_W Σ_B⁺)/C; nan where the class means coincide."""
    _, lengths, axes = _principal(centred)
    # with M = U·diag(s)·V the eigenvectors of Σ_B = MᵀM/C are the rows v of V, and its eigenvalues s²/C
    scatter = ((axes @ within) * axes).sum(-1)
    filled = lengths > 0
    return float((scatter[filled] / lengths[filled].square()).sum()) if filled.any() else float("nan")


def _principal(centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition, with values that only rounding made set to 0.

    The threshold is the one of `torch.linalg.pinv` for MᵀM, whose eigenvalues are the squares.
    """
    u, s, v = torch.linalg.svd(centred, full_matrices=False)
    eps = torch.finfo(s.dtype).eps
    return u, torch.where(s.square() > centred.shape[1] * eps * s.max().square(), s, 0), v


def frame_shape(centred: Tensor) -> FrameShape:  # of (C, D)
    """The distances of centred vectors from a simplex frame, going through the (C, C) cosines in blocks."""
    num_classes = len(centred)
    pairs = num_classes * (num_classes - 1)
    lengths = centred.norm(dim=-1)
    directions = centred / lengths.unsqueeze(-1)
    mean = (directions.sum(0).square().sum() - directions.square().sum()) / pairs
    squares = deviations = 0.0
    numbers = torch.arange(num_classes, device=centred.device)
    for some in torch.split(numbers, max(1, IN_CACHE // num_classes)):
        cosines = (directions[some] @ directions.T)[some.unsqueeze(-1) != numbers]
        squares += float((cosines - mean).square().sum())
        deviations += float((cosines + 1 / (num_classes - 1)).abs().sum())
    return FrameShape(
        equinorm=float(lengths.std(correction=0) / lengths.mean()),
        equiangular=(squares / pairs) ** 0.5,
        maximal_angle=deviations / pairs,
        nc2=_distance_from_frame(centred, centred),
    )


def _distance_from_frame(
    a: Tensor,  # (C, D), centred
    b: Tensor,  # (C, D), centred
) -> float:
    """‖ABᵀ/‖ABᵀ‖ − E/‖E‖‖ with E = δ_jk − 1/C, by way of the smaller of a (C, C) and a (D, D) table."""
    num_classes, width = a.shape
    if num_classes <= width + 1:
        products = a @ b.T
        frame = torch.eye(num_classes, dtype=a.dtype, device=a.device) - 1 / num_classes
        return float((products / products.norm() - frame / frame.norm()).norm())
    # As the columns of A and B sum to 0, ⟨ABᵀ, E⟩ = tr ABᵀ. The rank D < C − 1 of ABᵀ keeps the square below
    # above 1/(C − 1), so that the difference costs few digits.
    norm = ((a.T @ a) * (b.T @ b)).sum().sqrt()
    return float((2 - 2 * (a * b).sum() / norm / (num_classes - 1) ** 0.5).sqrt())
