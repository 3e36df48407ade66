"""Predictions in .npz archives, read through the archive without ever holding an array as a whole."""

from __future__ import annotations

import math
import struct
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

from labelsmooth.audit.table import Array, BadFile, Column, reading

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
        if not zipfile.is_zipfile(path):
            raise BadFile(f"{path} is no .npz archive, or was cut short")
        with reading(path, _DAMAGE), zipfile.ZipFile(path) as archive:
            self._members = {
                info.filename.removesuffix(".npy"): self._member(archive, info) for info in archive.infolist()
            }
        self.columns = {
            name: Column(shape=member.shape, kind=_kind(member.dtype))
            for name, member in self._members.items()
        }

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        with reading(self.path, _DAMAGE), zipfile.ZipFile(self.path) as archive:
            streams = [self._rows(archive, name, rows) for name in names]
            for arrays in zip(*streams, strict=True):
                yield dict(zip(names, arrays, strict=True))

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
        with archive.open(info) as stream:
            member = self._header(stream, info)
            size = stream.tell() + math.prod(member.shape) * member.dtype.itemsize
        if size != info.file_size or size > _INFLATED * (info.compress_size + 1):
            raise BadFile(
                f"{self.path} announces {_product(member.shape)} values of {member.dtype} in "
                f"{info.filename}, which does not fit its size"
            )
        return member

    def _header(self, stream: IO[bytes], info: zipfile.ZipInfo) -> _Member:
        if stream.read(6) != b"\x93NUMPY":
            raise BadFile(f"{self.path} must hold plain arrays, {info.filename} is none")
        version = stream.read(2)
        if version not in (b"\1\0", b"\2\0"):  # a third is for the names of fields, which no plain array has
            raise BadFile(f"{self.path} must hold plain arrays, {info.filename} is none")
        read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise BadFile(f"{self.path} holds Python objects in {info.filename}, which are never read")
        if min(shape, default=0) < 0:
            raise BadFile(f"{self.path} announces the shape {shape} in {info.filename}")
        return _Member(info=info, shape=shape, fortran=fortran and len(shape) > 1, dtype=dtype)

    def _rows(self, archive: zipfile.ZipFile, name: str, rows: int) -> Iterator[npt.NDArray[Any]]:
        member = self._members[name]
        with archive.open(member.info) as stream:
            self._header(stream, member.info)
            if member.fortran:
                yield from _transposed(stream, member, rows)
                return
            values_a_row = math.prod(member.shape[1:])
            for start in range(0, member.shape[0], rows):
                count = min(rows, member.shape[0] - start)
                content = bytearray(stream.read(count * values_a_row * member.dtype.itemsize))
                yield _native(np.frombuffer(content, member.dtype).reshape(count, *member.shape[1:]))
            stream.read(1)  # at the end of a member its checksum is verified


def _transposed(stream: IO[bytes], member: _Member, rows: int) -> Iterator[npt.NDArray[Any]]:
    """Rows of an array that is stored by columns, by way of a temporary file."""
    with tempfile.TemporaryFile() as copy:
        while content := stream.read(_COPIED):
            copy.write(content)
        copy.flush()
        if math.prod(member.shape) == 0:
            return
        columns = np.memmap(copy, member.dtype, "r", shape=member.shape, order="F")
        for start in range(0, member.shape[0], rows):
            yield _native(np.array(columns[start : start + rows], order="C"))


def _native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """In this machine's order of bytes, the only one that torch knows."""
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f" and dtype.itemsize <= 8:  # torch has no longer ones
        return "float"
    return {"i": "integer", "u": "integer", "U": "text"}.get(dtype.kind, str(dtype))


def _product(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"
