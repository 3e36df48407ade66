"""CIFAR-10 and CIFAR-100 in their binary version: records of labels and 3×32×32 bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.images.readers.source import Array, Source

_PIXELS = (3, 32, 32)


@dataclass(frozen=True, kw_only=True)
class _Version:
    train: tuple[str, ...]
    test: str
    names: str  # one class a line
    label_bytes: int  # before the pixels; the last one is the label


_VERSIONS = (
    _Version(
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
        label_bytes=1,
    ),
    # the coarse label, then the fine one
    _Version(train=("train.bin",), test="test.bin", names="fine_label_names.txt", label_bytes=2),
)


def read_cifar(folder: Path) -> Source:
    """CIFAR-10, or CIFAR-100 with its fine labels, from a folder of the files of the binary version.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing from it.
        ValueError: a file is damaged, or the folder holds the pickled version.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    version = next((v for v in _VERSIONS if any((folder / name).is_file() for name in v.train)), None)
    if version is None:
        if any((folder / name).is_file() for name in ("data_batch_1", "train")):
            raise InputError(
                f"{folder} holds CIFAR's Python version, which is pickled; the binary one is read"
            )
        raise FileNotFoundError(
            f"there is neither {_VERSIONS[0].train[0]} nor {_VERSIONS[1].train[0]} in {folder}"
        )
    for name in (*version.train, version.test, version.names):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {name} in {folder}")
    try:
        text = (folder / version.names).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{folder / version.names} is not text") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    parts = [_read_records(folder / name, version.label_bytes, len(names)) for name in version.train]
    return Source(
        images=np.concatenate([images for images, _ in parts]),
        labels=np.concatenate([labels for _, labels in parts]),
        own_test=_read_records(folder / version.test, version.label_bytes, len(names)),
        class_names=names,
    )


def _read_records(path: Path, label_bytes: int, num_classes: int) -> tuple[Array, Array]:
    size = label_bytes + int(np.prod(_PIXELS))
    content = path.read_bytes()
    if not content or len(content) % size:
        raise InputError(f"{path} must hold records of {size} bytes, got {len(content)} bytes")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    labels = records[:, label_bytes - 1]
    if labels.max() >= num_classes:
        raise InputError(f"the labels in {path} must lie in 0..{num_classes - 1}, got {labels.max()}")
    return records[:, label_bytes:].reshape(-1, *_PIXELS).transpose(0, 2, 3, 1), labels
