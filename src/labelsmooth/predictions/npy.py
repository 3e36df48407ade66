"""Arrays in NumPy's format: one in a .npy file, several in an .npz archive."""

from __future__ import annotations

import math
import struct
import sys
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.files import reading
from labelsmooth.predictions.names import name_of_only_array
from labelsmooth.predictions.table import Array, Column

# What zipfile and numpy's reader of headers raise for files that are cut short, altered or encrypted.
DAMAGE = (
    *(OSError, ValueError, EOFError, RuntimeError, TypeError, KeyError, SyntaxError),
    *(struct.error, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_COPIED = 2**20  # bytes at a time


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of an array: what it claims to be."""

    path: Path
    name: str  # of the array's file, which may lie in an archive
    shape: tuple[int, ...]
    fortran: bool  # columns one after another
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """The size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def column(self) -> Column:
        """The shape and the kind."""
        return Column(shape=self.shape, kind=_kind(self.dtype))

    def misfit(self) -> InputError:
        """The refusal of values that do not fill what is announced."""
        values = "×".join(map(str, self.shape)) or "1"
        return InputError(
            f"{self.path} announces {values} values of {self.dtype} in {self.name}, "
            "which does not fit its size"
        )


def read_header(stream: IO[bytes], path: Path, name: str) -> Header:
    """Read what a stream announces, up to where its values begin.

    Raises:
        ValueError: it is no plain array.
    """
    with reading(path, DAMAGE):
        magic = stream.read(8)
    # a third version is for the names of fields, which no plain array has
    if magic not in (b"\x93NUMPY\1\0", b"\x93NUMPY\2\0"):
        raise InputError(f"{path} must hold plain arrays, {name} is none")
    read = np.lib.format.read_array_header_1_0 if magic[6] == 1 else np.lib.format.read_array_header_2_0
    with reading(path, DAMAGE):
        shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise InputError(f"{path} holds Python objects in {name}, which are never read")
    if min(shape, default=0) < 0:
        raise InputError(f"{path} announces the shape {shape} in {name}")
    return Header(path=path, name=name, shape=shape, fortran=fortran and len(shape) > 1, dtype=dtype)


def read_rows(stream: IO[bytes], path: Path, name: str, rows: int) -> Iterator[npt.NDArray[Any]]:
    """Read an array from its header on, in blocks of at most so many rows."""
    header = read_header(stream, path, name)
    if header.fortran:
        yield from _transposed(stream, header, rows)
        return
    bytes_a_row = math.prod(header.shape[1:]) * header.dtype.itemsize
    for start in range(0, header.shape[0], rows):
        count = min(rows, header.shape[0] - start)
        content = bytearray(_read(stream, header, count * bytes_a_row))
        if len(content) < count * bytes_a_row:
            raise _cut_short(header)
        values = np.frombuffer(content, header.dtype).reshape(count, *header.shape[1:])
        yield _native(values, header)
    _read(stream, header, 1)  # at the end of an archive's member its checksum is verified


class NpyTable:
    """The only array of a .npy file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            header = read_header(stream, path, path.name)
            if stream.tell() + header.bytes != path.stat().st_size:
                raise header.misfit()
        self.columns = {name_of_only_array(path): header.column}

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        (name,) = names
        with self.path.open("rb") as stream:
            for values in read_rows(stream, self.path, self.path.name, rows):
                yield {name: values}


def _transposed(stream: IO[bytes], header: Header, rows: int) -> Iterator[npt.NDArray[Any]]:
    """Rows of an array that is stored by columns, by way of a temporary file."""
    with tempfile.TemporaryFile() as copy:
        while content := _read(stream, header, _COPIED):
            copy.write(content)
        copy.flush()
        if copy.tell() < header.bytes:
            raise _cut_short(header)
        if math.prod(header.shape) == 0:
            return
        columns = np.memmap(copy, header.dtype, "r", shape=header.shape, order="F")
        for start in range(0, header.shape[0], rows):
            yield _native(np.array(columns[start : start + rows], order="C"), header)


def _read(stream: IO[bytes], header: Header, size: int) -> bytes:
    with reading(header.path, DAMAGE):
        return stream.read(size)


def _cut_short(header: Header) -> InputError:
    return InputError(f"{header.path} holds fewer values in {header.name} than it announces")


def _native(values: npt.NDArray[Any], header: Header) -> npt.NDArray[Any]:
    """In this machine's order of bytes, the only one that torch knows, and text that is some."""
    native = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    if native.dtype.kind == "U" and (native.view(np.uint32) > sys.maxunicode).any():
        raise InputError(f"{header.path} holds characters in {header.name} that do not exist")
    return native


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f" and dtype.itemsize <= 8:  # torch has no longer ones
        return "float"
    if dtype.itemsize == 0:  # text of no characters
        return str(dtype)
    return {"i": "integer", "u": "integer", "U": "text"}.get(dtype.kind, str(dtype))
