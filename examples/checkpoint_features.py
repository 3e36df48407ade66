"""Write the features that the last layer of a checkpoint sees, for a study that trains this layer anew.

    python examples/checkpoint_features.py IMAGENET features.npz --model module:factory --weights FILE
    labelsmooth study --recipe imagenet-inception --data npz:features.npz

IMAGENET is a folder with train/CLASS/* and val/CLASS/*, such as train/n01440764/n01440764_10026.JPEG; the
classes are numbered in the order of their names. The network is any torch.nn.Module that
`factory(shape, num_classes)` in `module.py` returns; its features are what goes into its last
torch.nn.Linear, or into the one named in `module:factory:layer`. FILE holds its weights as .safetensors or
.npz; a .pt or .pth file does not do, since reading one can run code that somebody hid in it.

Images are resized and cropped as for Inception-v4: the shorter side to 8/7 of --size, then the middle, pixels
from -1 to 1. Features go to the disk batch by batch, so that memory does not grow with the images.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labelsmooth.study.archive import read_npz
from labelsmooth.study.tasks.images.models import Network, build_network

SUFFIXES = (".jpeg", ".jpg", ".png")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def listed(folder: Path, classes: list[str] | None = None) -> tuple[list[Path], np.ndarray, list[str]]:
    """The images of FOLDER/CLASS/*, the class number of each, and the names of the classes."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not found or (classes is not None and not set(found) <= set(classes)):
        raise ValueError(f"{folder} must hold a folder of images for every class, and classes of train only")
    names = found if classes is None else classes
    images = [(path, names.index(name)) for name in found for path in sorted((folder / name).iterdir())]
    images = [(path, number) for path, number in images if path.suffix.lower() in SUFFIXES]
    if not images:
        raise ValueError(f"{folder} must hold images ({', '.join(SUFFIXES)}), got none")
    return [path for path, _ in images], np.array([number for _, number in images]), names


def load_weights(network: Network, file: Path) -> None:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(file)
    elif file.suffix == ".npz":
        weights = {name: torch.from_numpy(array) for name, array in read_npz(file).items()}
    else:
        raise ValueError(f"the weights must be a .safetensors or an .npz file, got {file}")
    # a study's own weights name the body and the classifier, everyone else's only what is in the body
    whole = weights.keys() == network.state_dict().keys()
    try:
        (network if whole else network.body).load_state_dict(weights)
    except RuntimeError as error:  # what torch raises where names or shapes differ
        raise ValueError(f"{file} does not fit the network: {error}") from error


def pixels(file: Path, size: int) -> Tensor:  # (3, size, size)
    """An image as the network takes it."""
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")  # ImageNet has a few in CMYK
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    scale = size * 8 / 7 / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1


@torch.inference_mode()
def features(network: Network, files: list[Path], size: int, batch_size: int) -> Iterator[np.ndarray]:
    """Features (B, D) of one batch after the other."""
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            images = torch.stack(list(threads.map(lambda file: pixels(file, size), batch)))
            yield network.features(images.to(DEVICE)).float().cpu().numpy()
            print(f"\r{start + len(batch):,} of {len(files):,} images", end="", file=sys.stderr)
    print(file=sys.stderr)


def write(
    archive: ZipFile, name: str, shape: tuple[int, ...], dtype: str, parts: Iterator[np.ndarray]
) -> None:
    """One array of an .npz file, from pieces of it."""
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, dtype=dtype).tobytes())


def run(options: argparse.Namespace) -> None:
    train, train_labels, names = listed(options.images / "train")
    val, val_labels, _ = listed(options.images / "val", names)
    if options.size < 1 or options.batch_size < 1:
        raise ValueError(f"size and batch-size must be at least 1, got {options.size}, {options.batch_size}")
    shape = (3, options.size, options.size)
    network = build_network(options.model, shape, options.classes or len(names), seed=0)
    load_weights(network, options.weights)
    network.to(DEVICE).eval()
    width = network.classifier.in_features
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_name(f"{options.out.name}.partial")
    try:
        with ZipFile(partial, "w") as archive:
            for suffix, files, labels in (("", train, train_labels), ("_test", val, val_labels)):
                write(archive, f"y{suffix}", labels.shape, "<i8", iter([labels]))
                made = features(network, files, options.size, options.batch_size)
                write(archive, f"x{suffix}", (len(files), width), "<f4", made)
        partial.replace(options.out)
    finally:
        partial.unlink(missing_ok=True)
    print(
        f"{options.out}: {len(train):,} and {len(val):,} rows of {width:,} features, {len(names):,} classes"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("images", type=Path, metavar="IMAGENET", help="folder of train and val")
    parser.add_argument("out", type=Path, metavar="OUT.npz", help="file to write")
    parser.add_argument("--model", required=True, metavar="module:factory", help="the network")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help=".safetensors or .npz")
    parser.add_argument("--size", type=int, default=299, help="side of the square that the network sees")
    parser.add_argument(
        "--classes", type=int, help="of the checkpoint, where it has other ones than IMAGENET"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time")
    sys.path.append(str(Path.cwd()))  # where the module of the network is likely to be
    try:
        run(parser.parse_args())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
