"""Which kinds of files are read, and by what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.predictions.npz import NpzTable
from labelsmooth.predictions.table import Table


def open_table(path: Path) -> Table:
    """Open a file of predictions by its suffix; none of its rows are read yet.

    Raises:
        ValueError: there is no such file, it is of another kind, or it is damaged where it says what it
            holds.
        OSError: it may not be read.
        ModuleNotFoundError: the package that reads it is missing; `labelsmooth[audit]` brings it.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a file of predictions")
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if not path.is_file():
        raise InputError(f"{path} is no ordinary file")
    with path.open("rb") as stream:  # so that what may not be read says so, whatever its kind
        if not stream.read(1):
            raise InputError(f"{path} is empty")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        *others, last = FORMATS
        raise InputError(f"{path} must end in {', '.join(others)} or {last}")
    return FORMATS[suffix](path)


def _open_safetensors(path: Path) -> Table:
    with needs_extra("audit"):
        from labelsmooth.predictions.safetensors import SafetensorsTable

    return SafetensorsTable(path)


def _open_parquet(path: Path) -> Table:
    with needs_extra("audit"):
        from labelsmooth.predictions.parquet import ParquetTable

    return ParquetTable(path)


FORMATS: dict[str, Callable[[Path], Table]] = {
    ".npz": NpzTable,
    ".safetensors": _open_safetensors,
    ".parquet": _open_parquet,
}
