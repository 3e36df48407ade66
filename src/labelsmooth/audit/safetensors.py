"""Predictions in .safetensors files, by way of a memory map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from labelsmooth.audit.table import Array, Column, reading

_DAMAGE = (SafetensorError, OSError, ValueError, RuntimeError, MemoryError, TypeError, OverflowError)
_KINDS = dict.fromkeys(("F16", "BF16", "F32", "F64"), "float") | dict.fromkeys(
    ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"), "integer"
)
_MAPPED_BLOCKS = 16


class SafetensorsTable:
    """The tensors of a .safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, Column] = {}
        with reading(path, _DAMAGE), safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
                tensor = tensors.get_slice(name)
                kind = tensor.get_dtype()
                self.columns[name] = Column(shape=tuple(tensor.get_shape()), kind=_KINDS.get(kind, kind))

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        total = self.columns[names[0]].shape[0]
        # the map is opened anew now and then, which gives back its pages
        for first in range(0, total, _MAPPED_BLOCKS * rows):
            with reading(self.path, _DAMAGE), safe_open(self.path, framework="pt") as tensors:
                slices = {name: tensors.get_slice(name) for name in names}
                for start in range(first, min(total, first + _MAPPED_BLOCKS * rows), rows):
                    yield {name: values[start : start + rows] for name, values in slices.items()}
