"""A temperature for each group of rows."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.inputs import Array, as_tensor
from labelsmooth.measure.scaling import TemperatureScaling


class GroupTemperatureScaling:
    """Temperature scaling with a T for each group: a task, a language, a kind of question, a label.

    Attributes:
        scalings: the fitted `TemperatureScaling` of each group, by its number.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0], [1.0, 0.0]]).repeat(4, 1)
        >>> target, group = torch.tensor([0, 0, 0, 0, 1, 0, 0, 1]), torch.tensor([0, 7]).repeat(4)
        >>> scaling = GroupTemperatureScaling().fit(logits, target, group)
        >>> {number: round(T, 3) for number, T in scaling.temperature.items()}
        {0: 3.641, 7: 0.91}
        >>> scaling.transform(logits, group)[:2].softmax(-1)
        tensor([[0.7500, 0.2500],
                [0.7500, 0.2500]])

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2, of one group at a time.
    """

    scalings: dict[int, TemperatureScaling]

    @property
    def temperature(self) -> dict[int, float]:
        """T of each group."""
        return {group: scaling.temperature for group, scaling in self._fitted().items()}

    def fit(
        self,
        logits: Array,
        target: Array,
        group: Array,
        weight: Array | None = None,
        *,
        ignore_index: int | None = None,
    ) -> Self:
        """Find the temperatures, on validation rows: measure what they do on others.

        Args:
            logits, target, weight, ignore_index: as of `TemperatureScaling.fit`; the classes come last.
            group: (…) integers, the group of each row.

        Returns:
            This object with its attributes set.

        Raises:
            TypeError, ValueError: as `TemperatureScaling.fit` of a group; `group` does not hold integers, or
                has another shape than `target`.

        Cost: that of `TemperatureScaling.fit`.
        """
        labels = as_tensor(target, "target")
        groups = _groups(group, labels.shape)
        rows = as_tensor(logits, "logits")
        weights = None if weight is None else as_tensor(weight, "weight")
        if rows.shape[:-1] != labels.shape:
            raise InputError(
                f"target must have the shape of the rows of logits, {tuple(rows.shape[:-1])}, "
                f"got {tuple(labels.shape)}"
            )
        scalings = {}
        for number in np.unique(groups.numpy()).tolist():
            chosen = groups == number
            scalings[number] = TemperatureScaling().fit(
                rows[chosen.to(rows.device)],
                labels[chosen.to(labels.device)],
                None if weights is None else weights[chosen.to(weights.device)],
                ignore_index=ignore_index,
            )
        self.scalings = scalings
        return self

    def transform(self, logits: Tensor, group: Array) -> Tensor:
        """The scaled logits, in which −inf stays −inf.

        Args:
            logits: (…, K) floats.
            group: (…) integers, each a group that was fitted.

        Returns:
            Of the shape and dtype of `logits`; differentiable.

        Raises:
            TypeError: `group` does not hold integers.
            ValueError: nothing was fitted, the shapes do not fit, or a group was not fitted.

        Cost: two passes.
        """
        fitted = self._fitted()
        groups = _groups(group, logits.shape[:-1])
        numbers, place = np.unique(groups.numpy(), return_inverse=True)
        for number in numbers.tolist():
            if number not in fitted:
                raise InputError(f"group {number} has no temperature, as it was not among those fitted on")
        temperatures = torch.tensor([fitted[number].temperature for number in numbers.tolist()])
        return logits / temperatures[place.reshape(groups.shape)].to(logits).unsqueeze(-1)

    def _fitted(self) -> dict[int, TemperatureScaling]:
        if not hasattr(self, "scalings"):
            raise InputError("these scalings were not fitted: call fit first")
        return self.scalings


def _groups(group: Array, rows: tuple[int, ...]) -> Tensor:
    groups = as_tensor(group, "group").cpu()
    if groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
        raise InputTypeError(f"group must hold integers, got {groups.dtype}")
    if groups.shape != rows:
        raise InputError(f"group must have the shape of the rows, {tuple(rows)}, got {tuple(groups.shape)}")
    return groups
