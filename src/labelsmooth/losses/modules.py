"""The losses as modules, which keep their settings, check them once and show them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from labelsmooth.backends import BackendName, require_backend
from labelsmooth.checks import require_int, require_num_classes, require_tensor
from labelsmooth.errors import InputTypeError
from labelsmooth.losses.cross_entropy import cross_entropy
from labelsmooth.losses.distillation import check_mix, distillation_loss
from labelsmooth.losses.linear import check_cap, check_chunk_rows, linear_cross_entropy, weight_and_bias
from labelsmooth.losses.targets import Denominator, ReductionName, Settings, check_weight
from labelsmooth.mixture import Mixture
from labelsmooth.row_stats import RowStats, Support
from labelsmooth.smoothing import Smoothing, as_smoothing


class LinearOptions(TypedDict, total=False):
    """The keywords of `LinearCrossEntropyLoss` beside those of its layer."""

    scale: float
    softcap: float | None
    weight: Tensor | None
    ignore_index: int
    reduction: ReductionName
    label_smoothing: float | Smoothing
    z_loss: float | Tensor
    denominator: Denominator
    support: Support
    chunk_rows: int | None
    return_stats: bool
    backend: BackendName


# The settings that move with a module and are saved with it.
_BUFFERS = ("weight", "pos_weight")


class Loss(nn.Module):
    """A loss function with settings, which are attributes named as its keywords."""

    _function: ClassVar[Callable[..., Any]]
    # the keywords of the function that a call takes, not the constructor
    _of_calls: ClassVar[frozenset[str]] = frozenset(
        {
            "input",
            "target",
            "row_weight",
            "linear_weight",
            "linear_bias",
            "student_logits",
            "teacher_logits",
            "inplace_backward",
        }
    )

    def __init__(self, **settings: Any) -> None:
        """Keep the settings, by default those of the function, and raise now what every step would raise."""
        super().__init__()
        keywords = inspect.signature(self._function).parameters
        self._names = tuple(name for name in keywords if name not in self._of_calls)
        for name in settings:
            if name not in self._names:
                raise InputTypeError(f"{type(self).__name__} takes {', '.join(self._names)}, got {name}")
        settings = {name: keywords[name].default for name in self._names} | settings
        self._check(settings)
        for name, value in settings.items():
            if name in _BUFFERS:
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def _check(self, settings: dict[str, Any]) -> None:
        """Raise `TypeError` or `ValueError` for a setting that no call could make right."""
        Settings(**{name: settings[name] for name in Settings._fields if name in settings}).check()
        require_backend(settings["backend"])
        if "label_smoothing" in settings:
            as_smoothing(settings["label_smoothing"])
        if "class_axis" in settings:
            require_int(settings["class_axis"], "class_axis")
        weight = settings.get("weight")
        if weight is not None:
            require_tensor(weight, "weight")
            check_weight("weight", weight, (weight.numel(),))

    def _settings(self, return_stats: bool | None) -> dict[str, Any]:
        """The keywords for a call of the function."""
        settings = {name: getattr(self, name) for name in self._names}
        if return_stats is not None:
            settings["return_stats"] = return_stats
        return settings

    def extra_repr(self) -> str:
        defaults = inspect.signature(self._function).parameters
        always = ("label_smoothing", "reduction", "ignore_index")
        shown = [f"{name}={getattr(self, name)!r}" for name in always if name in self._names]
        for name in self._names:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                shown.append(f"{name}=tensor{tuple(value.shape)}")
            elif name not in always and value != defaults[name].default:
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)


class LossOfLogits(Loss):
    """A loss that takes logits and targets."""

    def forward(
        self,
        input: Tensor,
        target: Tensor | Mixture,
        row_weight: Tensor | None = None,
        *,
        return_stats: bool | None = None,
    ) -> Tensor | tuple[Tensor, RowStats]:
        settings = self._settings(return_stats)
        result: Tensor | tuple[Tensor, RowStats] = self._function(
            input, target, row_weight=row_weight, **settings
        )
        return result


class CrossEntropyLoss(LossOfLogits, nn.CrossEntropyLoss):  # type: ignore[misc]
    """`cross_entropy` as a module; a drop-in for `torch.nn.CrossEntropyLoss`, and an instance of it.

    Args:
        weight, ignore_index, reduction, label_smoothing, class_axis, z_loss, denominator, support, backend:
            as in `cross_entropy`. `weight` moves with the module and is saved with it.
        return_stats: True to return (loss, stats) from every call. `return_stats` of a call overrides it:
            `criterion(logits, target, return_stats=True)`.

    Raises:
        TypeError, ValueError: as `cross_entropy`, already when the module is made.

    Example:
        >>> loss = CrossEntropyLoss(label_smoothing=0.1)
        >>> loss(torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.4773)
    """

    _function = staticmethod(cross_entropy)

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: ReductionName = "mean",
        label_smoothing: float | Smoothing = 0.0,
        *,
        class_axis: int = 1,
        z_loss: float | Tensor = 0.0,
        denominator: Denominator = None,
        support: Support = "all",
        return_stats: bool = False,
        backend: BackendName = "auto",
    ) -> None:
        super().__init__(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            class_axis=class_axis,
            z_loss=z_loss,
            denominator=denominator,
            support=support,
            return_stats=return_stats,
            backend=backend,
        )


class DistillationLoss(Loss):
    """`distillation_loss` as a module.

    Args:
        beta, temperature, scale_t2, ignore_index, class_axis, reduction, denominator, backend: as in
            `distillation_loss`.

    Raises:
        TypeError, ValueError: as `distillation_loss`, already when the module is made.

    Example:
        >>> loss = DistillationLoss(beta=0.9, temperature=2.0)
        >>> loss(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[3.0, 2.0, 0.0]]), torch.tensor([0]))
        tensor(3.6416)
    """

    _function = staticmethod(distillation_loss)

    def __init__(
        self,
        beta: float,
        temperature: float,
        scale_t2: bool = True,
        *,
        ignore_index: int = -100,
        class_axis: int = -1,
        reduction: ReductionName = "mean",
        denominator: Denominator = None,
        backend: BackendName = "auto",
    ) -> None:
        check_mix(beta, temperature)
        super().__init__(
            beta=beta,
            temperature=temperature,
            scale_t2=scale_t2,
            ignore_index=ignore_index,
            class_axis=class_axis,
            reduction=reduction,
            denominator=denominator,
            backend=backend,
        )

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        target: Tensor | Mixture | None = None,
        row_weight: Tensor | None = None,
    ) -> Tensor:
        return distillation_loss(
            student_logits, teacher_logits, target, row_weight=row_weight, **self._settings(None)
        )


class LinearCrossEntropyLoss(Loss):
    """`linear_cross_entropy` as a module that owns the layer, as `torch.nn.LinearCrossEntropyLoss` does.

    The layer is `.linear`, an `nn.Linear(in_features, num_classes)`; call it for the logits at inference.
    `from_linear` takes a layer that is there already.

    Args:
        in_features: H.
        num_classes: K ≥ 2.
        bias: True for a layer with a bias.
        device, dtype: of the layer.
        options: `scale`, `softcap`, `weight`, `ignore_index`, `reduction`, `label_smoothing`, `z_loss`,
            `denominator`, `support`, `chunk_rows` and `backend` as in `linear_cross_entropy`, `return_stats`
            as in `CrossEntropyLoss`.

    Raises:
        TypeError, ValueError: as `cross_entropy`, already when the module is made.

    Example:
        >>> loss = LinearCrossEntropyLoss(8, 3, label_smoothing=0.1)
        >>> loss(torch.randn(5, 8), torch.tensor([0, 1, 2, 1, 0])).shape
        torch.Size([])
    """

    _function = staticmethod(linear_cross_entropy)

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[LinearOptions],
    ) -> None:
        super().__init__(**options)
        check_cap(options.get("scale", 1.0), options.get("softcap"))
        check_chunk_rows(options.get("chunk_rows"))
        require_num_classes(num_classes)
        check_weight("weight", options.get("weight"), (num_classes,))
        as_smoothing(options.get("label_smoothing", 0.0)).check_num_classes(num_classes)
        self.linear = nn.Linear(in_features, num_classes, bias=bias, device=device, dtype=dtype)

    @classmethod
    def from_linear(cls, linear: nn.Linear, **options: Unpack[LinearOptions]) -> LinearCrossEntropyLoss:
        """Make the loss of an existing layer, which becomes `.linear`: its parameters are shared.

        Args:
            linear: the layer, e.g. a language model's head, also one whose weight is tied to an embedding.
            options: as of the class.

        Raises:
            TypeError, ValueError: as the class; or a layer that does more than x·Wᵀ + b.

        Example:
            >>> head = nn.Linear(8, 3)
            >>> loss = LinearCrossEntropyLoss.from_linear(head, label_smoothing=0.1)
            >>> loss.linear is head
            True
        """
        weight_and_bias(linear, None)
        loss = cls(linear.in_features, linear.out_features, device="meta", **options)
        loss.linear = linear
        return loss

    def forward(
        self,
        input: Tensor,
        target: Tensor | Mixture,
        row_weight: Tensor | None = None,
        *,
        return_stats: bool | None = None,
    ) -> Tensor | tuple[Tensor, RowStats]:
        settings = self._settings(return_stats)
        result: Tensor | tuple[Tensor, RowStats] = linear_cross_entropy(
            input, self.linear, target, row_weight=row_weight, **settings
        )
        return result
