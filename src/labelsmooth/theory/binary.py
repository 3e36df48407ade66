"""What ε asks of sigmoids, whose labels hold or not each by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from labelsmooth.checks import require_num_classes
from labelsmooth.errors import InputError
from labelsmooth.smoothing import EPS_ROUNDING, binary_convention
from labelsmooth.theory.numbers import in_range, log, times


@dataclass(frozen=True, kw_only=True)
class BinaryLevels:
    """A number for labels that hold, and one for labels that do not."""

    on_label: float
    off_label: float

    def map(self, function: Callable[[float], float]) -> BinaryLevels:
        """Apply a function to both."""
        return BinaryLevels(on_label=function(self.on_label), off_label=function(self.off_label))


def binary_target(eps: float, convention: str = "half", num_labels: int | None = None) -> BinaryLevels:
    """The smoothed label of a sigmoid, which is also the probability that fits it best.

    `half`: 1−ε/2 and ε/2. `full`: 1−ε and ε. The rest as `ls.binary_conventions()` writes them.

    Args:
        eps: ε as the convention takes it, in [0, 1], of `full` and its like in [0, ½].
        convention: a name of `ls.binary_conventions()`.
        num_labels: K ≥ 2, how many labels share a row, for those that depend on it.

    Returns:
        `BinaryLevels` in [0, 1].

    Raises:
        TypeError: `eps` or `num_labels` is not a number of its kind.
        ValueError: ε outside its range, an unknown convention, or K missing or below 2.

    Example:
        >>> binary_target(0.1)
        BinaryLevels(on_label=0.95, off_label=0.05)

    Source: the gradient of the loss in the logit, σ(z) − y′, is 0 at σ(z) = y′.
    """
    eps = in_range(eps, 0.0, "eps")
    record = binary_convention(convention, eps).convention
    classes = 0
    if record.half_eps is None:
        if num_labels is None:
            raise InputError(f"the convention {convention} needs num_labels, got None")
        require_num_classes(num_labels)
        classes = num_labels
    return BinaryLevels(
        on_label=float(record.on_label(eps, classes)), off_label=float(record.off_label(eps, classes))
    )


def binary_optimal_logit(eps: float, convention: str = "half", num_labels: int | None = None) -> BinaryLevels:
    """The logits at which the smoothed loss of a sigmoid is smallest, log(y′/(1−y′)), in nats.

    ± log((2−ε)/ε) for `half`.

    Args, Raises: as `binary_target`.

    Returns:
        `BinaryLevels`; ±∞ where no finite logit fits the label.

    Example:
        >>> round(binary_optimal_logit(0.1).on_label, 3)
        2.944

    Source: `binary_target`.
    """
    return binary_target(eps, convention, num_labels).map(lambda share: log(share) - log(1 - share))


def binary_entropy_floor(eps: float, convention: str = "half", num_labels: int | None = None) -> BinaryLevels:
    """The floor of the smoothed loss of a sigmoid, in nats: no logit makes it smaller.

    The entropy −y′·log y′ − (1−y′)·log(1−y′).

    Args, Raises: as `binary_target`.

    Returns:
        `BinaryLevels` ≥ 0; 0 at ε = 0.

    Example:
        >>> round(binary_entropy_floor(0.1).on_label, 4)
        0.1985

    Source: Gibbs' inequality.
    """
    return binary_target(eps, convention, num_labels).map(
        lambda share: -times(share, log(share)) - times(1 - share, log(1 - share))
    )


def binary_convert(eps: float, source: str, to: str, num_labels: int | None = None) -> float:
    """The ε with which the convention `to` gives the labels that `source` gives at `eps`.

    From `full` to `half` it is 2ε.

    Args:
        eps: as of `source`.
        source, to: conventions, as in `binary_target`.
        num_labels: as in `binary_target`.

    Returns:
        ε in [0, 1].

    Raises:
        TypeError, ValueError: as `binary_target`; or no ε of `to` gives those labels.

    Example:
        >>> binary_convert(0.05, "full", "keras")
        0.1

    Source: `ls.binary_conventions()`; equal labels have equal losses and gradients.
    """
    wanted = binary_target(eps, source, num_labels)
    record = binary_convention(to, 0.0).convention
    if eps == 0:
        return 0.0
    # every convention is linear in ε, so that one value of it tells the slope
    slope = binary_target(0.25, to, num_labels).off_label / 0.25
    converted = wanted.off_label / slope
    largest = 1.0 if record.half_eps is None else 1 / float(record.half_eps(1.0))
    if converted <= largest + EPS_ROUNDING:
        converted = min(converted, largest)
        if math.isclose(binary_target(converted, to, num_labels).on_label, wanted.on_label, abs_tol=1e-12):
            return converted
    raise InputError(f"no eps of {to} gives the labels of {source} at {eps:g}")
