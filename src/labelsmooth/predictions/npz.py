"""Predictions in .npz archives, read through the archive without ever holding an array as a whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from labelsmooth.errors import InputError
from labelsmooth.files import reading
from labelsmooth.predictions.npy import DAMAGE, Header, read_header, read_rows
from labelsmooth.predictions.table import Array

_INFLATED = 1032  # bytes that deflate can make of one at most


class NpzTable:
    """The arrays of an .npz archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, DAMAGE):
            whole = zipfile.is_zipfile(path)
        if not whole:
            raise InputError(f"{path} is no .npz archive, or was cut short")
        with self._open() as archive:
            self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            self.columns = {name: self._header(archive, info).column for name, info in self._members.items()}

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
        with self._open() as archive:
            streams = [self._rows(archive, self._members[name], rows) for name in names]
            for arrays in zip(*streams, strict=True):
                yield dict(zip(names, arrays, strict=True))

    def _open(self) -> zipfile.ZipFile:
        with reading(self.path, DAMAGE):
            return zipfile.ZipFile(self.path)

    def _open_member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
        with reading(self.path, DAMAGE):
            return archive.open(info)

    def _header(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
        with self._open_member(archive, info) as stream:
            header = read_header(stream, self.path, info.filename)
            size = stream.tell() + header.bytes
        if size != info.file_size or size > _INFLATED * (info.compress_size + 1):
            raise header.misfit()
        return header

    def _rows(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, rows: int) -> Iterator[Array]:
        with self._open_member(archive, info) as stream:
            yield from read_rows(stream, self.path, info.filename, rows)
