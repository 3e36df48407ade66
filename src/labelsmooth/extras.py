"""The error for a missing package that only a part of this library needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MissingPackage(ModuleNotFoundError):
    """A package that an extra brings is not installed; the message names both."""


@contextmanager
def needs_extra(*extras: str, tested: str | None = None) -> Iterator[None]:
    """Turn a failed import within the block into a sentence that says how to install what is missing.

    Args:
        extras: of pyproject.toml, any of which brings the packages that the block imports.
        tested: the package that is adapted to, and the version that the tests run it in, as "trl 1.16.0".

    Raises:
        MissingPackage: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "labelsmooth"):  # an error in this library
            raise
        commands = " or ".join(f"'.[{extra}]'" for extra in extras)
        raise MissingPackage(
            f"this needs the package {package}, "
            f"which pip install {commands} in a clone of labelsmooth brings"
            + ("" if tested is None else f"; tested with {tested}"),
            name=package,
        ) from error
