"""A frozen dataclass as a subcommand's options: its fields are the arguments, their types and their defaults.

A field is an int, float, str, Path, `X | None`, `tuple[X, ...]` (one or more values), or a bool (a flag, off
by default). Its metadata holds "help", and may hold "choices", "metavar", "positional" for an argument that
is given by its place, and "presets": for every choice an instance of a dataclass, whose values take the place
of the defaults.
"""

from __future__ import annotations

import argparse
import types
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from labelsmooth.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_VALUES = (int, float, str, Path)


def add_options(parser: argparse.ArgumentParser, options: type[DataclassInstance]) -> None:
    """Add an argument for every field of the dataclass `options`; one without a default is required."""
    hints = get_type_hints(options)
    for field in fields(options):
        value, several = _value_type(hints[field.name])
        default = _default(field)
        # An option that is not given stays out of the namespace: only the dataclass knows the defaults.
        settings: dict[str, Any] = {
            "default": argparse.SUPPRESS,
            "help": _help(field.metadata["help"], default),
        }
        if value is bool:
            assert default is False, f"{field.name}: a flag is off by default"
            settings["action"] = "store_true"
        else:
            assert value in _VALUES, f"{field.name}: no option can hold a {hints[field.name]}"
            settings["type"] = value
            settings["choices"] = field.metadata.get("choices") or field.metadata.get("presets")
            # argparse lists the choices in place of a metavar
            unnamed = None if settings["choices"] else field.name.upper()
            settings["metavar"] = field.metadata.get("metavar", unnamed)
            if several:
                settings |= {"nargs": "+", "action": "extend"}
        if is_positional(field):
            assert default is MISSING, f"{field.name}: an argument given by its place is required"
            parser.add_argument(field.name, **settings)
        else:
            settings["required"] = default is MISSING
            parser.add_argument(flag(field), dest=field.name, **settings)


def from_namespace(options: type[T], namespace: argparse.Namespace) -> T:
    """The instance of the dataclass `options` that the parsed arguments describe.

    Raises:
        TypeError, ValueError: what the dataclass raises for values that it does not take.
    """
    given = {
        field.name: getattr(namespace, field.name) for field in fields(options) if field.name in namespace
    }
    for field in fields(options):
        if "presets" in field.metadata and field.name in given:
            preset = field.metadata["presets"][given[field.name]]
            given = {**{other.name: getattr(preset, other.name) for other in fields(preset)}, **given}
    return options(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    )


def flag(field: Field[Any]) -> str:
    """The option of a field on the command line."""
    return "--" + field.name.replace("_", "-")


def check_file(option: str, path: Path) -> None:
    """Check that a file can be written at a path, before there is anything to write.

    Raises:
        InputError: it is a folder, or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"{option} must lie in a folder that exists, got {str(path)!r}")
    if path.is_dir():
        raise InputError(f"{option} must be a file, got the folder {str(path)!r}")


def is_positional(field: Field[Any]) -> bool:
    """Whether the field is given by its place, without a name."""
    return bool(field.metadata.get("positional", False))


def _value_type(hint: Any) -> tuple[Any, bool]:
    """The type of one value, and whether there may be several."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (member for member in get_args(hint) if member is not types.NoneType)
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


def _default(field: Field[Any]) -> Any:
    """The default value, or MISSING."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _help(text: str, default: Any) -> str:
    if default is MISSING:
        text = f"{text} (required)"
    elif default is not None and default is not False and default != ():
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text = f"{text} (default: {shown})"
    return text.replace("%", "%%")  # argparse formats its help texts
