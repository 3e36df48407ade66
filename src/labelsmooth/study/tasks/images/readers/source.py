"""The common form of what readers of data find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows that a reader found, unchecked."""

    images: Array  # (N, H, W), (N, H, W, C) or (N, D)
    labels: Array  # (N,)
    own_validation: tuple[Array, Array] | None = None  # images and labels
    own_test: tuple[Array, Array] | None = None  # likewise
    class_names: tuple[str, ...] | None = None  # by class number; None: the numbers
