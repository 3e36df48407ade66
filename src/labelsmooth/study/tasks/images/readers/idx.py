"""The four files of MNIST's format."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.images.readers.source import Array, Source


def read_idx(folder: Path) -> Source:
    """Images and labels of a folder of four files, gzipped or not.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing.
        ValueError: a file is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return Source(
        images=_read_file(folder, "train-images-idx3-ubyte", dimensions=3),
        labels=_read_file(folder, "train-labels-idx1-ubyte", dimensions=1),
        own_test=(
            _read_file(folder, "t10k-images-idx3-ubyte", dimensions=3),
            _read_file(folder, "t10k-labels-idx1-ubyte", dimensions=1),
        ),
    )


def _read_file(folder: Path, name: str, dimensions: int) -> Array:
    plain, zipped = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else zipped
    if not path.is_file():
        raise FileNotFoundError(f"there is neither {name} nor {name}.gz in {folder}")
    try:
        with gzip.open(path) if path == zipped else path.open("rb") as stream:
            return _parse(cast("BinaryIO", stream), path, dimensions)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is not a gzip file, or was cut short") from error


def _parse(stream: BinaryIO, path: Path, dimensions: int) -> Array:
    """Two zero bytes, 8 for unsigned bytes, the number of dimensions, their big-endian sizes, the values."""
    magic = stream.read(4)
    if magic != bytes([0, 0, 8, dimensions]):
        raise InputError(
            f"{path} must start with the IDX magic number {0x0800 + dimensions}, "
            f"got the bytes '{magic.hex(' ')}'"
        )
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise InputError(f"{path} was cut short in its header")
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4"))
    values = stream.read()
    if len(values) != math.prod(shape):
        raise InputError(f"{path} announces {math.prod(shape)} values in its header and holds {len(values)}")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)
