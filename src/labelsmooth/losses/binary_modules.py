"""The losses of outcomes that hold or not, as modules."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from labelsmooth.checks import require_int, require_number, require_tensor
from labelsmooth.conventions import PreferenceKind
from labelsmooth.losses.binary import binary_cross_entropy_with_logits
from labelsmooth.losses.modules import Loss, LossOfLogits
from labelsmooth.losses.preference import check_preference, preference_loss
from labelsmooth.losses.targets import Denominator, ReductionName, Settings, check_weight
from labelsmooth.smoothing import BinarySmoothing, as_binary_smoothing


class BCEWithLogitsLoss(LossOfLogits, nn.BCEWithLogitsLoss):  # type: ignore[misc]
    """`binary_cross_entropy_with_logits` as a module; a drop-in for torch's, and an instance of it.

    Args:
        weight, reduction, pos_weight, label_smoothing, class_axis, ignore_index, denominator: as in
            `binary_cross_entropy_with_logits`. `weight` and `pos_weight` move with the module and are saved
            with it.
        return_stats: True to return (loss, stats) from every call. `return_stats` of a call overrides it.

    Raises:
        TypeError, ValueError: as the function, already when the module is made.

    Example:
        >>> import torch
        >>> loss = BCEWithLogitsLoss(label_smoothing=0.1)
        >>> loss(torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1.0, 0.0, 1.0]]))
        tensor(0.3631)
    """

    _function = staticmethod(binary_cross_entropy_with_logits)

    def __init__(
        self,
        weight: Tensor | None = None,
        reduction: ReductionName = "mean",
        pos_weight: Tensor | None = None,
        label_smoothing: float | Tensor | BinarySmoothing = 0.0,
        *,
        class_axis: int = 1,
        ignore_index: float | None = None,
        denominator: Denominator = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(
            weight=weight,
            reduction=reduction,
            pos_weight=pos_weight,
            label_smoothing=label_smoothing,
            class_axis=class_axis,
            ignore_index=ignore_index,
            denominator=denominator,
            return_stats=return_stats,
        )

    def _check(self, settings: dict[str, Any]) -> None:
        Settings(reduction=settings["reduction"], denominator=settings["denominator"]).check()
        as_binary_smoothing(settings["label_smoothing"])
        require_int(settings["class_axis"], "class_axis")
        if settings["ignore_index"] is not None:
            require_number(settings["ignore_index"], "ignore_index")
        for name in ("weight", "pos_weight"):
            if settings[name] is not None:
                require_tensor(settings[name], name)
                check_weight(name, settings[name], settings[name].shape)


class PreferenceLoss(Loss):
    """`preference_loss` as a module.

    Args:
        beta, label_smoothing, kind, reduction: as in `preference_loss`.

    Raises:
        TypeError, ValueError: as `preference_loss`, already when the module is made.

    Example:
        >>> import torch
        >>> PreferenceLoss(label_smoothing=0.1)(torch.tensor([10.0, -10.0]))
        tensor(0.8133)
    """

    _function = staticmethod(preference_loss)
    _of_calls = frozenset({"margin"})

    def __init__(
        self,
        beta: float = 0.1,
        label_smoothing: float | Tensor = 0.0,
        kind: PreferenceKind = "conservative",
        *,
        reduction: ReductionName = "mean",
    ) -> None:
        super().__init__(beta=beta, label_smoothing=label_smoothing, kind=kind, reduction=reduction)

    def _check(self, settings: dict[str, Any]) -> None:
        check_preference(**settings)

    def forward(self, margin: Tensor) -> Tensor:
        return preference_loss(margin, **self._settings(None))
