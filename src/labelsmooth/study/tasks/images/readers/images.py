"""Reading images, one by one or from a folder for every class."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import reading
from labelsmooth.study.tasks.images.readers.source import Array, Source

if TYPE_CHECKING:
    from PIL import Image

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_GREY = ("1", "L")
_COLOUR = ("P", "PA", "LA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel, as RGB then
# What Pillow raises for files that are cut short, altered, or of another kind.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error)


def read_folder(folder: Path, resize: int = 0) -> Source:
    """Read images from FOLDER/CLASS/*, or from FOLDER/train/CLASS/* with val/ and test/ where they are there.

    Args:
        folder: of the images.
        resize: side of the square that every image is scaled to; 0: none is.

    Raises:
        FileNotFoundError: there is no such folder.
        InputError: a class is empty, a file is no image that can be read, or the images differ in size.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    parts = {part.name: part for part in _folders(folder)}
    if "train" not in parts or not _folders(parts["train"]):
        names = tuple(parts)
        images, labels = _read_classes(folder, names, names, resize)
        return Source(images=images, labels=labels, class_names=names)
    others = sorted(parts.keys() - {"train", "val", "test"})
    if others:
        raise InputError(f"{folder} must hold train, val and test only, or the classes, got {others[0]} too")
    names = tuple(part.name for part in _folders(parts["train"]))
    images, labels = _read_classes(parts["train"], names, names, resize)
    own = {}
    for part in ("val", "test"):
        if part in parts:
            unknown = [found.name for found in _folders(parts[part]) if found.name not in names]
            if unknown:
                raise InputError(f"{parts[part]} must hold classes of {parts['train']}, got {unknown[0]}")
            there = tuple(name for name in names if (parts[part] / name).is_dir())
            own[part] = _read_classes(parts[part], there, names, resize)
    return Source(
        images=images,
        labels=labels,
        own_validation=own.get("val"),
        own_test=own.get("test"),
        class_names=names,
    )


def stack_images(images: Iterable[tuple[str, bytes]], resize: int = 0) -> NDArray[np.uint8]:
    """Decode images of one size, or of any that are scaled to one, into one array.

    Args:
        images: a name for messages, and the content of the file.
        resize: side of the square that every image is scaled to; 0: none is.

    Returns:
        (N, H, W) where all are grey, else (N, H, W, 3).

    Raises:
        ValueError: there is none, or one cannot be read, or differs in size from the first.
    """
    decoded: list[NDArray[np.uint8]] = []
    first = ""
    for name, content in images:
        pixels = _decode(name, content, decoded[0].shape[:2] if decoded else None, first, resize)
        first = first or name
        decoded.append(pixels)
    if not decoded:
        raise InputError("there must be at least one image, got none")
    if all(pixels.ndim == 2 for pixels in decoded):
        return np.stack(decoded)
    colour = (pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2) for pixels in decoded)
    return np.stack(list(colour))


def _decode(
    name: str, content: bytes, shape: tuple[int, ...] | None, first: str, resize: int
) -> NDArray[np.uint8]:
    with needs_extra("study"):
        from PIL import Image

    with _reading(name):
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    width, height = image.size
    if not resize and shape is not None and (height, width) != shape:  # before the pixels of a huge one
        raise InputError(
            f"all images must have one size, or be given one by resize: {name} is {width}×{height} pixels, "
            f"{first} {shape[1]}×{shape[0]}"
        )
    if image.mode not in _GREY + _COLOUR:
        raise InputError(f"{name} must have 8 bits a channel, got pixels of the mode {image.mode}")
    with _reading(name):
        pixels = image.convert("L" if image.mode in _GREY else "RGB")
        return np.asarray(_square(pixels, resize) if resize else pixels)


def _reading(name: str) -> AbstractContextManager[None]:
    from PIL import Image

    damage = (*_UNREADABLE, Image.DecompressionBombError)
    return reading(name, damage, lambda error: f"{name} is no image that can be read{_reason(error)}")


def _reason(error: BaseException) -> str:
    """What Pillow says of a damaged image, but where it only names the stream that it was given."""
    return "" if "BytesIO" in str(error) else f": {error}"


def _square(image: Image.Image, side: int) -> Image.Image:
    """Scale the middle of an image, as large a square as fits, to a side, antialiased."""
    from PIL import Image

    width, height = image.size
    box = (width - min(width, height)) / 2, (height - min(width, height)) / 2
    corners = (*box, width - box[0], height - box[1])
    return image.resize((side, side), Image.Resampling.BILINEAR, corners)


def _read_classes(
    folder: Path, names: tuple[str, ...], known: tuple[str, ...], resize: int
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
        labels += [known.index(name)] * len(of_class)
    if not files:
        raise InputError(f"{folder} must hold a folder of images for every class, got none")
    images = stack_images(((str(path), path.read_bytes()) for path in files), resize)
    return images, np.array(labels)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
