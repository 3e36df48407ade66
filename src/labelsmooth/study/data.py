"""Real images, read, checked, split and standardised before any training starts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.study.readers import read_source
from labelsmooth.study.readers.source import Array, Source

# Fixed, and apart from the seeds of the trials: every trial of every study sees the same rows.
SPLIT_SEED = 0
_LARGEST = 1e38  # of the values, so that float32 holds their differences
HELD_OUT = 0.2  # of the rows of every class for validation, and as many for the test


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Images with their labels."""

    images: Tensor  # (N, C, H, W) or (N, D), float32, standardised by channel or column of the training rows
    labels: Tensor  # (N,), int64


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What a reader of a study has to know of its data."""

    sha256: str  # of the rows and their split
    shape: tuple[int, ...]  # of one row: (channels, height, width) or (values,)
    class_names: tuple[str, ...]
    train_rows: int
    validation_rows: int
    test_rows: int


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set split into three parts that share no row."""

    train: Rows
    validation: Rows
    test: Rows
    zero: Tensor  # (C, 1, 1), or (D,) of tables: what the value 0 became, which is black
    summary: DataSummary


def load_data(name: str) -> Data:
    """Read a data set by name and split it into training, validation and test rows.

    The validation rows, and the test rows where the data has no test set of its own, are a fixed fifth of
    every class. The mean and deviation of the training rows standardise each channel of images, and each
    column of a table, whose columns may be in different units.

    Args:
        name: `mnist5k`, `digits`, or
            `idx:DIR`: a folder of the four MNIST-format files, gzipped or not;
            `npz:FILE`: arrays `x` and `y`, and `x_test` and `y_test` where there is a test set; `x` is
            (N, H, W), (N, H, W, C) or (N, D);
            `folder:DIR`: PNG or JPEG images in DIR/CLASS, or in DIR/train/CLASS and DIR/test/CLASS;
            `cifar:DIR`: CIFAR-10 or CIFAR-100 in the binary version;
            `hf:NAME`: a data set of Hugging Face's hub, or a folder of one, with one column of images and one
            of class labels; `hf:NAME:COLUMN` says which labels where there are several.

    Returns:
        The three parts with their summary.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the name is unknown, a file is damaged, or its values cannot be trained on.
        ImportError: mlxtend, scikit-learn, Pillow or datasets is missing where it is needed;
            `labelsmooth[study]` brings the first three, `labelsmooth[hf]` the last.
    """
    return _prepare(read_source(name), name)


def _prepare(source: Source, name: str) -> Data:
    images = _checked_images(source.images, f"the images of {name}")
    labels = _checked_labels(source.labels, len(images), f"the labels of {name}")
    num_classes = _count_classes(labels, name)
    class_names = source.class_names or tuple(str(label) for label in range(num_classes))
    if len(class_names) != num_classes:
        raise InputError(f"{name} must have rows of all its {len(class_names)} classes, got {num_classes}")
    if source.own_test is None:
        validation, test, train = _stratified(labels, name, parts=2)
        test_images, test_labels = images[test], labels[test]
    else:
        validation, train = _stratified(labels, name, parts=1)
        test = np.arange(0)
        test_images = _checked_images(source.own_test[0], f"the test images of {name}")
        test_labels = _checked_labels(source.own_test[1], len(test_images), f"the test labels of {name}")
        if test_images.shape[1:] != images.shape[1:]:
            raise InputError(
                f"the test images of {name} must have the shape {images.shape[1:]} of its training images, "
                f"got {test_images.shape[1:]}"
            )
        if test_labels.max() >= num_classes:
            raise InputError(
                f"the test labels of {name} must lie in 0..{num_classes - 1}, got {test_labels.max()}"
            )
    mean, scale = _mean_and_scale(images[train], name)

    def rows(raw: NDArray[np.float32], classes: NDArray[np.int64]) -> Rows:
        values = raw - mean
        values /= scale  # ImageNet's features are gigabytes: no further copy
        return Rows(images=torch.from_numpy(values), labels=torch.from_numpy(classes))

    return Data(
        train=rows(images[train], labels[train]),
        validation=rows(images[validation], labels[validation]),
        test=rows(test_images, test_labels),
        zero=torch.from_numpy(-mean / scale).squeeze(0),
        summary=DataSummary(
            sha256=_sha256(
                *(images, labels, train, validation, test, test_images, test_labels),
                # trials on a table that was standardised as a whole are others
                *((mean, scale) if images.ndim == 2 else ()),
            ),
            shape=images.shape[1:],
            class_names=class_names,
            train_rows=len(train),
            validation_rows=len(validation),
            test_rows=len(test_labels),
        ),
    )


def _checked_images(images: Array, what: str) -> NDArray[np.float32]:
    """The images as (N, C, H, W) or (N, D)."""
    if images.dtype.kind not in "buif":
        raise InputError(f"{what} must be numbers, got {images.dtype}")
    if images.ndim not in (2, 3, 4) or images.size == 0:
        raise InputError(
            f"{what} must have the shape (N, H, W), (N, H, W, C) or (N, D) and no empty dimension, "
            f"got {images.shape}"
        )
    if images.ndim == 4 and _channels_first(*images.shape[1:]):
        raise InputError(f"{what} must have their channels last, (N, H, W, C), got {images.shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is rejected
        values = images.astype(np.float32, copy=False)
    if not (values.min() >= -_LARGEST and values.max() <= _LARGEST):  # nor is NaN
        raise InputError(f"{what} must be finite, got NaN or an infinite or too large value")
    if values.ndim == 2:
        return values
    channels_first = values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(channels_first)


def _channels_first(first: int, second: int, third: int) -> bool:
    """Whether a side of so many pixels can only be channels; one row of pixels may be a signal."""
    return min(second, third) > 4 and (first == 3 or (first == 1 and second == third))


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


def _mean_and_scale(train: NDArray[np.float32], name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Per channel of images and per column of a table; a scale of the pixels cancels here."""
    axes = (0, 2, 3) if train.ndim == 4 else 0
    mean = train.mean(axis=axes, dtype=np.float64, keepdims=True)
    deviation = train.std(axis=axes, dtype=np.float64, keepdims=True)
    varies = train.max(axis=axes, keepdims=True) > train.min(axis=axes, keepdims=True)
    if not varies.any():
        raise InputError(f"the training images of {name} must differ, got one value in every pixel")
    scale = np.where(varies, deviation, 1)  # a channel may be constant
    return mean.astype(np.float32), scale.astype(np.float32)


def _sha256(*arrays: Array) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
