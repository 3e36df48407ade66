"""The common form of what readers of data find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError

Array = NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows that a reader found, unchecked."""

    images: Array  # (N, H, W), (N, H, W, C) or (N, D)
    labels: Array  # (N,)
    own_validation: tuple[Array, Array] | None = None  # images and labels
    own_test: tuple[Array, Array] | None = None  # likewise
    class_names: tuple[str, ...] | None = None  # by class number; None: the numbers


def local_path(place: str) -> Path:
    """The path that stands behind a colon, where no shell expands the ~.

    Raises:
        InputError: it begins with the home folder of somebody who has none.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise InputError(f"there is no home folder for {place}") from error
