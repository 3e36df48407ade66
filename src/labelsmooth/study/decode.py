"""JSON as the dataclasses that it was written from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import MappingProxyType, UnionType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from labelsmooth.checks import is_of_type
from labelsmooth.errors import InputError

T = TypeVar("T")

LARGEST = sys.float_info.max


def decode(kind: type[T], stored: object, name: str, **types: type[Any]) -> T:
    """Make a dataclass of the object that `json.loads` gave, whose every value is checked by its type.

    Args:
        kind: the dataclass; its fields are str, bool, int, float, `tuple[X, ...]`, `X | None` or dataclasses.
        stored: any value.
        name: of the value, for messages.
        types: of fields of the dataclass that are declared as a base class of it.

    Raises:
        InputError: the value is not such an object, lacks a field or has another, one holds something else
            than its type, or the dataclass refuses it.
    """
    made: T = _value(kind, stored, name, types)
    return made


def _value(kind: Any, stored: Any, name: str, types: Mapping[str, type[Any]] = MappingProxyType({})) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(stored, dict):
            raise InputError(f"{name} must hold a JSON object")
        hints = {**get_type_hints(kind), **types}
        hints = {key: hint for key, hint in hints.items() if get_origin(hint) is not ClassVar}
        for field in fields(kind):
            if field.default is MISSING and field.name not in stored:
                raise InputError(f"{name} must hold {field.name}, which is missing")
        for key in stored:
            if key not in hints:
                raise InputError(f"{name} must hold {', '.join(hints)}, got {key!r} too")
        return kind(**{key: _value(hints[key], value, f"{name}: {key}") for key, value in stored.items()})
    if get_origin(kind) is UnionType:  # X | None
        inner, _ = get_args(kind)
        return None if stored is None else _value(inner, stored, name)
    if get_origin(kind) is tuple:
        if not isinstance(stored, list):
            raise InputError(f"{name} must be a list, got {stored!r}")
        return tuple(_value(get_args(kind)[0], value, name) for value in stored)
    if not is_of_type(stored, kind):
        raise InputError(f"{name} must be of the type {kind.__name__}, got {stored!r}")
    if kind is float and isinstance(stored, int) and not -LARGEST <= stored <= LARGEST:
        raise InputError(f"{name} must be a number of 64 bits, got one of {len(str(abs(stored)))} digits")
    return stored
