"""Reading .npz archives that others made, without ever executing what is inside."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.files import reading

# What numpy and zipfile raise for archives that are cut short, altered, encrypted or full of pickles.
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read every array of an .npz file.

    Args:
        path: an existing .npz file.

    Returns:
        The arrays by name, each with its checksum verified.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is not an .npz archive, is damaged, or holds Python objects.
        OSError: it may not be read, or there is not enough memory for it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz archive, or was cut short")

    def refusal(_: BaseException) -> str:
        return f"{path} is damaged, or holds Python objects instead of plain arrays"

    with reading(path, _UNREADABLE, refusal), np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands over the bytes of members that are no arrays
            raise InputError(f"{path} must hold plain arrays, {name} is none")
    return arrays
