"""What a network that is free to choose its features does under smoothing and weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from labelsmooth.checks import require_int, require_num_classes, require_positive
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.theory.softmax import convert


@dataclass(frozen=True, kw_only=True)
class FeatureOptimum:
    """The global optimum of unconstrained features: a simplex whose corners are the classes.

    Attributes:
        gap: the logit gap z_y − z_k, in nats; 0 where decay and smoothing leave nothing to learn.
        confidence: p_y of each training row.
        decay_eps: ε′, the smoothing of `uniform` whose optimum without decay is this one.
        weight_norm: ‖w_k‖ of each class's row of the last layer.
        feature_norm: ‖h‖ of each row's features.
        loss: the objective, smoothed cross-entropy and both decays, in nats.
    """

    gap: float
    confidence: float
    decay_eps: float
    weight_norm: float
    feature_norm: float
    loss: float


def unconstrained_features(
    eps: float,
    num_classes: int,
    rows_per_class: int,
    weight_decay: float,
    feature_decay: float,
    convention: str = "uniform",
) -> FeatureOptimum:
    """The optimum of last layer W and features H, both free, under the smoothed loss and decay.

    The objective is the mean smoothed cross-entropy of the logits W·H plus λ_W/2·‖W‖² + λ_H/2·‖H‖². Its
    minimum has the logits gap·(δ − 1/K) with gap = log(K/ε′ − K + 1), where ε′ = ε + K·√(n·λ_W·λ_H): decay
    acts as additional smoothing. From ε′ = 1 on everything is 0.

    Args:
        eps: ε as in `target`; of `uniform` also negative (`ls.uniform(ε, signed=True)`).
        num_classes: K ≥ 2; the features have at least K−1 dimensions.
        rows_per_class: n ≥ 1, the same for each class.
        weight_decay: λ_W > 0.
        feature_decay: λ_H > 0.
        convention: as in `convert` to "uniform".

    Returns:
        `FeatureOptimum`.

    Raises:
        TypeError, ValueError: as `convert`; a number out of range; or an ε of −K·√(n·λ_W·λ_H) or less, under
            which the objective has no minimum.

    Example:
        >>> found = unconstrained_features(0.1, 10, 100, 5e-4, 1e-5)
        >>> round(found.gap, 3), round(found.decay_eps, 4)
        (4.436, 0.1071)

    Source: Guo et al. 2025, Cross Entropy versus Label Smoothing: A Neural Collapse Perspective,
    arXiv:2402.03979, Theorem 1; by ‖Z‖_* = min ½‖W‖² + ½‖H‖² over W·H = Z.
    """
    require_num_classes(num_classes)
    require_int(rows_per_class, "rows_per_class")
    if rows_per_class < 1:
        raise InputError(f"rows_per_class must be at least 1, got {rows_per_class}")
    require_positive(weight_decay, "weight_decay")
    require_positive(feature_decay, "feature_decay")
    if isinstance(eps, bool) or not isinstance(eps, Real):
        raise InputTypeError(f"eps must be a number, got {type(eps).__name__}")
    if convention != "uniform" or eps >= 0:
        eps = convert(eps, num_classes, convention, "uniform")
    pull = math.sqrt(rows_per_class * weight_decay * feature_decay)
    decay_eps = eps + num_classes * pull
    if decay_eps <= 0:
        raise InputError(
            f"eps must be above {-num_classes * pull:g} for this decay, else there is no minimum, got {eps:g}"
        )
    decay_eps = min(decay_eps, 1.0)
    gap = math.log(num_classes / decay_eps - num_classes + 1)
    others = (num_classes - 1) * math.exp(-gap)
    spectrum = gap * (num_classes - 1) * math.sqrt(rows_per_class)  # the nuclear norm of the logits
    cross_entropy = math.log1p(others) + eps * (1 - 1 / num_classes) * gap
    return FeatureOptimum(
        gap=gap,
        confidence=1 / (1 + others),
        decay_eps=decay_eps,
        weight_norm=math.sqrt(spectrum * math.sqrt(feature_decay / weight_decay) / num_classes),
        feature_norm=math.sqrt(
            spectrum * math.sqrt(weight_decay / feature_decay) / (num_classes * rows_per_class)
        ),
        loss=cross_entropy + math.sqrt(weight_decay * feature_decay) * spectrum,
    )
