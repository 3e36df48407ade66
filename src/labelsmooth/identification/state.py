"""What a callable keeps between calls, so that an examination can put it back."""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_MOST_OBJECTS = 10_000  # more are no state of a loss


@dataclass
class _Kept:
    """The tensors, namespaces, lists and cells within a callable, each with a path that names it."""

    tensors: list[tuple[str, Tensor]] = field(default_factory=list)
    dicts: list[tuple[str, dict[Any, Any]]] = field(default_factory=list)
    lists: list[tuple[str, list[Any]]] = field(default_factory=list)
    cells: list[tuple[str, types.CellType]] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)


class State:
    """A snapshot of all that a callable can change: modules, attributes, closures, containers, gradients.

    Args:
        loss: a function, method, partial, module or other object.
    """

    def __init__(self, loss: object) -> None:
        self._kept = _find(loss)
        self._tensors = [
            (
                tensor.detach().clone(),
                tensor.requires_grad,
                None if tensor.grad is None else tensor.grad.clone(),
            )
            for _, tensor in self._kept.tensors
        ]
        self._dicts = [dict(namespace) for _, namespace in self._kept.dicts]
        self._lists = [list(values) for _, values in self._kept.lists]
        self._cells = [_contents(cell) for _, cell in self._kept.cells]

    @property
    def has_modes(self) -> bool:
        """Whether there is a module, which can be in training or in evaluation."""
        return bool(self._kept.modules)

    def train(self, mode: bool) -> None:
        """Put all modules into training or evaluation; `restore` takes it back."""
        for module in self._kept.modules:
            module.train(mode)

    def changes(self) -> list[str]:
        """Name what is no longer as it was."""
        kept = self._kept
        tensors = [
            name
            for (name, tensor), (before, requires_grad, _) in zip(kept.tensors, self._tensors, strict=True)
            if tensor.requires_grad != requires_grad or not _same(tensor.detach(), before)
        ]
        dicts = [
            f"{name}.{key}"
            for (name, now), before in zip(kept.dicts, self._dicts, strict=True)
            for key in {*now, *before}
            if not _same(now.get(key), before.get(key))
        ]
        lists = [
            name
            for (name, now), before in zip(kept.lists, self._lists, strict=True)
            if not _same(now, before)
        ]
        cells = [
            name
            for (name, cell), before in zip(kept.cells, self._cells, strict=True)
            if not _same(_contents(cell), before)
        ]
        names = {*tensors, *dicts, *lists, *cells}
        return sorted(
            name.removeprefix(".").replace("_buffers.", "").replace("_parameters.", "") for name in names
        )

    def restore(self) -> None:
        """Put everything back."""
        kept = self._kept
        for (_, now), before in zip(kept.dicts, self._dicts, strict=True):
            for key in set(now) - set(before):
                del now[key]
            now.update(before)
        for (_, values), saved in zip(kept.lists, self._lists, strict=True):
            values[:] = saved
        for (_, cell), contents in zip(kept.cells, self._cells, strict=True):
            if cell is not contents:
                cell.cell_contents = contents
        for (_, tensor), (value, requires_grad, grad) in zip(kept.tensors, self._tensors, strict=True):
            if not _same(tensor.detach(), value):
                tensor.detach().copy_(value)
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
            if tensor.is_leaf:
                tensor.grad = grad

    def settings(self) -> dict[str, object]:
        """The numbers, texts and tensors among the attributes and keywords, by their name."""
        return {
            str(key): value
            for _, namespace in reversed(self._kept.dicts)
            for key, value in namespace.items()
            if isinstance(value, (int, float, str, Tensor))
        }


@contextmanager
def unchanged_generators() -> Iterator[None]:
    """Put the random states of torch, numpy and Python, and torch's default dtype, back at the end."""
    ours, numpys, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(numpys)  # noqa: NPY002
            torch.set_default_dtype(dtype)


def _find(loss: object) -> _Kept:
    kept = _Kept()
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", loss)]
    while waiting and len(seen) < _MOST_OBJECTS:
        name, value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            kept.tensors.append((name, value))
            continue
        if isinstance(value, nn.Module):
            kept.modules.append(value)
        if isinstance(value, dict):
            kept.dicts.append((name, value))
            waiting += [(f"{name}.{key}", part) for key, part in value.items()]
        elif isinstance(value, list):
            kept.lists.append((name, value))
            waiting += [(name, part) for part in value]
        elif isinstance(value, tuple | set | frozenset):
            waiting += [(name, part) for part in value]
        elif isinstance(value, functools.partial):
            waiting += [(name, value.func), (name, value.args), (name, value.keywords)]
        elif isinstance(value, types.MethodType):
            waiting += [(name, value.__self__), (name, value.__func__)]
        elif isinstance(value, types.FunctionType):
            waiting += _of_function(value, name, kept)
        elif hasattr(value, "__dict__") and not isinstance(value, type | types.ModuleType):
            waiting.append((name, vars(value)))
    return kept


def _of_function(function: types.FunctionType, name: str, kept: _Kept) -> list[tuple[str, object]]:
    """What a function can change: its attributes, its closure, and modules and containers of its module."""
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        kept.cells.append((f"{name}.{variable}", cell))
    cells = [(cell_name, _contents(cell)) for cell_name, cell in kept.cells]
    used = {key: function.__globals__.get(key) for key in function.__code__.co_names}
    shared = [(key, value) for key, value in used.items() if isinstance(value, nn.Module | dict | list)]
    return [(name, vars(function)), *cells, *shared]


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return cell


def _same(a: object, b: object) -> bool:
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        return bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, bool | int | float | str) and isinstance(b, bool | int | float | str):
        return a == b
    return (
        isinstance(a, list)
        and isinstance(b, list)
        and len(a) == len(b)
        and all(_same(x, y) for x, y in zip(a, b, strict=True))
    )
