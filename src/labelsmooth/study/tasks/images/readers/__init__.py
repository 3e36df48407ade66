"""Readers of data sets: each hands over what it found, and `data` checks and splits it."""

from __future__ import annotations

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.images.readers.cifar import read_cifar
from labelsmooth.study.tasks.images.readers.hf import read_hf
from labelsmooth.study.tasks.images.readers.idx import read_idx
from labelsmooth.study.tasks.images.readers.images import read_folder
from labelsmooth.study.tasks.images.readers.npz import read_rows
from labelsmooth.study.tasks.images.readers.packaged import read_digits, read_mnist5k
from labelsmooth.study.tasks.images.readers.source import Source
from labelsmooth.study.tasks.places import local_path

_PACKAGED = {"mnist5k": read_mnist5k, "digits": read_digits}
_ON_DISK = {"idx": read_idx, "npz": read_rows, "cifar": read_cifar}
KNOWN_DATA = "mnist5k, digits, idx:DIR, npz:FILE, folder:DIR, cifar:DIR, hf:NAME"


def read_source(name: str, resize: int = 0) -> Source:
    """Read a data set by its name; `load_data` says which there are, and what it raises.

    Args:
        name: of the data.
        resize: side of the square that every image of a folder or of `hf:` is scaled to; 0: none is.
    """
    kind, _, place = name.partition(":")
    if kind == "folder" and place:
        return read_folder(local_path(place), resize)
    if kind == "hf" and place:
        return read_hf(place, resize)
    if resize:
        raise InputError(f"resize is for the images of folder:DIR and hf:NAME, got {name}")
    if name in _PACKAGED:
        return _PACKAGED[name]()
    if kind in _ON_DISK and place:
        return _ON_DISK[kind](local_path(place))
    raise InputError(f"there is no data {name!r}; known are {KNOWN_DATA}")
