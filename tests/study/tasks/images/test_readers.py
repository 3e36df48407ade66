"""Class folders of images, CIFAR's binary files and data sets of Hugging Face: real images in the real formats."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelsmooth.cli import main
from labelsmooth.study import Recipe, load_study, run_study
from labelsmooth.study.tasks.images.data import Data, load_data
from labelsmooth.study.tasks.images.readers import read_source

NAMES = ("ant & <b>", "bee", "$cat")


@pytest.fixture(scope="module")
def grey() -> tuple[np.ndarray, np.ndarray]:
    """30 real digits of each of three classes, 16 × 16."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = np.concatenate([np.flatnonzero(digits.target == label)[:30] for label in range(3)])
    images = (digits.images[rows] * 15).astype(np.uint8)
    return images.repeat(2, axis=1).repeat(2, axis=2), digits.target[rows]


@pytest.fixture(scope="module")
def colour(grey) -> tuple[np.ndarray, np.ndarray]:
    """The same on 32 × 32 in three different channels."""
    images = grey[0].repeat(2, axis=1).repeat(2, axis=2)
    return np.stack([images, 255 - images, images // 2], axis=-1), grey[1]


def write_classes(folder: Path, images: np.ndarray, labels: np.ndarray, suffix: str = "png", **save) -> Path:
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / NAMES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / NAMES[label] / f"{row:03}.{suffix}", **save)
    return folder


def rejected(name: str, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as raised:
        load_data(name)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def holds(data: Data, images: np.ndarray, labels: np.ndarray) -> bool:
    """Whether the three parts together are these images, pixel by pixel, with these labels."""
    parts = (data.train, data.validation, data.test)
    found = torch.cat([part.images for part in parts]).permute(0, 2, 3, 1).double().numpy()
    images = images.reshape(*images.shape[:3], -1)
    # standardising keeps what is smallest and largest of a channel
    low, high = images.min((0, 1, 2)), images.max((0, 1, 2)).astype(np.float64)
    least, most = found.min((0, 1, 2)), found.max((0, 1, 2))
    restored = np.round(low + (found - least) / (most - least) * (high - low)).astype(np.uint8)
    restored_labels = torch.cat([part.labels for part in parts]).tolist()
    return sorted(
        (row.tobytes(), label) for row, label in zip(restored, restored_labels, strict=True)
    ) == sorted((row.tobytes(), label) for row, label in zip(images, labels.tolist(), strict=True))


def in_order(labels: np.ndarray) -> np.ndarray:
    """The labels by the alphabet of their names."""
    return np.array([sorted(NAMES).index(NAMES[label]) for label in labels])


# class folders


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_a_folder_for_every_class(kind, request, tmp_path):
    images, labels = request.getfixturevalue(kind)
    data = load_data(f"folder:{write_classes(tmp_path / 'data', images, labels)}")
    assert data.summary.class_names == tuple(sorted(NAMES)) == ("$cat", "ant & <b>", "bee")
    assert data.summary.shape == ((1, 16, 16) if kind == "grey" else (3, 32, 32))
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [54, 18, 18]
    assert holds(data, images, in_order(labels))


def test_folders_with_a_test_set(grey, tmp_path):
    images, labels = grey
    test = np.arange(90) % 5 == 0
    write_classes(tmp_path / "train", images[~test], labels[~test])
    write_classes(tmp_path / "test", images[test], labels[test])
    shutil.rmtree(tmp_path / "test" / "bee")  # a class may be without test rows
    (tmp_path / ".cache").mkdir()
    (tmp_path / "train" / "bee" / ".DS_Store").write_bytes(b"x")
    data = load_data(f"folder:{tmp_path}")
    assert data.summary.class_names == tuple(sorted(NAMES))
    assert data.test.labels.tolist() == [0] * int((labels[test] == 2).sum()) + [1] * int(
        (labels[test] == 0).sum()
    )
    shutil.rmtree(tmp_path / "test")
    assert (
        load_data(f"folder:{tmp_path}").summary.train_rows < data.summary.train_rows
    )  # some are for the test now


def test_jpeg_and_mixed_modes(colour, tmp_path):
    images, labels = colour
    folder = write_classes(tmp_path / "data", images, labels, "JPEG", quality=100, subsampling=0)
    data = load_data(f"folder:{folder}")
    read = np.stack(
        [np.asarray(Image.open(folder / NAMES[k] / f"{row:03}.JPEG")) for row, k in enumerate(labels)]
    )
    assert not np.array_equal(read, images)
    assert holds(data, read, in_order(labels))
    # a grey one and one with an alpha channel among those in colour are taken as colour
    Image.fromarray(images[0, :, :, 0]).save(folder / "bee" / "grey.png")
    Image.fromarray(images[0]).convert("RGBA").save(folder / "bee" / "alpha.png")
    assert load_data(f"folder:{folder}").summary.shape == (3, 32, 32)


def damage_folder(tmp_path: Path, grey, change) -> str:
    folder = write_classes(tmp_path / "data", *grey)
    change(folder)
    return f"folder:{folder}"


def save(array: np.ndarray, path: Path) -> None:
    Image.fromarray(array).save(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda folder: save(np.zeros((16, 15), np.uint8), folder / "bee" / "a.png"),
            "a.png is 15×16 pixels",
        ),
        (
            lambda folder: (folder / "bee" / "x.txt").write_text("x"),
            "x.txt must be an image (.png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff)",
        ),
        (lambda folder: (folder / "bee" / "x.png").mkdir(), "x.png must be an image"),
        (lambda folder: (folder / "bee" / "x.png").write_bytes(b""), "x.png is no image that can be read"),
        (
            lambda folder: (folder / "bee" / "x.png").write_bytes(b"GIF89a"),
            "x.png is no image that can be read",
        ),
        (lambda folder: (folder / "empty").mkdir(), "must hold images of the class empty, got none"),
        (
            lambda folder: [shutil.rmtree(folder / name) for name in NAMES],
            "a folder of images for every class",
        ),
        (lambda folder: [shutil.rmtree(folder / name) for name in NAMES[1:]], "at least 2 classes"),
        (
            lambda folder: save(np.zeros((16, 16), np.uint16), folder / "bee" / "x.png"),
            "must have 8 bits a channel",
        ),
        (
            lambda folder: [path.unlink() for path in sorted((folder / "bee").iterdir())[2:]],
            "3 rows of every class",
        ),
        (lambda folder: folder.rename(folder.parent / "train"), "there is no folder"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, grey, change, says):
    name = damage_folder(tmp_path, grey, change)
    assert says in rejected(name, FileNotFoundError if "no folder" in says else ValueError)


def test_val_beside_train_holds_the_validation_rows(tmp_path, grey):
    images, labels = grey
    held_out = np.arange(len(labels)) % 9 == 0
    write_classes(tmp_path / "train", images[~held_out], labels[~held_out])
    write_classes(tmp_path / "val", images[held_out], labels[held_out])
    data = load_data(f"folder:{tmp_path}")
    order = np.argsort(np.array(NAMES)[labels[held_out]], kind="stable")  # as folders are read
    numbers = [sorted(NAMES).index(NAMES[label]) for label in labels[held_out][order]]
    assert data.validation.labels.tolist() == numbers
    shown = data.validation.images[:, 0].numpy()
    pixels = images[held_out][order].astype(float)
    line = np.polyfit(pixels.ravel(), shown.ravel(), 1)
    np.testing.assert_allclose(np.polyval(line, pixels), shown, atol=1e-4)
    assert data.summary.train_rows == 65  # of every 26 or 27 rows five are for the test
    assert data.summary.test_rows == 15
    write_classes(tmp_path / "test", images[::30], labels[::30])
    assert load_data(f"folder:{tmp_path}").summary.train_rows == 80
    shutil.rmtree(tmp_path / "val")
    assert load_data(f"folder:{tmp_path}").summary.sha256 != data.summary.sha256


@pytest.mark.parametrize("suffix", ["webp", "bmp", "tiff"])
def test_further_formats_of_images(tmp_path, grey, suffix):
    images, labels = grey
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / str(label)
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(
            folder / f"{place:03}.{suffix}", **({"lossless": True} if suffix == "webp" else {})
        )
    found = load_data(f"folder:{tmp_path}")
    order = np.argsort(labels, kind="stable")
    again = tmp_path / "again.npz"
    x = images[order] if suffix != "webp" else np.repeat(images[order][..., None], 3, axis=3)
    np.savez(again, x=x, y=np.unique(labels[order], return_inverse=True)[1])
    assert torch.equal(found.train.images, load_data(f"npz:{again}").train.images)


def test_images_of_mixed_sizes_are_scaled(tmp_path):
    """A square in the middle of each, by the mean of the pixels that meet in one."""
    chance = np.random.default_rng(0)
    for label in range(2):
        (tmp_path / str(label)).mkdir()
        for place, (height, width) in enumerate([(4, 4), (8, 8), (8, 12), (16, 8), (4, 4)]):
            small = chance.integers(0, 255, (4, 4), dtype=np.uint8)
            side = min(height, width)
            whole = np.kron(small, np.ones((side // 4, side // 4), np.uint8))
            top, left = (height - side) // 2, (width - side) // 2
            image = np.zeros((height, width), np.uint8)
            image[top : top + side, left : left + side] = whole
            save(image, tmp_path / str(label) / f"{place}.png")
            np.save(tmp_path / f"{label}-{place}.npy", small)
    name = f"folder:{tmp_path}"
    assert "must have one size, or be given one by resize: " in rejected(name)
    source = read_source(name, resize=4)
    for row, (label, place) in enumerate((label, place) for label in range(2) for place in range(5)):
        small = np.load(tmp_path / f"{label}-{place}.npy").astype(int)
        found = source.images[row].astype(int)
        if place in (0, 4):
            assert np.array_equal(found, small)
        else:  # a triangle of twice the width takes a little of the neighbours
            assert np.abs(found - small).mean() < 40
            assert found.mean() == pytest.approx(small.mean(), abs=12)
    assert load_data(name, resize=4).summary.shape == (1, 4, 4)
    with pytest.raises(ValueError, match=r"resize is for the images of folder:DIR and hf:NAME, got digits"):
        read_source("digits", resize=4)


def test_folders_beside_train_and_test(tmp_path, grey):
    write_classes(tmp_path / "train", *grey)
    (tmp_path / "valid").mkdir()
    assert "must hold train, val and test only, or the classes, got valid too" in rejected(
        f"folder:{tmp_path}"
    )
    (tmp_path / "valid").rmdir()
    (tmp_path / "test" / "wasp").mkdir(parents=True)
    assert "got wasp" in rejected(f"folder:{tmp_path}")
    shutil.rmtree(tmp_path / "test")
    (tmp_path / "test").mkdir()
    assert "a folder of images for every class, got none" in rejected(f"folder:{tmp_path}")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_images_cut_short_or_altered_end_in_a_sentence_or_load(tmp_path, grey, suffix):
    folder = write_classes(tmp_path / "data", *grey, suffix)
    path = next((folder / "bee").iterdir())
    whole, chance = path.read_bytes(), random.Random(0)
    expected = load_data(f"folder:{folder}").summary
    refused = 0
    for size in range(0, len(whole), max(1, len(whole) // 30)):
        path.write_bytes(whole[:size])
        try:
            assert load_data(f"folder:{folder}").summary == expected  # only what follows the pixels was cut
        except ValueError:
            assert str(path) in rejected(f"folder:{folder}")
            refused += 1
    assert refused > 20
    for _ in range(40):
        altered = bytearray(whole)
        for _ in range(3):
            altered[chance.randrange(len(whole))] = chance.randrange(256)
        path.write_bytes(altered)
        with contextlib.suppress(ValueError):  # and nothing else
            load_data(f"folder:{folder}")


# CIFAR


def write_cifar(folder: Path, images: np.ndarray, labels: np.ndarray, num_classes: int) -> Path:
    """The binary version as https://www.cs.toronto.edu/~kriz/cifar.html describes it: red, green, blue planes."""
    folder.mkdir()
    hundred = num_classes == 100
    records = [
        (bytes([label % 20, label]) if hundred else bytes([label])) + image.transpose(2, 0, 1).tobytes()
        for image, label in zip(images, labels.tolist(), strict=True)
    ]
    assert len(records[0]) == (3074 if hundred else 3073)
    names = [f"class {number}" for number in range(num_classes)]
    if hundred:
        (folder / "train.bin").write_bytes(b"".join(records[::2]))
        (folder / "test.bin").write_bytes(b"".join(records[1::2]))
        (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    else:
        for number in range(1, 6):
            (folder / f"data_batch_{number}.bin").write_bytes(b"".join(records[number::6]))
        (folder / "test_batch.bin").write_bytes(b"".join(records[::6]))
        (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return folder


@pytest.mark.parametrize("num_classes", [3, 100])
def test_cifar(colour, tmp_path, num_classes):
    images, labels = colour
    if num_classes == 100:
        images = np.concatenate([images, 255 - images] * 4)[:600]
        labels = np.arange(600) // 2 % 100
    folder = write_cifar(tmp_path / "cifar", images, labels, num_classes)
    data = load_data(f"cifar:{folder}")
    assert data.summary.class_names == tuple(f"class {number}" for number in range(num_classes))
    assert data.summary.shape == (3, 32, 32)
    test = slice(1, None, 2) if num_classes == 100 else slice(0, None, 6)
    assert data.test.labels.tolist() == labels[test].tolist()
    assert holds(data, images, labels)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "data_batch_3.bin").unlink(), "there is no data_batch_3.bin in"),
        (lambda f: (f / "test_batch.bin").unlink(), "there is no test_batch.bin in"),
        (lambda f: (f / "batches.meta.txt").unlink(), "there is no batches.meta.txt in"),
        (lambda f: (f / "batches.meta.txt").write_bytes(b"\xff\xfe"), "is not text"),
        (lambda f: (f / "batches.meta.txt").write_text("a\nb\n"), "must lie in 0..1, got 2"),
        (lambda f: (f / "batches.meta.txt").write_text("a\nb\nc\nd\n"), "rows of all its 4 classes, got 3"),
        (lambda f: (f / "batches.meta.txt").write_text(""), "must lie in 0..-1"),
        (lambda f: cut(f / "data_batch_5.bin", 3072), "must hold records of 3073 bytes, got 3072 bytes"),
        (lambda f: cut(f / "test_batch.bin", 0), "must hold records of 3073 bytes, got 0 bytes"),
        (
            lambda f: [p.rename(p.with_suffix("")) for p in f.glob("*.bin")],
            "Python version, which is pickled",
        ),
        (lambda f: [p.unlink() for p in f.glob("*.bin")], "neither data_batch_1.bin nor train.bin"),
        (lambda f: f.rename(f.parent / "other"), "there is no folder"),
    ],
)
def test_damaged_cifar(colour, tmp_path, change, says):
    folder = write_cifar(tmp_path / "cifar", *colour, 3)
    change(folder)
    missing = any(word in says for word in ("there is no ", "neither"))
    assert says in rejected(f"cifar:{folder}", FileNotFoundError if missing else ValueError)


# Hugging Face


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


def hf_table(datasets, images: np.ndarray, labels: np.ndarray, **more):
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "label": datasets.ClassLabel(names=list(NAMES)),
            **{name: feature for name, (feature, _) in more.items()},
        }
    )
    columns = {"img": [Image.fromarray(image) for image in images], "label": labels.tolist()}
    columns |= {name: values for name, (_, values) in more.items()}
    return datasets.Dataset.from_dict(columns, features=features)


def test_hf_saved_to_disk(datasets, colour, tmp_path):
    images, labels = colour
    table = hf_table(datasets, images, labels)
    table.save_to_disk(str(tmp_path / "one"))
    data = load_data(f"hf:{tmp_path / 'one'}")
    assert data.summary.class_names == NAMES
    assert holds(data, images, labels)
    test = np.arange(90) % 5 == 0
    splits = {"train": table.select(np.flatnonzero(~test)), "test": table.select(np.flatnonzero(test))}
    datasets.DatasetDict({**splits, "other": table}).save_to_disk(str(tmp_path / "three"))
    data = load_data(f"hf:{tmp_path / 'three'}")
    assert data.test.labels.tolist() == labels[test].tolist()
    assert holds(data, images, labels)


def test_hf_with_rows_for_validation(datasets, colour, tmp_path):
    images, labels = colour
    table = hf_table(datasets, images, labels)
    place = np.arange(90) % 5
    rows = {"train": place > 1, "validation": place == 1, "test": place == 0}
    splits = {name: table.select(np.flatnonzero(which)) for name, which in rows.items()}
    for names in (("train", "validation", "test"), ("train", "validation")):
        chosen = {name: splits[name] for name in names}
        folder = tmp_path / str(len(names))
        datasets.DatasetDict(chosen).save_to_disk(str(folder))
        data = load_data(f"hf:{folder}")
        for name in names[1:]:
            assert getattr(data, name).labels.tolist() == labels[rows[name]].tolist()
        if len(names) == 3:
            assert holds(data, images, labels)
    fewer = splits["validation"].remove_columns("label").add_column("label", [0] * 18)
    datasets.DatasetDict({**splits, "validation": fewer}).save_to_disk(str(tmp_path / "other"))
    assert "the splits train and validation of" in rejected(f"hf:{tmp_path / 'other'}")


def test_hf_parquet_and_image_folder(datasets, grey, tmp_path):
    images, labels = grey
    (tmp_path / "parquet").mkdir()
    test = np.arange(90) % 5 == 0
    for split, rows in (("train", ~test), ("test", test)):
        hf_table(datasets, images[rows], labels[rows]).to_parquet(
            tmp_path / "parquet" / f"{split}-00000-of-00001.parquet"
        )
    data = load_data(f"hf:{tmp_path / 'parquet'}")
    assert data.summary.class_names == NAMES
    assert data.test.labels.tolist() == labels[test].tolist()
    assert holds(data, images, labels)

    write_classes(tmp_path / "images" / "train", images[~test], labels[~test])
    write_classes(tmp_path / "images" / "test", images[test], labels[test])
    ours, theirs = load_data(f"folder:{tmp_path / 'images'}"), load_data(f"hf:{tmp_path / 'images'}")
    assert theirs.summary.class_names == ours.summary.class_names == tuple(sorted(NAMES))
    assert holds(ours, images, in_order(labels))
    assert holds(theirs, images, in_order(labels))


def test_hf_with_two_columns_of_labels(datasets, grey, tmp_path):
    images, labels = grey
    coarse = datasets.ClassLabel(names=["low", "high"])
    more = {
        "coarse": (coarse, (labels > 0).tolist()),
        "number": (datasets.Value("int16"), (labels > 1).tolist()),
    }
    hf_table(datasets, images, labels, **more).save_to_disk(str(tmp_path / "two"))
    name = f"hf:{tmp_path / 'two'}"
    assert "one column of class labels, it has label, coarse; name one, as in" in rejected(name)
    assert load_data(f"{name}:label").summary.class_names == NAMES
    assert load_data(f"{name}:coarse").summary.class_names == ("low", "high")
    assert load_data(f"{name}:number").summary.class_names == ("0", "1")
    assert "has no column fine, it has img, label, coarse, number" in rejected(f"{name}:fine")
    assert "the column img of" in rejected(f"{name}:img")


def without_image(datasets, grey):
    table = hf_table(datasets, *grey).to_dict()
    table["img"][7] = None
    return datasets.Dataset.from_dict(table, features=hf_table(datasets, *grey).features)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d, grey: hf_table(d, *grey).remove_columns("img"), "one column of images, it has none"),
        (lambda d, grey: hf_table(d, *grey).remove_columns("label"), "class labels, it has none"),
        (lambda d, grey: hf_table(d, *grey).select([]), "cannot be read"),
        (lambda d, grey: hf_table(d, *grey).select(range(60)), "rows of all its 3 classes, got 2"),
        (without_image, "split train, row 7 must have an image, got none"),
        (lambda d, grey: d.DatasetDict({"dev": hf_table(d, *grey)}), "must have a split train, it has dev"),
        (
            lambda d, grey: d.DatasetDict(
                {"train": hf_table(d, *grey), "test": hf_table(d, *grey).rename_column("label", "y")}
            ),
            "must have the same columns and classes",
        ),
        (
            lambda d, grey: hf_table(d, grey[0], np.where(np.arange(90) == 4, -1, grey[1])),
            "from 0 on, got -1",
        ),
    ],
)
def test_hf_that_cannot_be_used(datasets, grey, tmp_path, make, says):
    make(datasets, grey).save_to_disk(str(tmp_path / "data"))
    assert says in rejected(f"hf:{tmp_path / 'data'}")


