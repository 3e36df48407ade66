"""The distance of probabilities from frequencies where labels hold or not each by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.checks import FLOAT_DTYPES, require_int
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.arrays import IN_CACHE, Bools, Floats, State, pieces
from labelsmooth.measure.bins import ClasswiseBins, classwise_bins
from labelsmooth.measure.inputs import Array, as_tensor, row_weights
from labelsmooth.measure.peers import Edges, binning, layout
from labelsmooth.measure.protocol import (
    Summable,
    Table,
    load_arrays,
    require_same_options,
    unchanged_on_error,
)
from labelsmooth.measure.table import ClassTable

_SUMS = ("weight", "holds", "correct", "nll", "brier")


@dataclass(frozen=True, eq=False, kw_only=True)
class MultilabelResult:
    """The numbers of K labels, each an array (K,); nan for a label of which nothing counts.

    Attributes:
        weight: of the rows in which the label counts.
        frequency: the share of these in which it holds.
        accuracy: the share in which the larger probability is right; ½ counts for "does not hold".
        nll: the mean of −log of the probability of what is so, in nats.
        brier: the mean of (p − y)² over both classes, 2·(p − y)², in 0..2.
        ece: Σ_b share_b·|frequency_b − p_b| over bins of the probability that the label holds, in 0..1.
        bins: what a reliability diagram of each label shows.
        micro_ece: that of all labels in one, in 0..1.
    """

    weight: Floats
    frequency: Floats
    accuracy: Floats
    nll: Floats
    brier: Floats
    ece: Floats
    bins: ClasswiseBins
    micro_ece: float

    def macro(self) -> dict[str, float]:
        """The means over labels that count, by name: each label is worth the same."""
        return {name: float(np.nanmean(getattr(self, name))) for name in ("accuracy", "nll", "brier", "ece")}

    def micro(self) -> dict[str, float]:
        """The means over rows and labels, by name: each decision is worth its weight."""
        share = self.weight / self.weight.sum()
        means = {name: float(np.nansum(share * getattr(self, name))) for name in ("accuracy", "nll", "brier")}
        return {**means, "ece": self.micro_ece}


class MultilabelCalibration(Summable):
    """Accuracy, NLL, Brier score and calibration error of each label, from a stream of batches.

    The probability of a label is σ(z), and the ECE compares that it holds with how often it does, as
    binary calibration errors do: not the confidence in the larger of "holds" and "does not".

    Args:
        num_bins: B ≥ 1, of width 1/B.
        edges: "left_open" (the default) or "right_open", as of `Calibration`.

    Raises:
        TypeError: `num_bins` is not an int.
        ValueError: `num_bins` < 1, or `edges` is none of its words.

    Cost: the state is K·(6·B + 5) numbers, whatever the number of rows.

    Example:
        >>> calibration = MultilabelCalibration()
        >>> logits = torch.tensor([[2.0, -1.0], [1.0, 3.0], [-2.0, -3.0]])
        >>> calibration.update(logits, torch.tensor([[1, 0], [1, 1], [1, 0]]))
        >>> result = calibration.compute()
        >>> result.nll.round(3), round(result.macro()["ece"], 3), round(result.micro()["accuracy"], 3)
        (array([0.856, 0.137]), 0.272, 0.833)

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §2, of one label at a time.
    """

    def __init__(self, num_bins: int = 15, edges: Edges | None = None) -> None:
        require_int(num_bins, "num_bins")
        if num_bins < 1:
            raise InputError(f"num_bins must be at least 1, got {num_bins}")
        self._layout = layout(num_bins, binning(edges, None))
        self.num_bins = num_bins
        self.edges: Edges = self._layout.binning.edges
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._bins = ClassTable(self._layout)
        self._sums = {name: np.zeros(0) for name in _SUMS}

    def update(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: float | None = None,
    ) -> None:
        """Count rows of logits.

        Args:
            logits: (…, K) floats, one for each label; ±∞ is a probability of 1 or 0.
            target: (…, K), 1 or True where the label holds, 0 where not, or `ignore_index`.
            weight: (…) of the rows, finite and ≥ 0; None for 1.
            ignore_index: the target of a label that does not count.

        Raises:
            TypeError: an argument is no tensor or array, or `logits` does not hold floats.
            ValueError: the shapes do not fit, a target is neither 0 nor 1, a logit that counts is NaN, or K
                is not that of the rows before.

        Cost: some passes over the logits in float64, 2 MB of them at a time.
        """
        z, y, weights = _rows(logits, target, weight, ignore_index)
        if bool((z.isnan() & (weights > 0)).any()):
            raise InputError("logits must not be NaN")
        self._grow(z.shape[-1])
        for block, holds, w in pieces(z, y, weights, numbers=IN_CACHE):
            self._add(block, holds, w)

    def _add(self, z: Tensor, holds: Tensor, weights: Tensor) -> None:
        z = torch.where(weights > 0, z, 0)
        p = z.sigmoid()
        per_decision = {
            "weight": torch.ones_like(p),
            "holds": holds.double(),
            "correct": ((z > 0) == holds).double(),
            "nll": -F.logsigmoid(torch.where(holds, z, -z)),
            "brier": 2 * (p - holds.double()).square(),
        }
        for name, values in per_decision.items():
            # a weight of 0 leaves an infinite loss out
            self._sums[name] = self._sums[name] + torch.where(weights > 0, weights * values, 0).sum(0).numpy()
        known: Bools = holds.numpy()
        self._bins.add(p.numpy(), known, weights.numpy())

    def merge(self, other: MultilabelCalibration) -> None:
        """Add the rows that `other` counted to this measure; `other` stays as it is.

        Raises:
            ValueError: the two do not have the same options, or not the same labels.
        """
        require_same_options(self.options(), other.options())
        if len(other._sums["weight"]):
            self._grow(len(other._sums["weight"]))
            for name, array in other.sums().items():
                self.sums()[name][...] += array

    def _grow(self, num_labels: int) -> None:
        """Make room for K labels, or raise `ValueError` where there are others."""
        self._bins.grow(num_labels)
        if not len(self._sums["weight"]):
            self._sums = {name: np.zeros(num_labels) for name in _SUMS}

    def compute(self) -> MultilabelResult:
        """The numbers of all rows counted so far.

        Raises:
            ValueError: no label of any row counted.
        """
        weight = self._sums["weight"]
        if not weight.any():
            raise InputError("calibration needs at least one label that counts, got none")
        with np.errstate(invalid="ignore"):
            means = {name: self._sums[name] / weight for name in _SUMS[1:]}
        bins = classwise_bins(self._bins, weight[:, None])
        class_weight, class_probs = (sums.sum(0) for sums in self._bins.class_sums)
        return MultilabelResult(
            weight=weight.copy(),
            frequency=means["holds"],
            accuracy=means["correct"],
            nll=means["nll"],
            brier=means["brier"],
            ece=np.where(weight > 0, bins.ece, np.nan),
            bins=bins,
            micro_ece=float(np.abs(class_weight[1] - class_probs.sum(0)).sum() / weight.sum()),
        )

    def values(self) -> dict[str, float]:
        """The numbers of all decisions, by their names in the catalogue."""
        return self.compute().micro()

    def figures(self) -> dict[str, Table]:
        """The bins of every label as a table."""
        bins = self.compute().bins
        return {"classwise_reliability": bins.columns(np.arange(len(bins.count)))}

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        return f"{self.num_bins} {self.edges}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted, as arrays that sum; the labels are in it from its first row on."""
        return {name: array.copy() for name, array in self.sums().items()}

    def sums(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of `state`, not copied."""
        return self._sums | self._bins.arrays()

    def load(self, state: State) -> None:
        """Take the rows of a `state`, of a measure with the same options, in place of those counted here.

        Raises:
            ValueError: it is the state of a measure with other options.
        """
        with unchanged_on_error(self):
            self.reset()
            if "class_counts" in state:
                self._grow(len(state["class_counts"]))
            load_arrays(self.sums(), state, self.options())

    def load_sums(self, sums: State) -> None:
        """Take the rows of such sums, as `load` does."""
        self.load(sums)

    @classmethod
    def standard(cls, *, num_classes: int, num_bins: int) -> Self:  # noqa: ARG003
        """Make the measure with bins of equal width."""
        return cls(num_bins)


def sigmoid_pairs(logits: Tensor) -> Tensor:
    """The logits (0, z) of the two classes "does not hold" and "holds", of which σ(z) is the softmax.

    With them, and labels as class indices, every measure and scaling of classifiers takes sigmoids: a
    temperature of all labels is `TemperatureScaling().fit(sigmoid_pairs(logits), labels)`, one for each that
    of `GroupTemperatureScaling`.

    Args:
        logits: (…) floats.

    Returns:
        (…, 2), differentiable.

    Raises:
        TypeError: `logits` is no tensor of floats.

    Example:
        >>> sigmoid_pairs(torch.tensor([2.0])).softmax(-1)
        tensor([[0.1192, 0.8808]])
    """
    if not isinstance(logits, Tensor) or logits.dtype not in FLOAT_DTYPES:
        raise InputTypeError("logits must be a tensor of floats")
    return torch.stack([torch.zeros_like(logits), logits], -1)


def _rows(
    logits: Array, target: Array, weight: Array | None, ignore_index: float | None
) -> tuple[Tensor, Tensor, Tensor]:  # (N, K) each, on the CPU
    z, y = as_tensor(logits, "logits"), as_tensor(target, "target")
    if z.dtype not in FLOAT_DTYPES:
        raise InputTypeError(f"logits must hold floating-point values, got {z.dtype}")
    if z.dim() == 0 or z.shape != y.shape:
        raise InputError(
            f"target must have the shape of logits, (…, K), got {tuple(y.shape)} with {tuple(z.shape)}"
        )
    columns = z.shape[-1]
    given = None if weight is None else row_weights(weight, z.shape[:-1], "the rows of logits")
    z, y = z.reshape(-1, columns).cpu(), y.reshape(-1, columns).cpu()
    weights = torch.ones(len(z), dtype=torch.float64) if given is None else given
    each = weights.unsqueeze(-1).expand(z.shape)
    if ignore_index is not None:
        each = torch.where(y == ignore_index, 0, each)
    wrong = (y != 0) & (y != 1) & (each > 0)
    if bool(wrong.any()):
        raise InputError(f"target must be 0 or 1, got {float(y[wrong][0]):g}")
    return z, y == 1, each
