"""Readers of data sets: each hands over what it found, and `study.data` checks and splits it."""

from __future__ import annotations

from labelsmooth.errors import InputError
from labelsmooth.study.readers.cifar import read_cifar
from labelsmooth.study.readers.hf import read_hf
from labelsmooth.study.readers.idx import read_idx
from labelsmooth.study.readers.images import read_folder
from labelsmooth.study.readers.npz import read_rows
from labelsmooth.study.readers.packaged import read_digits, read_mnist5k
from labelsmooth.study.readers.source import Source, local_path

_PACKAGED = {"mnist5k": read_mnist5k, "digits": read_digits}
_ON_DISK = {"idx": read_idx, "npz": read_rows, "folder": read_folder, "cifar": read_cifar}
KNOWN_DATA = "mnist5k, digits, idx:DIR, npz:FILE, folder:DIR, cifar:DIR, hf:NAME"


def read_source(name: str) -> Source:
    """Read a data set by its name; `study.data.load_data` says which there are, and what it raises."""
    if name in _PACKAGED:
        return _PACKAGED[name]()
    kind, _, place = name.partition(":")
    if kind in _ON_DISK and place:
        return _ON_DISK[kind](local_path(place))
    if kind == "hf" and place:
        return read_hf(place)
    raise InputError(f"there is no data {name!r}; known are {KNOWN_DATA}")
