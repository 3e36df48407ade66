"""Predictions in .safetensors files, by way of a memory map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from labelsmooth.files import reading
from labelsmooth.predictions.table import MAPPED_BLOCKS, Array, Column

_DAMAGE = (SafetensorError, OSError, ValueError, RuntimeError, TypeError, OverflowError)
_KINDS = (
    {"BOOL": "bool"}
    | dict.fromkeys(("F16", "BF16", "F32", "F64"), "float")
    | dict.fromkeys(("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"), "integer")
)


class SafetensorsTable:
    """The tensors of a .safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, _DAMAGE), safe_open(path, framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (no mapping)
            told = {name: (tensor.get_shape(), tensor.get_dtype()) for name, tensor in slices.items()}
        self.columns: dict[str, Column] = {
            name: Column(shape=tuple(shape), kind=_KINDS.get(kind, kind))
            for name, (shape, kind) in told.items()
        }

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        total = self.columns[names[0]].shape[0]
        # the map is opened anew now and then, which gives back its pages
        for first in range(0, total, MAPPED_BLOCKS * rows):
            with reading(self.path, _DAMAGE):
                tensors: Any = safe_open(self.path, framework="pt")
            with tensors:
                for start in range(first, min(total, first + MAPPED_BLOCKS * rows), rows):
                    with reading(self.path, _DAMAGE):
                        block = {name: tensors.get_slice(name)[start : start + rows] for name in names}
                    yield block
