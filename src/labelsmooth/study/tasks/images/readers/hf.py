"""Data sets of Hugging Face, from its hub or from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.images.readers.images import stack_images
from labelsmooth.study.tasks.images.readers.source import Array, Source
from labelsmooth.study.tasks.places import load_splits, local_path, reading_splits


def read_hf(place: str, resize: int = 0) -> Source:
    """The splits `train` and, where they are there, `validation` and `test`; others are left alone.

    Args:
        place: the name of a data set on the hub, or a folder: one that `save_to_disk` wrote, or one of
            Parquet or image files that `load_dataset` takes; `:COLUMN` behind it names the column of labels
            where there are several.
        resize: side of the square that every image is scaled to; 0: none is.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the data set cannot be had, is damaged, or has no column of images or of labels.
        ImportError: datasets is missing; `labelsmooth[hf]` brings it.
    """
    name, label = place, ""
    if not local_path(place).is_dir() and ":" in place:
        name, _, label = place.rpartition(":")
    splits = load_splits(name)
    image, label = _columns(splits["train"].features, name, label)
    class_names = getattr(splits["train"].features[label], "names", None)
    found = {}
    for part in ("train", "validation", "test"):
        if part in splits:
            if splits[part].features != splits["train"].features:
                raise InputError(
                    f"the splits train and {part} of {name} must have the same columns and classes"
                )
            found[part] = _read_split(splits[part], image, label, f"{name}, split {part}", resize)
    images, labels = found["train"]
    return Source(
        images=images,
        labels=labels,
        own_validation=found.get("validation"),
        own_test=found.get("test"),
        class_names=None if class_names is None else tuple(class_names),
    )


def _columns(features: Any, name: str, label: str) -> tuple[str, str]:
    """The names of the columns of images and of labels."""
    import datasets

    images = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(images) != 1:
        raise InputError(f"{name} must have one column of images, it has {', '.join(images) or 'none'}")
    labels = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if label:
        if label not in features:
            raise InputError(f"{name} has no column {label}, it has {', '.join(features)}")
        if not str(getattr(features[label], "dtype", "")).startswith(("int", "uint")):
            raise InputError(f"the column {label} of {name} must hold labels, it holds {features[label]}")
        return images[0], label
    if len(labels) != 1:
        raise InputError(
            f"{name} must have one column of class labels, it has {', '.join(labels) or 'none'}; "
            f"name one, as in hf:{name}:COLUMN"
        )
    return images[0], labels[0]


def _read_split(split: Any, image: str, label: str, where: str, resize: int) -> tuple[Array, Array]:
    import datasets

    with reading_splits(where):
        split.data.validate(full=True)  # Arrow reads memory that is not its own where offsets were altered
        labels = np.array(split[label][:])
    encoded = split.cast_column(image, datasets.Image(decode=False))

    def contents() -> Iterator[tuple[str, bytes]]:
        for row, found in enumerate(encoded[image]):
            if found is None:
                raise InputError(f"{where}, row {row} must have an image, got none")
            path, content = found["path"], found["bytes"]
            yield f"{where}, row {row}", Path(path).read_bytes() if content is None else content

    return stack_images(contents(), resize), labels
