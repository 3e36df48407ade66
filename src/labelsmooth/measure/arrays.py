"""Names for types of arrays, and rows widened to float64 a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
State: TypeAlias = Mapping[str, npt.NDArray[Any]]  # all that a measure has counted

# float64 numbers in 2 MB, which stay in cache through all that is done with them, and in 8 MB
IN_CACHE, IN_MEMORY = 2**18, 2**20


def pieces(
    rows: Tensor,  # (N, C)
    *columns: Tensor,  # (N, ...)
    numbers: int = IN_MEMORY,
    at_least: int = 1,
) -> Iterator[tuple[Tensor, ...]]:
    """Consecutive rows in float64, with what else is known of them, so many numbers of them at a time.

    Args:
        numbers: of a piece of `rows`.
        at_least: rows of a piece, but for the last.
    """
    size = max(at_least, numbers // max(1, rows.shape[-1]))
    for start in range(0, len(rows), size):
        place = slice(start, start + size)
        yield rows[place].double(), *(part[place] for part in columns)
