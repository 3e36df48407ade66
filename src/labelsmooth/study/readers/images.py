"""Reading images, one by one or from a folder for every class."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.study.readers.source import Array, Source

_SUFFIXES = (".png", ".jpg", ".jpeg")
_GREY = ("1", "L")
_COLOUR = ("P", "PA", "LA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel, as RGB then
# What Pillow raises for files that are cut short, altered, or of another kind.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error)


def read_folder(folder: Path) -> Source:
    """Images from FOLDER/CLASS/*, or from FOLDER/train/CLASS/* and FOLDER/test/CLASS/* where that is there.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a class is empty, a file is no image that can be read, or the images differ in size.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    parts = {part.name: part for part in _folders(folder)}
    if "train" not in parts or not _folders(parts["train"]):
        names = tuple(parts)
        images, labels = _read_classes(folder, names)
        return Source(images=images, labels=labels, class_names=names)
    others = sorted(parts.keys() - {"train", "test"})
    if others:
        raise InputError(f"{folder} must hold train and test only, or the classes, got {others[0]} too")
    names = tuple(part.name for part in _folders(parts["train"]))
    images, labels = _read_classes(parts["train"], names)
    own_test = None
    if "test" in parts:
        unknown = [part.name for part in _folders(parts["test"]) if part.name not in names]
        if unknown:
            raise InputError(f"{parts['test']} must hold classes of {parts['train']}, got {unknown[0]}")
        own_test = _read_classes(
            parts["test"], tuple(n for n in names if (parts["test"] / n).is_dir()), names
        )
    return Source(images=images, labels=labels, own_test=own_test, class_names=names)


def stack_images(images: Iterable[tuple[str, bytes]]) -> NDArray[np.uint8]:
    """PNG and JPEG images of one size as one array.

    Args:
        images: a name for messages, and the content of the file.

    Returns:
        (N, H, W) where all are grey, else (N, H, W, 3).

    Raises:
        ValueError: there is none, or one cannot be read, or differs in size from the first.
    """
    decoded: list[NDArray[np.uint8]] = []
    first = ""
    for name, content in images:
        pixels = _decode(name, content, decoded[0].shape[:2] if decoded else None, first)
        first = first or name
        decoded.append(pixels)
    if not decoded:
        raise InputError("there must be at least one image, got none")
    if all(pixels.ndim == 2 for pixels in decoded):
        return np.stack(decoded)
    colour = (pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2) for pixels in decoded)
    return np.stack(list(colour))


def _decode(name: str, content: bytes, shape: tuple[int, ...] | None, first: str) -> NDArray[np.uint8]:
    with needs_extra("study"):
        from PIL import Image

    with _reading(name):
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    width, height = image.size
    if shape is not None and (height, width) != shape:  # before the pixels of a huge one are made
        raise InputError(
            f"all images must have one size: {name} is {width}×{height} pixels, {first} {shape[1]}×{shape[0]}"
        )
    if image.mode not in _GREY + _COLOUR:
        raise InputError(f"{name} must have 8 bits a channel, got pixels of the mode {image.mode}")
    with _reading(name):
        return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    from PIL import Image

    try:
        yield
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is no PNG or JPEG image that can be read: {error}") from error


def _read_classes(
    folder: Path, names: tuple[str, ...], known: tuple[str, ...] | None = None
) -> tuple[Array, Array]:
    """The images of these classes, and their labels: places in `known`."""
    files: list[Path] = []
    labels: list[int] = []
    for name in names:
        of_class = sorted(path for path in (folder / name).iterdir() if not path.name.startswith("."))
        for path in of_class:
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():
                raise InputError(f"{path} must be an image ({', '.join(_SUFFIXES)})")
        if not of_class:
            raise InputError(f"{folder / name} must hold images of the class {name}, got none")
        files += of_class
        labels += [(known or names).index(name)] * len(of_class)
    if not files:
        raise InputError(f"{folder} must hold a folder of images for every class, got none")
    return stack_images((str(path), path.read_bytes()) for path in files), np.array(labels)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
