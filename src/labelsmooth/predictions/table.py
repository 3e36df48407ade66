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
