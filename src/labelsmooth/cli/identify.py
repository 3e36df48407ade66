"""`labelsmooth identify`: which convention of label smoothing a loss follows, and what is wrong with it."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.identification import identify
from labelsmooth.named import callable_of, told

HELP = "say which convention of label smoothing a loss follows, at which eps, and what is wrong with it"
DESCRIPTION = (
    "Call a loss with chosen logits and labels, and print what it is: the convention and its eps, then "
    "everything in which it departs from the definition, with the input that shows it, what came out and "
    "what should have. Exits 0 for a right loss, 1 where there are faults or the loss is not known, 2 for "
    "bad input. For example: labelsmooth identify torch.nn:CrossEntropyLoss --kwargs "
    "'{\"label_smoothing\": 0.1}'"
)

_NAME = re.compile(r"\w+(\.\w+)*:\w+")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which loss, and how to make it.

    Raises:
        ValueError: `loss` is no `module:name`, or `kwargs` no object of JSON.
    """

    loss: str = field(
        metadata={
            "help": "the loss as module:name, of this folder or installed; a class is made with --kwargs, a "
            "function is called with them",
            "metavar": "MODULE:NAME",
            "positional": True,
        }
    )
    kwargs: str = field(
        default="{}", metadata={"help": "keyword arguments, an object of JSON", "metavar": "JSON"}
    )
    classes: tuple[int, ...] = field(
        default=(2, 3, 10, 1000),
        metadata={"help": "numbers of classes K to try, each at least 2", "metavar": "K"},
    )
    kind: str = field(
        default="auto",
        metadata={"help": "what the loss is of", "choices": ("auto", "softmax", "sigmoid")},
    )
    eps: float | None = field(
        default=None,
        metadata={"help": "the eps that the loss is meant to have (default: what it says)", "metavar": "EPS"},
    )
    json: bool = field(default=False, metadata={"help": "print the result as JSON"})

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.loss):
            raise InputError(f"the loss must be named as module:name, got {self.loss!r}")
        self.keywords()

    def keywords(self) -> dict[str, Any]:
        """The keyword arguments."""
        try:
            keywords = json.loads(self.kwargs)
        except json.JSONDecodeError as error:
            raise InputError(f"--kwargs must be an object of JSON, got {self.kwargs!r}: {error}") from error
        if not isinstance(keywords, dict):
            raise InputError(f"--kwargs must be an object of JSON, got {self.kwargs!r}")
        return keywords


def run(options: Options) -> int:
    found = identify(
        _loss_of(options),
        options.classes,
        kind=options.kind,  # type: ignore[arg-type]
        eps=options.eps,
    )
    print(
        json.dumps({"name": options.loss, **found.document()}, indent=2, allow_nan=False)
        if options.json
        else found
    )
    return 0 if found.right else 1


def _loss_of(options: Options) -> Callable[..., Any]:
    sys.path.append(str(Path.cwd()))  # where the module of the user's own loss is likely to be
    named, keywords = callable_of(options.loss, "loss"), options.keywords()
    if not isinstance(named, type):
        return functools.partial(named, **keywords) if keywords else named
    try:
        made: object = named(**keywords)
    except Exception as error:
        raise InputError(f"{options.loss} raised {told(error)}") from error
    if not callable(made):
        raise InputError(f"{options.loss} makes a {type(made).__name__} that cannot be called")
    return made
