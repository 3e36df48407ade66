"""The command `labelsmooth`: its subcommands, and what it says when something is wrong.

A subcommand is a module of this package with `HELP` (one line), `DESCRIPTION` (a paragraph), `Options` (a
frozen dataclass, see `options`) and `run(options)`, which may return an exit status; one of several kinds
has `KINDS`, their names, and `options_of(kind)`, which gives the dataclass and the paragraph, in place of the
second and third. Only the module of the command in use is imported.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from labelsmooth import __version__
from labelsmooth.cli.options import add_options, flag, from_namespace, is_positional
from labelsmooth.errors import REFUSALS, InputError
from labelsmooth.extras import MissingPackage

COMMANDS = ("study", "report", "audit", "theory", "identify", "bench")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    What was refused (`labelsmooth.errors`), what the system refused (`OSError`) and missing packages are one
    sentence on stderr and status 2. Every other exception is an error in the program and keeps its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # ± and ε in a terminal without them are no reason to fail
            stream.reconfigure(errors="replace")
    options: dict[str, str] = {}
    try:
        namespace = _parse(arguments)
        options = {option.name: flag(option) for option in fields(namespace.options)}
        status = namespace.module.run(from_namespace(namespace.options, namespace))
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a closed pipe can still be told from an error
    except KeyboardInterrupt:
        print("labelsmooth: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader has seen enough; python would complain when it flushes the rest at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (*REFUSALS, MissingPackage, OSError) as error:
        return _fail(_with_option(_sentence(error), options))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "labelsmooth"):
            raise
        # that a network of the user's own needs
        return _fail(f"this needs the package {package}, which is not installed")
    return status or 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the arguments; the result also holds the command's `module` and its dataclass of `options`."""
    command = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if command is not None and command not in COMMANDS:
        raise InputError(f"there is no command {command!r}{_nearest(command, COMMANDS)}")
    parser = _Parser(
        prog="labelsmooth",
        description="Label smoothing for classifiers: what it asks of a network, and what it did to one.",
        epilog="labelsmooth COMMAND --help shows the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"labelsmooth {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS if command is None else [command]:
        module = import_module(f"labelsmooth.cli.{name}")
        kind = _take_kind(arguments, module) if name == command else None
        options, description = (
            module.options_of(kind) if hasattr(module, "KINDS") else (module.Options, module.DESCRIPTION)
        )
        called = " ".join(filter(None, (parser.prog, name, kind)))
        subparser = commands.add_parser(
            name, prog=called, help=module.HELP, description=description, allow_abbrev=False
        )
        subparser.set_defaults(module=module, options=options)
        add_options(subparser, options)
        if name == command:
            named = [flag(option) for option in fields(options) if not is_positional(option)]
            _check_option_names(arguments, {"--help", *named})
    if not arguments:
        parser.print_help()
        raise SystemExit(0)
    return parser.parse_args(arguments)


def _take_kind(arguments: list[str], module: ModuleType) -> str | None:
    """Take the second argument of a command of several kinds out of the list, where it is one of them."""
    kinds = getattr(module, "KINDS", ())
    if not kinds or len(arguments) < 2 or arguments[1].startswith("-"):
        return None
    if arguments[1] not in kinds:
        raise InputError(f"{arguments[0]} knows no {arguments[1]!r}{_nearest(arguments[1], kinds)}")
    return arguments.pop(1)


def _check_option_names(arguments: list[str], known: set[str]) -> None:
    # before argparse, which would first ask for a required option that is only misspelt
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            raise InputError(f"there is no option {name}{_nearest(name, known)}")


def _nearest(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, sorted(known), n=1)
    return f", did you mean {matches[0]}?" if matches else f", expected one of {', '.join(sorted(known))}"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _with_option(sentence: str, options: Mapping[str, str]) -> str:
    """Name what a sentence is about as the option that it is, where a setting must be another."""
    name, must, rest = sentence.partition(" must ")
    return f"{options.get(name, name)}{must}{rest}"


def _fail(sentence: str) -> int:
    print(f"labelsmooth: error: {sentence}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """argparse, with its complaints in the one form that all others have."""

    def error(self, message: str) -> NoReturn:
        said, _, names = message.partition("the following arguments are required: ")
        if not said and not names.startswith("-"):  # an option before it may have taken it
            message = f"{names} is missing; it goes before the options"
        raise InputError(message)
