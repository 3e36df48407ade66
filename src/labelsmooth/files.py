"""Files that are written whole or not at all, and are on the disk once that is said."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from labelsmooth.errors import InputError

_NOT_OF_THE_FILE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO)

PARTIAL = ".partial-"  # what the name of everything begins with that is not yet whole


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file that readers see either as it was or complete; see `write_together`."""
    write_together({path: content})


def write_together(contents: Mapping[Path, str | bytes]) -> None:
    """Write files that readers see as they were or complete; where one cannot be written, none changes.

    Args:
        contents: of each file, whose folder exists. Text becomes UTF-8; what has no UTF-8, as the name of a
            file may, becomes a question mark.

    Raises:
        OSError: one cannot be written; it names that file.
    """
    partial = {path: _partial(path) for path in contents}
    try:
        for path, content in contents.items():
            with _naming(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                write_synced(partial[path], content)
        for path, written in partial.items():
            with _naming(path):
                written.replace(path)
    finally:
        for written in partial.values():
            written.unlink(missing_ok=True)
    for folder in {path.parent for path in contents}:
        sync_folder(folder)


def _partial(path: Path) -> Path:
    """A new name beside a file, so that two writers of it at a time do not mix what they write."""
    return path.with_name(f"{PARTIAL}{uuid4().hex[:12]}-{path.name}")


def write_synced(path: Path, content: str | bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with _naming(path), path.open("wb") as stream:
        stream.write(content.encode(errors="replace") if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows offers nothing to wait for."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reading(
    path: Path | str,
    damage: tuple[type[BaseException], ...],
    refusal: Callable[[BaseException], str] | None = None,
) -> Iterator[None]:
    """Turn what a foreign reader raises for a file that is cut short or altered into one sentence.

    A lack of memory, of open files or of permission is no fault of the file, and is told as what it is.
    Only calls of that reader belong inside: an error of ours would look like one of the file.

    Args:
        path: of the file, or what else names the place that is read.
        damage: what the reader raises for it.
        refusal: makes the sentence of what was raised; without it the sentence names the kind of file too.

    Raises:
        InputError: the file is damaged.
        OSError: the machine could not read it.
    """
    try:
        yield
    except MemoryError as error:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from error
    except damage as error:
        if isinstance(error, OSError) and error.errno in _NOT_OF_THE_FILE:
            raise
        raise InputError(_damaged(path, error) if refusal is None else refusal(error)) from error


def _damaged(path: Path | str, error: BaseException) -> str:
    cause = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{path} is no {Path(path).suffix} file, or is damaged ({cause})"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the system, which names none where a disk is full."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
