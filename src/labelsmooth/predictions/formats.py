"""Which kinds of files are read, and by what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.predictions.npy import NpyTable
from labelsmooth.predictions.npz import NpzTable
from labelsmooth.predictions.table import Table
from labelsmooth.predictions.torch_file import TorchTable


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
        recipe = _RECIPES.get(suffix, _SAVE).format(name=path.name, stem=path.stem)
        raise InputError(f"{path} must end in {', '.join(others)} or {last}: {recipe}")
    return FORMATS[suffix](path)


def _open_safetensors(path: Path) -> Table:
    with needs_extra("audit"):
        from labelsmooth.predictions.safetensors import SafetensorsTable

    return SafetensorsTable(path)


def _open_parquet(path: Path) -> Table:
    with needs_extra("audit"):
        from labelsmooth.predictions.parquet import ParquetTable

    return ParquetTable(path)


def _open_feather(path: Path) -> Table:
    with needs_extra("audit"):
        from labelsmooth.predictions.feather import FeatherTable

    return FeatherTable(path)


def _open_csv(path: Path) -> Table:
    with needs_extra("audit"):
        from labelsmooth.predictions.csv import CsvTable

    return CsvTable(path)


FORMATS: dict[str, Callable[[Path], Table]] = {
    ".npz": NpzTable,
    ".npy": NpyTable,
    ".safetensors": _open_safetensors,
    ".pt": TorchTable,
    ".pth": TorchTable,
    ".parquet": _open_parquet,
    ".feather": _open_feather,
    ".csv": _open_csv,
    ".tsv": _open_csv,
}
# The line that makes a file of the kinds above out of another.
_SAVE = "np.savez('{stem}.npz', probs=probs, labels=labels) writes one"
_PICKLE = "a pickle can run code and is never read; where you trust it, load it and " + _SAVE
_JSON = "pd.read_json('{name}', lines={lines}).to_parquet('{stem}.parquet') writes one"
_RECIPES = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    ".json": _JSON.replace("{lines}", "False"),
    ".jsonl": _JSON.replace("{lines}", "True") + ", and --lm-eval reads logs of lm-evaluation-harness",
    ".xlsx": "pd.read_excel('{name}').to_csv('{stem}.csv', index=False) writes one",
    ".mat": "np.savez('{stem}.npz', **scipy.io.loadmat('{name}')) writes one",
    ".arrow": "datasets.Dataset.from_file('{name}').to_parquet('{stem}.parquet') writes one",
    ".txt": "rename it to {stem}.csv or {stem}.tsv where its first line names the columns",
}
