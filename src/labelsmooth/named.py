"""Functions and classes of the user's own, by name: `module:name`."""

from __future__ import annotations

import hashlib
import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from labelsmooth.errors import InputError


def callable_of(name: str, use: str = "model") -> Callable[..., Any]:
    """Import what a `module:name` names, for a use such as "model".

    Raises:
        InputError: there is no such module or function, or the module raised an error.
    """
    attribute = name.split(":")[1]
    found: object = getattr(_import(name, use), attribute, None)
    if not callable(found):
        raise InputError(f"the module of the {use} {name} has no function {attribute}")
    return found


def module_sha256(name: str) -> str:
    """Hash the file of the module of a model `module:name`; "" where it has none.

    Raises:
        InputError: there is no such module.
    """
    source = _import(name, "model").__file__
    return "" if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()


def top_module(name: str) -> str:
    """Name the top-level module or package of a `module:name`."""
    return name.partition(":")[0].partition(".")[0]


def told(error: BaseException) -> str:
    """Tell an exception of somebody else's code, with the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"


def _import(name: str, use: str) -> ModuleType:
    module = name.partition(":")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a package that the user's module needs
        raise InputError(f"there is no module {module} for the {use} {name}") from error
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise InputError(f"the module of the {use} {name} raised {told(error)}") from error
