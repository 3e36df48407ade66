"""Predictions in .npz archives, read through the archive without ever holding an array as a whole."""

from __future__ import annotations

import math
import struct
import sys
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.predictions.table import Array, Column, reading

# What zipfile and numpy's reader of headers raise for archives that are cut short, altered or encrypted.
_DAMAGE = (
    *(OSError, ValueError, EOFError, RuntimeError, MemoryError, TypeError, KeyError, SyntaxError),
    *(struct.error, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_INFLATED = 1032  # bytes that deflate can make of one at most
_COPIED = 2**20  # bytes at a time


@dataclass(frozen=True, kw_only=True)
class _Member:
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool  # columns one after another
    dtype: np.dtype[Any]


class NpzTable:
    """The arrays of an .npz archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading():
            whole = zipfile.is_zipfile(path)
        if not whole:
            raise InputError(f"{path} is no .npz archive, or was cut short")
        with self._open() as archive:
            self._members = {
                info.filename.removesuffix(".npy"): self._member(archive, info) for info in archive.infolist()
            }
        self.columns = {
            name: Column(shape=member.shape, kind=_kind(member.dtype))
            for name, member in self._members.items()
        }

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        with self._open() as archive:
            streams = [self._rows(archive, name, rows) for name in names]
            for arrays in zip(*streams, strict=True):
                yield dict(zip(names, arrays, strict=True))

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, _DAMAGE)

    def _open(self) -> zipfile.ZipFile:
        with self._reading():
            return zipfile.ZipFile(self.path)

    def _open_member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
        with self._reading():
            return archive.open(info)

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
        with self._open_member(archive, info) as stream:
            member = self._header(stream, info)
            size = stream.tell() + math.prod(member.shape) * member.dtype.itemsize
        if size != info.file_size or size > _INFLATED * (info.compress_size + 1):
            raise InputError(
                f"{self.path} announces {_product(member.shape)} values of {member.dtype} in "
                f"{info.filename}, which does not fit its size"
            )
        return member

    def _header(self, stream: IO[bytes], info: zipfile.ZipInfo) -> _Member:
        with self._reading():
            magic = stream.read(8)
        # a third version is for the names of fields, which no plain array has
        if magic not in (b"\x93NUMPY\1\0", b"\x93NUMPY\2\0"):
            raise InputError(f"{self.path} must hold plain arrays, {info.filename} is none")
        read = np.lib.format.read_array_header_1_0 if magic[6] == 1 else np.lib.format.read_array_header_2_0
        with self._reading():
            shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise InputError(f"{self.path} holds Python objects in {info.filename}, which are never read")
        if min(shape, default=0) < 0:
            raise InputError(f"{self.path} announces the shape {shape} in {info.filename}")
        return _Member(info=info, shape=shape, fortran=fortran and len(shape) > 1, dtype=dtype)

    def _rows(self, archive: zipfile.ZipFile, name: str, rows: int) -> Iterator[npt.NDArray[Any]]:
        member = self._members[name]
        with self._open_member(archive, member.info) as stream:
            self._header(stream, member.info)
            if member.fortran:
                yield from self._transposed(stream, member, rows)
                return
            bytes_a_row = math.prod(member.shape[1:]) * member.dtype.itemsize
            for start in range(0, member.shape[0], rows):
                count = min(rows, member.shape[0] - start)
                content = bytearray(self._read(stream, count * bytes_a_row))
                if len(content) < count * bytes_a_row:
                    raise self._cut_short(member)
                values = np.frombuffer(content, member.dtype).reshape(count, *member.shape[1:])
                yield self._native(values, member)
            self._read(stream, 1)  # at the end of a member its checksum is verified

    def _transposed(self, stream: IO[bytes], member: _Member, rows: int) -> Iterator[npt.NDArray[Any]]:
        """Rows of an array that is stored by columns, by way of a temporary file."""
        with tempfile.TemporaryFile() as copy:
            while content := self._read(stream, _COPIED):
                copy.write(content)
            copy.flush()
            if copy.tell() < math.prod(member.shape) * member.dtype.itemsize:
                raise self._cut_short(member)
            if math.prod(member.shape) == 0:
                return
            columns = np.memmap(copy, member.dtype, "r", shape=member.shape, order="F")
            for start in range(0, member.shape[0], rows):
                yield self._native(np.array(columns[start : start + rows], order="C"), member)

    def _read(self, stream: IO[bytes], size: int) -> bytes:
        with self._reading():
            return stream.read(size)

    def _cut_short(self, member: _Member) -> InputError:
        return InputError(f"{self.path} holds fewer values in {member.info.filename} than it announces")

    def _native(self, values: npt.NDArray[Any], member: _Member) -> npt.NDArray[Any]:
        """In this machine's order of bytes, the only one that torch knows, and text that is some."""
        native = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
        if native.dtype.kind == "U" and (native.view(np.uint32) > sys.maxunicode).any():
            raise InputError(f"{self.path} holds characters in {member.info.filename} that do not exist")
        return native


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f" and dtype.itemsize <= 8:  # torch has no longer ones
        return "float"
    if dtype.itemsize == 0:  # text of no characters
        return str(dtype)
    return {"i": "integer", "u": "integer", "U": "text"}.get(dtype.kind, str(dtype))


def _product(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"
