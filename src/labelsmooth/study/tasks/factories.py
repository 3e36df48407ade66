"""Networks of the user's own, made by a function of a module: `module:factory`."""

from __future__ import annotations

import hashlib
import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from labelsmooth.errors import InputError


def factory_of(model: str) -> Callable[..., Any]:
    """Import the function that a model `module:factory` names.

    Raises:
        InputError: there is no such module or function, or the module raised an error.
    """
    name = model.split(":")[1]
    factory: object = getattr(_import(model), name, None)
    if not callable(factory):
        raise InputError(f"the module of the model {model} has no function {name}")
    return factory


def module_sha256(model: str) -> str:
    """Hash the file of the module of a model `module:factory`; "" where it has none.

    Raises:
        InputError: there is no such module.
    """
    source = _import(model).__file__
    return "" if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()


def top_module(model: str) -> str:
    """Name the top-level module or package of a model `module:factory`."""
    return model.partition(":")[0].partition(".")[0]


def told(error: BaseException) -> str:
    """Tell an exception of somebody else's code, with the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"


def _import(model: str) -> ModuleType:
    name = model.partition(":")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a package that the user's module needs
        raise InputError(f"there is no module {name} for the model {model}") from error
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise InputError(f"the module of the model {model} raised {told(error)}") from error
