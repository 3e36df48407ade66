"""Where the data of a study lies: files of this machine, and data sets of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import reading

# What `datasets` raises, beside its own, for folders that are damaged or of another kind.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
)


def local_path(place: str) -> Path:
    """Make a path of what stands behind a colon, where no shell expands the ~.

    Raises:
        InputError: it begins with the home folder of somebody who has none.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise InputError(f"there is no home folder for {place}") from error


def no_data(name: str, known: str, by_suffix: Mapping[str, str]) -> InputError:
    """Make the refusal of a name of data, which says how a file of that name is meant to be given.

    Args:
        name: that is refused.
        known: the forms that names have.
        by_suffix: the kind that a file of each suffix is likely to be.
    """
    kind = by_suffix.get(Path(name).suffix)
    meant = f", did you mean {kind}:{name}?" if kind and local_path(name).is_file() else ""
    return InputError(f"there is no data {name!r}; known are {known}{meant}")


def load_splits(name: str) -> dict[str, Any]:
    """Load a data set of Hugging Face, by the names of its splits.

    Args:
        name: of a data set on the hub, or a folder: one that `save_to_disk` wrote, or one that `load_dataset`
            takes.

    Raises:
        FileNotFoundError: there is no such folder.
        InputError: the data set cannot be had, is damaged, or has no split `train`.
        MissingPackage: datasets is missing.
    """
    with needs_extra("hf"):
        import datasets

    folder = local_path(name)
    if name.startswith(("/", ".", "~")) and not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
    with reading_splits(f"the data set {name}"):
        if saved:
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder) if folder.is_dir() else name)
    splits = dict(found) if isinstance(found, dict) else {"train": found}
    if "train" not in splits:
        raise InputError(f"{name} must have a split train, it has {', '.join(splits) or 'none'}")
    return splits


def reading_splits(what: str) -> AbstractContextManager[None]:
    """Turn what `datasets` raises for a damaged data set into one sentence that names `what` is read."""
    import datasets

    def refusal(error: BaseException) -> str:
        lines = str(error).splitlines() or [type(error).__name__]
        return f"{what} cannot be read: {lines[0]}"

    return reading(what, (datasets.exceptions.DatasetsError, *_UNREADABLE), refusal)
