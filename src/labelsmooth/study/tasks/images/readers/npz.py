"""Rows of .npz archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.study.archive import read_npz
from labelsmooth.study.tasks.images.readers.source import Array, Source


def read_rows(path: Path) -> Source:
    """Read images and labels of an .npz file: `x`, `y`, and `x_test`, `y_test` where there are some.

    The names may be in capitals, and labels may be strings, which are the names of their classes.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is damaged, or one of the arrays is missing.
    """
    found = read_npz(path)
    arrays = {name.lower(): array for name, array in found.items()}
    for name in ("x", "y"):
        if name not in arrays:
            raise InputError(f"{path} must hold the arrays x and y, it holds {', '.join(found) or 'none'}")
    if len(arrays) < len(found):
        raise InputError(f"{path} must hold each array once, it holds {', '.join(found)}")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise InputError(f"{path} must hold both x_test and y_test, or neither")
    labels, class_names = _numbered(arrays["y"])
    own_test = None
    if "x_test" in arrays:
        own_test = (arrays["x_test"], _numbered_as(class_names, arrays["y_test"], path))
    return Source(images=arrays["x"], labels=labels, own_test=own_test, class_names=class_names)


def _numbered(labels: Array) -> tuple[Array, tuple[str, ...] | None]:
    """Number labels that are strings, in the order of their names; leave others as they are."""
    if labels.dtype.kind not in "US":
        return labels, None
    names, numbers = np.unique(labels.astype(np.str_), return_inverse=True)
    return numbers.reshape(labels.shape), tuple(map(str, names))


def _numbered_as(class_names: tuple[str, ...] | None, labels: Array, path: Path) -> Array:
    """Number the labels of the test rows as those of the training rows."""
    if class_names is None:
        return labels
    number_of = {name: number for number, name in enumerate(class_names)}
    unknown = set(map(str, labels.astype(np.str_).ravel())) - number_of.keys()
    if unknown:
        raise InputError(f"y_test of {path} must hold classes of y, got {min(unknown)}")
    numbers = [number_of[name] for name in map(str, labels.astype(np.str_).ravel())]
    return np.array(numbers).reshape(labels.shape)
