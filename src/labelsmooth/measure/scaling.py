"""Post-hoc scaling of logits: fitted on validation rows, applied to others."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import Any, Self, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import is_batched, is_traced
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.arrays import IN_CACHE, Floats, pieces
from labelsmooth.measure.batches import Batch, parts_of, require_batches
from labelsmooth.measure.inputs import (
    Array,
    as_tensor,
    distributions,
    logit_rows,
    look_like_probabilities,
    probability_rows,
    score_rows,
    warn_of_probabilities,
    weight_of_each,
)
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.scaling_fit import (
    CHANGE_TOLERANCE,
    HIGHEST,
    LOWEST,
    ROUNDS,
    Pass,
    all_equal,
    along_log_beta,
    lbfgs_round,
    minimum,
)

_ArrayT = TypeVar("_ArrayT", Tensor, npt.NDArray[Any])


class _Scaling(ABC):
    """The base of the scalings: the three ways in which rows come."""

    nll_after: float
    _from_probs = False  # whether probabilities were fitted on

    def fit(
        self,
        logits: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> Self:
        """Find the scaling, on validation rows: measure what it does on others.

        Args:
            logits: (…, K) floats, K ≥ 2; −inf is a class with probability 0 whatever the scaling.
            target: (…) integers in 0..K−1, or `ignore_index`.
            weight: (…) of the rows, finite and ≥ 0; None for 1. Rows of weight 0 do not count.
            ignore_index: rows with this target do not count.
            class_axis: of `logits`; 1 in maps (N, K, H, W) with targets (N, H, W).

        Returns:
            This object with its attributes set.

        Raises:
            TypeError: an argument is no tensor or array, or does not hold floats or integers.
            ValueError: no row counts, the shapes do not fit, a target is out of range, a weight is negative
                or not finite, a logit is NaN or +inf, or the logit of a label is −inf, which makes the NLL
                infinite whatever the scaling.

        Cost: passes over the logits, 2 MB of them in float64 at a time: four to nine for a temperature, some
            tens for a vector.
        """
        rows = _counting(
            *logit_rows(logits, target, weight, ignore_index=ignore_index, class_axis=class_axis)
        )
        self._fit(lambda: pieces(*rows, numbers=IN_CACHE))
        self._from_probs = False
        return self

    def fit_probs(
        self,
        probs: Array,
        target: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
        class_axis: int = -1,
    ) -> Self:
        """Find the scaling on probabilities, with their logarithms as logits; see `transform_probs`.

        Args:
            probs: (…, K) floats in 0..1, each row summing to 1 within 1e-3. 0 is allowed but for labels.
            target, weight, ignore_index, class_axis: as for `fit`.

        Raises:
            TypeError, ValueError: as `fit`, or a row is no distribution.
        """
        rows, labels, weights = _counting(
            *probability_rows(probs, target, weight, ignore_index=ignore_index, class_axis=class_axis)
        )
        logits = rows.log()
        self._fit(lambda: pieces(logits, labels, weights, numbers=IN_CACHE))
        self._from_probs = True
        return self

    def fit_batches(
        self, batches: Iterable[Batch], *, ignore_index: int | None = None, class_axis: int = -1
    ) -> Self:
        """Find the scaling on batches, gone through once for each pass, which need not fit into memory.

        Args:
            batches: an iterable that gives the same rows each time it is gone through, in any order: a list,
                a DataLoader, but no generator. A batch is (logits, target) or (logits, target, weight), or a
                dict with "logits", "labels" or "target", and perhaps "weight".
            ignore_index, class_axis: as for `fit`.

        Raises:
            TypeError, ValueError: as `fit`; `batches` can be gone through only once, or changes between.
        """
        require_batches(batches)
        if isinstance(batches, Iterator):
            raise InputTypeError(
                f"batches must be something that can be gone through again, got {type(batches).__name__}"
            )
        self._fit(_same_rows(batches, ignore_index, class_axis))
        self._from_probs = False
        return self

    def transform(self, logits: _ArrayT, *, class_axis: int = -1) -> _ArrayT:
        """The scaled logits, in which −inf stays −inf.

        Args:
            logits: (…, K) floats, a tensor or an array; of probabilities take `transform_probs`.
            class_axis: of `logits`; 1 in maps (N, K, H, W).

        Returns:
            The same type, shape and dtype; differentiable where a tensor is.

        Raises:
            TypeError: `logits` is no tensor or array of floats.
            ValueError: nothing was fitted, K is not that of the rows fitted on, or probabilities are given to
                a scaling of `fit_probs`. Where they are given to another one there is a warning.

        Cost: a few passes.
        """
        rows = self._rows(logits, "logits", class_axis)
        if not is_traced(rows) and not is_batched(rows):
            if self._from_probs and look_like_probabilities(rows):
                raise InputError(
                    "logits must be logarithms of probabilities, as those fitted on, got probabilities: "
                    "transform_probs takes these"
                )
            warn_of_probabilities(rows, "logits")
        scores = logits if isinstance(logits, Tensor) else as_tensor(logits, "logits")
        scaled = self._scaled(scores.movedim(class_axis, -1)).movedim(-1, class_axis)
        return scaled if isinstance(logits, Tensor) else scaled.numpy()

    def transform_probs(self, probs: _ArrayT, *, class_axis: int = -1) -> _ArrayT:
        """The scaled probabilities, in which 0 stays 0: the softmax of their scaled logarithms.

        Args:
            probs: (…, K) floats in 0..1, each row summing to 1 within 1e-3, a tensor or an array.
            class_axis: of `probs`; 1 in maps (N, K, H, W).

        Returns:
            Probabilities of the same type, shape and dtype; differentiable where a tensor is.

        Raises:
            TypeError: `probs` is no tensor or array of floats.
            ValueError: nothing was fitted, K is not that of the rows fitted on, or a row is no distribution.

        Cost: a few passes, in float64.
        """
        distributions(self._rows(probs, "probs", class_axis), "probs")
        given = probs if isinstance(probs, Tensor) else as_tensor(probs, "probs")
        log_probs = given.double().clamp_min(0).log().movedim(class_axis, -1)  # rounding may be below 0
        scaled = self._scaled(log_probs).softmax(-1).movedim(-1, class_axis).to(given.dtype)
        return scaled if isinstance(probs, Tensor) else scaled.numpy()

    def _rows(self, scores: Array, name: str, class_axis: int) -> Tensor:  # (N, K)
        self._require_fitted("transform")
        return score_rows(scores, name, class_axis=class_axis)

    def _require_fitted(self, what: str) -> None:
        if not hasattr(self, "nll_after"):
            raise InputError(f"{what} needs a scaling, got one that was not fitted: call fit first")

    @abstractmethod
    def _fit(self, one_pass: Pass) -> None: ...

    @abstractmethod
    def _scaled(self, logits: Tensor) -> Tensor: ...  # of (…, K)


class TemperatureScaling(_Scaling):
    """Temperature scaling: the one T > 0 for which softmax(z/T) has the lowest mean NLL, in nats.

    NLL(β) = mean [log Σ_k exp(β·z_k) − β·z_y] with β = 1/T is convex in β, so a root of its derivative is its
    minimum. `fit` keeps the root between two values of log β and takes Newton steps, or halves the interval
    where a step would leave it or is not getting shorter. T can come out neither zero nor negative. It is 1
    where every row's logits are all equal.

    Attributes:
        temperature: T in 1e-4..1e4; above 1 for an over-confident classifier, below 1 for an under-confident.
        nll_before: mean NLL of the rows fitted on, at T = 1.
        nll_after: mean NLL of the same rows at `temperature`.
        at_boundary: True where the NLL still falls at an end of 1e-4..1e4, which `temperature` then is. At
            the lower end each label has its row's largest logit, so that no confidence is too high; at the
            upper the labels' logits lie below the average, so that none is too low. These rows then do not
            tell a temperature, and the one given is of no use on others.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        >>> scaling = TemperatureScaling().fit(logits, torch.tensor([0, 0, 1, 1]))
        >>> round(scaling.temperature, 4), round(scaling.nll_before, 4), round(scaling.nll_after, 4)
        (3.641, 1.0181, 0.5623)
        >>> scaling.transform(logits)[0].softmax(-1)
        tensor([0.7500, 0.2500])

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2. It is the T = 1/β of
    scikit-learn's `CalibratedClassifierCV(method="temperature")`, which looks in 4.5e-5..2.2e4.
    """

    temperature: float
    nll_before: float
    at_boundary: bool

    def _fit(self, one_pass: Pass) -> None:
        start = along_log_beta(one_pass, 0.0)
        if math.isnan(start.nll):
            raise InputError(
                "each row of logits must hold a finite value and neither NaN nor +inf, got others"
            )
        if math.isinf(start.nll):
            raise InputError(
                "the logit of each row's label must be finite, and its probability not 0, to fit a scaling, "
                "got -inf"
            )
        self.nll_before = start.nll
        self.at_boundary = False
        if start.slope == 0 and all_equal(one_pass):
            self.temperature, self.nll_after, self._log_error = 1.0, start.nll, math.inf
            return
        log_beta, end, self.at_boundary = minimum(one_pass, start)
        if self.at_boundary:
            self.temperature, self._log_error = HIGHEST if log_beta < 0 else LOWEST, math.inf
        else:
            self.temperature, self._log_error = math.exp(-log_beta), end.error
        self.nll_after = end.nll

    def values(self) -> dict[str, float]:
        """The temperature by its name in the catalogue."""
        self._require_fitted("values")
        return {"temperature": self.temperature}

    def intervals(self, *, level: float = 0.95) -> dict[str, Interval]:
        """The interval of the temperature by its name in the catalogue."""
        return {"temperature": self.interval(level)}

    def interval(self, level: float = 0.95) -> Interval:
        """The confidence interval of T as far as the rows fitted on leave it open.

        log T is the root of a mean over rows. Its standard error, which holds whether or not the scaled
        probabilities are right, is the "sandwich" se = √(Σ w²s²) / Σ w·Var_p(z/T), with s = E_p(z/T) − z_y/T
        of the row. The interval is T·exp(± quantile of the normal distribution · se).

        Args:
            level: between 0 and 1.

        Returns:
            `Interval`; from 0 to inf where the rows do not tell a temperature.

        Raises:
            ValueError: no temperature was fitted, or `level` is not between 0 and 1.
        """
        self._require_fitted("interval")
        if not 0 < level < 1:
            raise InputError(f"level must lie between 0 and 1, got {level}")
        if math.isinf(self._log_error):
            return Interval(value=self.temperature, low=0.0, high=math.inf)
        factor = math.exp(NormalDist().inv_cdf((1 + level) / 2) * self._log_error)
        return Interval(value=self.temperature, low=self.temperature / factor, high=self.temperature * factor)

    def __repr__(self) -> str:
        if not hasattr(self, "temperature"):
            return "TemperatureScaling(), not fitted"
        boundary = ", at_boundary=True" if self.at_boundary else ""
        return f"TemperatureScaling(temperature={self.temperature:.4g}{boundary})"

    def _scaled(self, logits: Tensor) -> Tensor:
        return logits / self.temperature


class VectorScaling(_Scaling):
    """Vector scaling: the a and b, one of each a class, for which softmax(a·z + b) has the lowest mean NLL.

    The NLL is convex in both. `fit` starts at a = 1/T, b = 0 of `TemperatureScaling`, and never ends
    above its NLL, and minimises by L-BFGS, each class in the units in which its own second derivatives are 1.
    A class that no row has, or one told apart by the logits without a mistake, has no best a and b: they then
    grow until the NLL hardly falls.

    Attributes:
        scale: (K,) float64, a.
        bias: (K,) float64, b; they sum to 0, as a constant changes no probability.
        nll_before: mean NLL of the rows fitted on, unscaled.
        nll_after: mean NLL of the same rows, scaled.
        converged: whether the NLL fell by 1e-10 at most in the last of up to 20 rounds of 40 iterations.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> scaling = VectorScaling().fit(logits, torch.tensor([0, 0, 1, 1, 0]))
        >>> scaling.transform(logits)[::3].softmax(-1)
        tensor([[0.6667, 0.3333],
                [0.5000, 0.5000]])

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2.
    """

    scale: Floats
    bias: Floats
    nll_before: float
    converged: bool

    def _fit(self, one_pass: Pass) -> None:
        started = TemperatureScaling()
        started._fit(one_pass)
        self.nll_before = started.nll_before
        self.nll_after = started.nll_after
        rows, _, _ = next(iter(one_pass()))
        scale = torch.full_like(rows[0], 1 / started.temperature)
        bias = torch.zeros_like(scale)
        self.converged = False
        for _ in range(ROUNDS):
            before = self.nll_after
            self.nll_after, scale, bias = lbfgs_round(one_pass, before, scale, bias)
            self.converged = before - self.nll_after <= CHANGE_TOLERANCE
            if self.converged:
                break
        self.scale = scale.cpu().numpy()
        self.bias = (bias - bias.mean()).cpu().numpy()

    def __repr__(self) -> str:
        if not hasattr(self, "scale"):
            return "VectorScaling(), not fitted"
        return f"VectorScaling(classes={self.scale.size}, converged={self.converged})"

    def _rows(self, scores: Array, name: str, class_axis: int) -> Tensor:
        rows = super()._rows(scores, name, class_axis)
        if rows.shape[-1] != self.scale.size:
            raise InputError(
                f"{name} must have {self.scale.size} classes, as those fitted on, got {rows.shape[-1]}"
            )
        return rows

    def _scaled(self, logits: Tensor) -> Tensor:
        scale, bias = (torch.from_numpy(part).to(logits) for part in (self.scale, self.bias))
        there = logits != -torch.inf
        return torch.where(there, torch.where(there, logits, 0) * scale + bias, -torch.inf)


def _counting(
    rows: Tensor,  # (N, K)
    labels: Tensor,  # (N,)
    weights: Tensor | None,  # (N,)
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows with their weights, 1 for each where there are none, all in one place."""
    return rows, labels, weight_of_each(rows, weights).to(rows.device)


def _same_rows(batches: Iterable[Batch], ignore_index: int | None, class_axis: int) -> Pass:
    """Passes over batches; a `ValueError` where one has other rows than the first in number or classes."""
    first: list[int] = []

    def one_pass() -> Iterator[tuple[Tensor, ...]]:
        count = 0
        for batch in batches:
            rows, labels, weights = logit_rows(
                *parts_of(batch), ignore_index=ignore_index, class_axis=class_axis
            )
            if len(first) == 0:
                first.append(rows.shape[-1])
            if rows.shape[-1] != first[0]:
                raise InputError(f"all batches must have {first[0]} classes, got one of {rows.shape[-1]}")
            count += rows.shape[0]
            yield from pieces(*_counting(rows, labels, weights), numbers=IN_CACHE)
        if len(first) == 1:
            first.append(count)
        if first and count != first[1]:
            raise InputError(
                f"batches must give the same rows each time, got {first[1]} and then {count} rows"
            )

    return one_pass
