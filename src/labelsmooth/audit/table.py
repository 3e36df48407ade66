"""What every file of predictions is: named arrays whose rows are read in blocks, as often as wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt
from torch import Tensor

from labelsmooth.errors import InputError

Array: TypeAlias = Tensor | npt.NDArray[Any]

SUFFIXES = (".npz", ".safetensors", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a file says of one of its arrays."""

    shape: tuple[int, ...]  # (N, ...)
    kind: str  # "float", "integer" or the name of what else it holds


class Table(Protocol):
    """An open file. Its claims about shapes are checked against its size before anything is allocated."""

    path: Path
    columns: dict[str, Column]

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        """The named arrays, all of equal length, in blocks of at most so many rows, from the first on.

        Raises:
            ValueError: the file is damaged, or its rows are not what it announced.
        """
        ...


def open_table(path: Path) -> Table:
    """Open a file of predictions by its suffix; none of its rows are read yet.

    Raises:
        ValueError: there is no such file, it is of another kind, or it is damaged where it says what it
            holds.
        OSError: it may not be read.
        ModuleNotFoundError: the package that reads it is missing; `labelsmooth[audit]` brings it.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a file of predictions")
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if not path.is_file():
        raise InputError(f"{path} is no ordinary file")
    with path.open("rb") as stream:  # so that what may not be read says so, whatever its kind
        if not stream.read(1):
            raise InputError(f"{path} is empty")
    match path.suffix.lower():
        case ".npz":
            from labelsmooth.audit.npz import NpzTable

            return NpzTable(path)
        case ".safetensors":
            from labelsmooth.audit.safetensors import SafetensorsTable

            return SafetensorsTable(path)
        case ".parquet":
            from labelsmooth.audit.parquet import ParquetTable

            return ParquetTable(path)
    raise InputError(f"{path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


@contextmanager
def reading(path: Path, damage: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Turn what a package raises for a file that is cut short or altered into one sentence.

    Only calls of that package belong inside: an error of ours would look like one of the file.
    """
    try:
        yield
    except damage as error:
        cause = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} is no {path.suffix} file, or is damaged ({cause or type(error).__name__})"
        ) from error
