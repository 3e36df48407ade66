"""Checks of the values inside tensors, made so that no device ever has to be waited for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from labelsmooth.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch.distributed.tensor import DTensor

T = TypeVar("T")

# a value for all rows, or for each row
PerRow = float | Tensor | np.ndarray[Any, Any] | Sequence[float]

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require(holds: Tensor, message: Callable[[], str]) -> None:
    """Raise `ValueError(message())` unless every element of the boolean tensor `holds` is true.

    On a CPU the values are looked at; elsewhere an assertion is queued on the device, which fails later
    and costs no synchronisation. While a graph is traced or under `torch.func.vmap` values do not exist
    yet, and nothing is checked.
    """
    if is_traced(holds) or is_batched(holds):
        return
    if holds.device.type == "cpu":
        if not bool(holds.all()):
            raise InputError(message())
    elif holds.device.type != "meta":
        torch._assert_async(holds.all(), "labelsmooth: a value is out of its range")


def require_logits(logits: Tensor, name: str) -> None:
    if not isinstance(logits, Tensor) or logits.dtype not in FLOAT_DTYPES:
        got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise InputTypeError(f"{name} must be a float16, bfloat16, float32 or float64 tensor, got {got}")


def is_dtensor(value: object) -> TypeGuard[DTensor]:
    tensors = sys.modules.get("torch.distributed.tensor")  # which nobody has a DTensor without
    return tensors is not None and isinstance(value, tensors.DTensor)


def require_no_dtensor(value: object, name: str) -> None:
    """Raise `TypeError` for a DTensor: a loss of it depends on what the processes share, rows or classes."""
    if is_dtensor(value):
        raise InputTypeError(
            f"{name} must be a plain tensor, got a DTensor in {value.placements}; give its full_tensor()"
        )


def require_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise InputTypeError(f"{name} must be a tensor, got {type(value).__name__}")


def require_num_classes(num_classes: int) -> None:
    if type(num_classes) is not int and (  # asking for Integral costs more than all the rest
        isinstance(num_classes, bool) or not isinstance(num_classes, Integral | torch.SymInt)
    ):
        raise InputTypeError(f"num_classes must be an int, got {type(num_classes).__name__}")
    if num_classes < 2:
        raise InputError(f"there must be at least 2 classes, got {num_classes}")


def require_int(value: object, name: str) -> None:
    """Raise `TypeError` unless it is an integer of Python or NumPy, and no bool."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputTypeError(f"{name} must be an int, got {type(value).__name__}")


def require_field_types(settings: DataclassInstance) -> None:
    """Raise `TypeError` unless every field of a dataclass holds what it is declared as.

    Fields are bool, int, float, str or Path, `tuple[X, ...]` or `X | None`; a float may be a whole number,
    and a list becomes the tuple that it stands for.
    """
    for name, kind in _field_types(type(settings)).items():
        value = getattr(settings, name)
        if isinstance(value, list) and get_origin(kind) is tuple:
            value = tuple(value)
            object.__setattr__(settings, name, value)
        if not is_of_type(value, kind):
            raise InputTypeError(f"{name} must be {_type_words(kind)}, got {value!r}")


