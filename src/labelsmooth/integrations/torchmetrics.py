"""The streaming measures as `torchmetrics.Metric`, for MetricCollection and Lightning.

Their states have a fixed size and sum over batches and processes, so that a number over several processes is
that of one process with all rows, which a mean of the processes' numbers is not.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.extras import needs_extra
from labelsmooth.measure import Calibration, CalibrationResult, Selective, SelectiveResult
from labelsmooth.measure.catalogue import Group, quantities
from labelsmooth.measure.peers import Edges, Peer
from labelsmooth.measure.result import number_names
from labelsmooth.row_stats import RowStats

with needs_extra("torchmetrics"):
    from torchmetrics import Metric

_Measure: TypeAlias = Calibration | Selective


def _good_or_bad(result: type, *groups: Group) -> tuple[str, ...]:
    """The numbers of these groups of the catalogue that such a result has, and that can be good or bad."""
    known = number_names(result)
    return tuple(each.name for each in quantities(*groups) if each.better and each.name in known)


CALIBRATION = _good_or_bad(CalibrationResult, "scores", "calibration")
SELECTIVE = _good_or_bad(SelectiveResult, "selective")

# devices without float64, on which the states cannot be
_WITHOUT_FLOAT64 = ("mps",)


class _Streaming(Metric):
    """A measure whose state is the sum of its batches' states.

    States keep int64 and float64 when a module is cast with all that is in it, since counts and sums in half
    precision end at a few thousand. On a device without float64 (MPS) they stay on the CPU, and results are
    float32.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(
        self,
        names: str | Sequence[str],
        known: type[CalibrationResult] | type[SelectiveResult],
        probs: bool,
        ignore_index: int | None,
        class_axis: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        numbers = number_names(known)
        for name in (names,) if isinstance(names, str) else names:
            if name not in numbers:
                raise InputError(f"quantities must be among {', '.join(numbers)}, got {name!r}")
        if not names:
            raise InputError("quantities must name at least one number, got none")
        self.quantities = names
        self.probs = probs
        self.ignore_index = ignore_index
        self.class_axis = class_axis
        states = self._measure().sums()
        self._state_names = {name: self._state_name(name) for name in states}
        for name, values in states.items():
            self.add_state(self._state_names[name], torch.from_numpy(values), dist_reduce_fx="sum")

    def update(
        self,
        preds: Tensor | RowStats,
        target: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Count a batch.

        Args:
            preds: (…, K) floats: logits, or probabilities where the metric was made with `probs=True`; or the
                statistics that a loss returned with `return_stats=True`, so that no second pass is needed.
            target: (…) integers in 0..K−1, or `ignore_index`; none with statistics, which hold the labels.
            weight: (…) finite and at least 0; a row of weight 0 does not count.

        Raises:
            TypeError, ValueError: as the measure's `update`, `update_probs` or `update_stats`; or there is no
                target, or one beside statistics.
        """
        for name, values in self._counted(preds, target, weight).sums().items():
            state = getattr(self, self._state_names[name])
            state += torch.from_numpy(values).to(state.device)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Count a batch, as `update` does, and give the numbers of this batch alone.

        Cost: an update, and the numbers asked for; torchmetrics' own copies the state three times.
        """
        if self.dist_sync_on_step or self._is_synced:
            return super().forward(*args, **kwargs)
        batch = self._counted(*args, **kwargs)
        for name, values in batch.sums().items():
            state = getattr(self, self._state_names[name])
            # not in place, as metrics of a collection may share it
            setattr(self, self._state_names[name], state + torch.from_numpy(values).to(state.device))
        self._update_count += 1
        self._computed = None
        numbers = self._numbers(batch)
        self._forward_cache = numbers  # type: ignore[assignment]
        return numbers

    def _counted(
        self,
        preds: Tensor | RowStats,
        target: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> _Measure:
        batch = self._measure()
        if isinstance(preds, RowStats):
            if target is not None:
                raise InputTypeError("row statistics hold their labels, got a target beside them")
            if self.ignore_index is not None:
                counted = preds.label != self.ignore_index
                weight = counted.double() if weight is None else torch.where(counted, weight, 0)
            batch.update_stats(preds, weight)
        elif target is None:
            raise InputTypeError("target must be given with predictions, got none")
        else:
            update = batch.update_probs if self.probs else batch.update
            update(preds, target, weight, ignore_index=self.ignore_index, class_axis=self.class_axis)
        return batch

    def compute(self) -> Tensor | dict[str, Tensor]:
        """The numbers over all rows, float64 but on MPS: 0-d of a single quantity, else a dict of them.

        Raises:
            ValueError: no row was counted.
        """
        measure = self._measure()
        states = {name: getattr(self, state).cpu().numpy() for name, state in self._state_names.items()}
        measure.load_sums(states)
        return self._numbers(measure)

    def _numbers(self, measure: _Measure) -> Tensor | dict[str, Tensor]:
        result = measure.compute()
        dtype = torch.float32 if self.device.type in _WITHOUT_FLOAT64 else torch.float64

        def number(name: str) -> Tensor:
            return torch.tensor(getattr(result, name), dtype=dtype, device=self.device)

        if isinstance(self.quantities, str):
            return number(self.quantities)
        return {name: number(name) for name in self.quantities}

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        def move_only(state: Tensor) -> Tensor:
            if fn(state.new_zeros(1, dtype=torch.float32)).device.type in _WITHOUT_FLOAT64:
                return state
            moved = fn(state)
            return moved if moved.dtype == state.dtype else state.to(moved.device)

        return super()._apply(move_only, exclude_state)

    def _state_name(self, name: str) -> str:
        # MetricCollection shares the states of metrics whose states have the same names and, after the first
        # batch, the same values
        read = [str(self.probs), str(self.ignore_index), str(self.class_axis)]
        return "_".join([name, *self._settings(), *read])

    @abstractmethod
    def _measure(self) -> _Measure:
        """An empty one."""

    @abstractmethod
    def _settings(self) -> list[str]:
        """All options that the meaning of the states depends on, in words."""


class CalibrationMetric(_Streaming):
    """`measure.Calibration` as a `torchmetrics.Metric`.

    Args:
        quantities: names of the catalogue that `CalibrationResult` has, by default those that can be good or
            bad; the result is a dict of them. A single name, not in a sequence, gives a single number, as
            `self.log` of Lightning wants it.
        num_bins, edges, peer: as in `Calibration`.
        probs: whether `preds` are probabilities; logits else. It is never guessed.
        ignore_index: the target whose rows are left out, as in torchmetrics' own metrics; None for none.
        class_axis: where the K predictions of a row lie, 1 for maps (N, K, H, W) with targets (N, H, W).
        **kwargs: of `torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: a quantity that there is not, or as `Calibration`.

    Cost: of an update that of `Calibration.update` and a sum of the states, under 1 MB; `compute` takes 20 ms
    for the smooth calibration error, where that is asked for.

    Example:
        >>> from torchmetrics import MetricCollection
        >>> metrics = MetricCollection({"ece": CalibrationMetric("ece"), "nll": CalibrationMetric("nll")})
        >>> metrics.update(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> {name: round(float(value), 3) for name, value in metrics.compute().items()}
        {'ece': 0.425, 'nll': 0.72}
    """

    def __init__(
        self,
        quantities: str | Sequence[str] = CALIBRATION,
        *,
        num_bins: int = 15,
        edges: Edges | None = None,
        peer: Peer | None = None,
        probs: bool = False,
        ignore_index: int | None = None,
        class_axis: int = -1,
        **kwargs: Any,
    ) -> None:
        self.num_bins = num_bins
        self.edges: Edges | None = edges
        self.peer: Peer | None = peer
        super().__init__(quantities, CalibrationResult, probs, ignore_index, class_axis, **kwargs)

    def _measure(self) -> Calibration:
        return Calibration(self.num_bins, self.edges, peer=self.peer)

    def _settings(self) -> list[str]:
        return [str(self.num_bins), str(self.edges), str(self.peer)]


class SelectiveMetric(_Streaming):
    """`measure.Selective` as a `torchmetrics.Metric`, on its fixed grid of confidences, whose counts sum.

    Args:
        quantities: names of the catalogue that `SelectiveResult` has, by default those that can be good or
            bad; the result is a dict of them. A single name, not in a sequence, gives a single number, as
            `self.log` of Lightning wants it.
        probs: whether `preds` are probabilities; logits else. It is never guessed.
        ignore_index: the target whose rows are left out, as in torchmetrics' own metrics; None for none.
        class_axis: where the K predictions of a row lie, 1 for maps (N, K, H, W) with targets (N, H, W).
        **kwargs: of `torchmetrics.Metric`.

    Raises:
        ValueError: a quantity that there is not.

    Cost: of an update that of `Selective.update` and a sum of the states.

    Example:
        >>> metric = SelectiveMetric("aurc")
        >>> metric.update(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 0]))
        >>> round(float(metric.compute()), 4)
        0.3889
    """

    def __init__(
        self,
        quantities: str | Sequence[str] = SELECTIVE,
        *,
        probs: bool = False,
        ignore_index: int | None = None,
        class_axis: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(quantities, SelectiveResult, probs, ignore_index, class_axis, **kwargs)

    def _measure(self) -> Selective:
        return Selective(capacity=1)  # on the grid from the second confidence on

    def _settings(self) -> list[str]:
        return []
