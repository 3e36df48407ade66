"""Predictions that torch.save wrote to .pt and .pth files, of which tensors and lists alone are read."""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.files import reading
from labelsmooth.predictions.names import name_of_only_array
from labelsmooth.predictions.table import MAPPED_BLOCKS, Array, Column

_DAMAGE = (
    *(OSError, ValueError, EOFError, RuntimeError, TypeError, KeyError, IndexError),
    *(AttributeError, AssertionError, OverflowError, ImportError, struct.error),
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)


class TorchTable:
    """The tensors of a .pt or .pth file: of a dict by their keys, of a list or tuple by their places."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = {name: self._column(name, values) for name, values in self._load().items()}

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        total = self.columns[names[0]].shape[0]
        # the file is mapped anew now and then, which gives back its pages
        for first in range(0, total, MAPPED_BLOCKS * rows):
            arrays = self._load()
            if any(self._column(name, arrays.get(name)) != self.columns[name] for name in names):
                raise InputError(f"{self.path} was changed while it was read")
            for start in range(first, min(total, first + MAPPED_BLOCKS * rows), rows):
                yield {name: arrays[name][start : start + rows] for name in names}

    def _load(self) -> dict[str, Any]:
        try:
            with reading(self.path, _DAMAGE):
                found = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{self.path} holds more than tensors, which could run code and is never read: "
                f"torch.save({{'logits': logits, 'labels': labels}}, '{self.path.name}') writes what is"
            ) from error
        if isinstance(found, Tensor):
            named: dict[str, Any] = {name_of_only_array(self.path): found}
        elif isinstance(found, Mapping):
            named = {str(name): values for name, values in found.items()}
        elif isinstance(found, list | tuple):
            named = {str(place): values for place, values in enumerate(found)}
        else:
            raise InputError(f"{self.path} must hold tensors, got a {type(found).__name__}")
        return {name: _array(values) for name, values in named.items()}

    def _column(self, name: str, values: Any) -> Column:
        if isinstance(values, np.ndarray):
            return Column(shape=values.shape, kind=_KINDS.get(values.dtype.kind, str(values.dtype)))
        if not isinstance(values, Tensor):
            return Column(shape=(), kind=type(values).__name__)
        shape = tuple(values.shape)
        if values.layout != torch.strided or values.is_quantized or values.is_meta:
            return Column(shape=shape, kind=f"{values.dtype} of another layout")
        if values.untyped_storage().nbytes() < math.prod(shape) * values.itemsize:
            raise InputError(f"{self.path} announces the shape {shape} in {name} and holds fewer values")
        if values.dtype in _FLOATS:
            return Column(shape=shape, kind="float")
        kind = "integer" if values.dtype in _INTEGERS else str(values.dtype).removeprefix("torch.")
        return Column(shape=shape, kind=kind)


_KINDS = {"i": "integer", "f": "float", "b": "bool", "U": "text"}


def _array(values: Any) -> Any:
    """A tensor without its history, and a list of numbers or of texts as an array."""
    if isinstance(values, Tensor):
        return values.detach()
    if isinstance(values, list | tuple) and values and len({type(value) for value in values}) == 1:
        if isinstance(values[0], bool | float | str):
            return np.array(values)
        if isinstance(values[0], int) and max(values) < 2**63 and min(values) >= -(2**63):
            return np.array(values, np.int64)
    return values