def test_damaged_hf(datasets, grey, tmp_path):
    folder = tmp_path / "data"
    table = hf_table(datasets, *grey)
    table.save_to_disk(str(folder))
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], b"\xff" * 100, b"[]"):
            path.write_bytes(content)
            assert str(folder) in rejected(f"hf:{folder}"), (path.name, content[:10])
        path.write_bytes(whole)

    (tmp_path / "parquet").mkdir()
    path = tmp_path / "parquet" / "train.parquet"
    table.to_parquet(path)
    cut(path, path.stat().st_size // 2)
    assert "parquet cannot be read" in rejected(f"hf:{path.parent}")
    stream = io.BytesIO()
    Image.fromarray(grey[0][0]).save(stream, "PNG")
    broken = {**table.to_dict()}
    broken["img"][3] = {"bytes": stream.getvalue()[:60], "path": None}
    datasets.Dataset.from_dict(broken, features=table.features).save_to_disk(str(tmp_path / "cut"))
    assert "split train, row 3 is no image that can be read" in rejected(f"hf:{tmp_path / 'cut'}")


def test_hf_that_is_not_there(datasets, tmp_path):
    assert "there is no folder" in rejected(f"hf:{tmp_path / 'none'}", FileNotFoundError)
    assert "the data set nobody/no-such-images cannot be read" in rejected("hf:nobody/no-such-images")
    (tmp_path / "empty").mkdir()
    assert "empty cannot be read" in rejected(f"hf:{tmp_path / 'empty'}")


# through the study


def test_class_names_go_through_the_study_into_the_report(grey, tmp_path, capsys):
    folder, out = write_classes(tmp_path / "data", *grey), tmp_path / "out"
    run = [
        "study",
        "--data",
        f"folder:{folder}",
        "--model",
        "cnn",
        "--eps",
        "0",
        "--seeds",
        "1",
        "--epochs",
        "1",
    ]
    assert main([*run, "--out", str(out)]) == 0
    assert load_study(out).data.class_names == tuple(sorted(NAMES))
    html = (out / "report.html").read_text()
    assert "ant &amp; &lt;b&gt;" in html
    assert "ant & <b>" not in html
    capsys.readouterr()


def test_cifar_trains_alexnet(colour, tmp_path):
    folder = write_cifar(tmp_path / "cifar", *colour, 3)
    recipe = Recipe(
        data=f"cifar:{folder}", model="alexnet", eps=(0.0,), seeds=1, epochs=1, learning_rate=0.01
    )
    (trial,) = run_study(recipe, tmp_path / "out").trials
    assert trial.metrics["test"]["rows"] == 15
    assert trial.arrays.classifier_weight.shape == (3, 192)