def is_of_type(value: object, kind: Any) -> bool:
    """Return True for a value of a type as the fields of `require_field_types` have it."""
    if get_origin(kind) is UnionType:
        return any(is_of_type(value, member) for member in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(is_of_type(part, get_args(kind)[0]) for part in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


@cache
def _field_types(kind: type[DataclassInstance]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


_TYPE_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a Path",
    NoneType: "None",
}


def _type_words(kind: Any) -> str:
    if get_origin(kind) is UnionType:
        return " or ".join(map(_type_words, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a tuple, each part {_type_words(get_args(kind)[0])}"
    return _TYPE_WORDS[kind]


def stacklevel_of_caller() -> int:
    """Count the frames from the function that calls this up to the first of other code than ours and torch's.

    Torch's are between a call of a module and its forward.
    """
    own = {__name__.partition(".")[0], "torch"}
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    return level


def classes_last(scores: Tensor, class_axis: int, name: str) -> Tensor:
    """Return a view of the scores whose last axis is `class_axis`; refuse an axis that they do not have."""
    require_int(class_axis, "class_axis")
    if not -scores.dim() <= class_axis < scores.dim():
        shape = "(…, K)" if class_axis == -1 else f"(…) with an axis {class_axis}"
        raise InputError(f"{name} must have shape {shape}, got {tuple(scores.shape)}")
    return scores if class_axis in (-1, scores.dim() - 1) else scores.movedim(class_axis, -1)


def require_factor(value: float | Tensor, name: str) -> None:
    """Raise unless it is a number or a 0-d tensor, at least 0."""
    if isinstance(value, Tensor):
        if value.dim() != 0:
            raise InputError(f"a tensor {name} must be 0-d, got shape {tuple(value.shape)}")
        require(value >= 0, lambda: f"{name} must be at least 0, got {float(value)}")
    elif isinstance(value, bool) or not isinstance(value, Real | torch.SymFloat):
        raise InputTypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")
    elif not value >= 0:
        raise InputError(f"{name} must be at least 0, got {value}")


def require_number(value: float, name: str) -> None:
    """Raise `TypeError` unless it is a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputTypeError(f"{name} must be a number, got {type(value).__name__}")


def require_positive(value: float, name: str) -> None:
    """Raise unless it is a number above 0 and finite."""
    require_number(value, name)
    if not 0 < value <= sys.float_info.max:  # so that an int beyond it is no float either
        raise InputError(f"{name} must be positive and finite, got {value}")


def as_values(value: object) -> object:
    """Return a NumPy array or a list as a tensor, and anything else unchanged."""
    if isinstance(value, (np.ndarray, list, tuple)):
        try:
            array = np.asarray(value)
            return torch.tensor(array.astype(array.dtype.newbyteorder("="), copy=False))
        except (TypeError, ValueError, RuntimeError):  # text, objects, lists of unequal length
            return value
    return plain(value)


def as_classes(index: Tensor, name: str) -> Tensor:
    """Return class indices as int64, since a narrower type wraps around the numbers it is compared with."""
    require_tensor(index, name)
    index = plain(index)
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise InputTypeError(f"{name} must hold integer class indices, got {index.dtype}")
    return index.long()


def require_classes(index: Tensor, num_classes: int, name: str) -> None:
    """Raise unless the int64 `index` lies in 0..num_classes−1."""

    if can_look(index) and index.numel():
        least, most = index.aminmax()
        for extreme in (int(least), int(most)):
            if not 0 <= extreme < num_classes:
                raise InputError(f"{name} must lie in 0..{num_classes - 1}, got {extreme}")
        return
    require((index >= 0) & (index < num_classes), lambda: f"{name} must lie in 0..{num_classes - 1}")


def require_no_nan(values: Tensor, name: str) -> None:
    require(~values.isnan(), lambda: f"{name} must not contain NaN")


def can_look(tensor: Tensor) -> bool:
    """Return True where values can be read without waiting: they exist, and on a CPU."""
    return tensor.device.type == "cpu" and not is_traced(tensor) and not is_batched(tensor)


def is_traced(tensor: Tensor) -> bool:
    """Return True where a graph is being made: compiled code, fake or functional tensors, a dispatch mode."""
    return (
        torch.compiler.is_compiling()
        or (
            type(tensor) not in (Tensor, torch.nn.Parameter)
            and isinstance(tensor, FakeTensor | FunctionalTensor)
        )
        or torch._C._len_torch_dispatch_stack() > 0
    )


def plain(value: T) -> T:
    """Return the data of a tensor of a Python subclass as a plain tensor, and anything else unchanged.

    Such a subclass may have rules of its own for torch's functions, and one that redefines what reaches the
    dispatcher (distributed, nested, fake tensors) stays as it is: its data need not be those of one tensor.
    """
    if (
        type(value) in (Tensor, torch.nn.Parameter)
        or not isinstance(value, Tensor)
        or torch.compiler.is_compiling()
        or type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__
    ):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor)  # type: ignore[return-value]


def is_batched(tensor: Tensor) -> bool:
    """Return True for a tensor that holds many, made by `torch.func.vmap` or a batched backward."""
    # torch.func has no public function for this
    functorch = torch._C._functorch
    while functorch.is_gradtrackingtensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return functorch.is_batchedtensor(tensor) or functorch.is_legacy_batchedtensor(tensor)
