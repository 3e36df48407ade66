"""From a tree of images and a checkpoint to a study of its last layer, on real digits in ImageNet's layout."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from labelsmooth.cli import main
from labelsmooth.study import RECIPES, load_study
from labelsmooth.study.archive import read_npz

SCRIPT = Path(__file__).parents[2] / "examples" / "checkpoint_features.py"
CLASSES = ("n01440764", "n01443537", "n01484850")  # the names of ImageNet's first three
NETWORK = """
from torch import nn

def factory(shape, num_classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(54, 20), nn.ReLU(), nn.Linear(20, num_classes),
    )
"""
SIZE = 28  # an image of 32 pixels is resized to 32, and its middle taken


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with images, a network and its weights."""
    folder = tmp_path_factory.mktemp("checkpoint")
    digits = load_digits()
    for label, name in enumerate(CLASSES):
        pictures = digits.images[digits.target == label]
        for part, some in (("train", pictures[:30]), ("val", pictures[30:40])):
            (folder / "images" / part / name).mkdir(parents=True)
            for number, picture in enumerate(some):
                image = Image.fromarray(np.uint8(picture * 15.9)).resize((40, 32))
                if number % 5 == 0:
                    image = image.convert("CMYK")  # as some of ImageNet's are
                image.save(folder / "images" / part / name / f"{name}_{number:03}.JPEG")
    (folder / "nets.py").write_text(NETWORK)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(NETWORK, names)
    network = names["factory"]((3, SIZE, SIZE), 3)
    network[1].running_mean += 0.1  # not what a fresh one has
    torch.save(network.state_dict(), folder / "weights.pt")
    save_file(network.state_dict(), folder / "weights.safetensors")
    np.savez(folder / "weights.npz", **{n: t.numpy() for n, t in network.state_dict().items()})
    return folder


def script(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *options, "--size", str(SIZE)]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, timeout=120)


def expected_features(place: Path, part: str) -> np.ndarray:
    """What goes into the last layer, from the pixels on."""
    names: dict[str, object] = {}
    exec(NETWORK, names)
    network = names["factory"]((3, SIZE, SIZE), 3).eval()
    network.load_state_dict(torch.load(place / "weights.pt", weights_only=True))
    images = []
    for file in sorted((place / "images" / part).glob("*/*.JPEG")):
        image = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32)  # 32 × 40
        images.append(image[2:30, 6:34].transpose(2, 0, 1) / 127.5 - 1)
    with torch.no_grad():
        return network[:-1](torch.tensor(np.stack(images))).numpy()


@pytest.fixture(scope="module")
def written(place) -> Path:
    done = script(
        place, "images", "features.npz", "--model", "nets:factory", "--weights", "weights.safetensors",
        "--batch-size", "7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "features.npz: 90 and 30 rows of 20 features, 3 classes\n"
    return place / "features.npz"


def test_the_features_are_what_goes_into_the_last_layer(place, written):
    arrays = read_npz(written)
    assert set(arrays) == {"x", "y", "x_test", "y_test"}
    assert arrays["y"].tolist() == [0] * 30 + [1] * 30 + [2] * 30
    assert arrays["y_test"].tolist() == [0] * 10 + [1] * 10 + [2] * 10
    for name, part in (("x", "train"), ("x_test", "val")):
        assert arrays[name].dtype == np.float32
        np.testing.assert_allclose(arrays[name], expected_features(place, part), atol=1e-5)
    assert arrays["x"].std() > 0.01


def test_npz_weights_and_a_named_layer(place, written):
    done = script(place, "images", "other.npz", "--model", "nets:factory:7", "--weights", "weights.npz")
    assert done.returncode == 0, done.stderr
    for name, array in read_npz(written).items():  # in other batches
        np.testing.assert_allclose(read_npz(place / "other.npz")[name], array, atol=1e-5)


def test_a_study_trains_the_last_layer_anew(place, written, capsys):
    recipe = RECIPES["imagenet-inception"]
    assert (recipe.model, recipe.eps, recipe.batch_size) == ("linear", (0.0, 0.1), 4096)
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("nesterov", 0.9, 8e-5)
    out = place / "study"
    arguments = (
        f"study --recipe imagenet-inception --data npz:{written} --seeds 1 --batch-size 16 --out {out}"
    )
    assert main(arguments.split()) == 0
    study = load_study(out)
    assert len(study.trials) == 2
    assert study.data.test_rows == 30
    for trial in study.trials:
        assert trial.arrays.classifier_weight.shape == (3, 20)
        assert (
            trial.metrics["test"]["accuracy"] > 0.8
        )  # three digits are easily told apart, even by a random body
    assert (out / "report.html").is_file()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("images o.npz --model nets:factory --weights weights.pt", "must be a .safetensors or an .npz file"),
        ("nowhere o.npz --model nets:factory --weights weights.npz", "there is no folder nowhere/train"),
        ("flat o.npz --model nets:factory --weights weights.npz", "flat/val must hold a folder of images for every"),
        ("images o.npz --model nets:factory --weights weights.npz --classes 4", "does not fit the network"),
        ("broken o.npz --model nets:factory --weights weights.npz", "a.JPEG cannot be read"),
        ("images o.npz --model nets:missing --weights weights.npz", "has no function missing"),
    ],
)  # fmt: skip
def test_bad_input(place, monkeypatch, capsys, options, says):
    for tree in ("flat", "broken"):
        (place / tree / "train" / "n01").mkdir(parents=True, exist_ok=True)
        (place / tree / "train" / "n01" / "a.JPEG").write_bytes(b"no image")
    (place / "flat" / "val").mkdir(exist_ok=True)  # as it comes in the tar file, before it is sorted
    (place / "flat" / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    (place / "broken" / "val" / "n01").mkdir(parents=True, exist_ok=True)
    (place / "broken" / "val" / "n01" / "a.JPEG").write_bytes(b"no image")
    if options.startswith("broken"):
        options += " --classes 3"
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *options.split(), "--size", str(SIZE)])
    assert runpy.run_path(str(SCRIPT))["main"]() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert says in err
    assert not list(place.glob("o.npz*"))
