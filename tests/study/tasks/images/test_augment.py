"""Shifts, crops, mirrors and schedules of a study: what the networks see, and when the learning rate falls."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from trials import changed

from labelsmooth.report import write_report
from labelsmooth.study import Recipe, load_study, run_study
from labelsmooth.study.optimizer import make_optimizer, make_schedule
from labelsmooth.study.tasks.images import predict
from labelsmooth.study.tasks.images.augment import augmented, centre, seen_shape
from labelsmooth.study.tasks.images.data import Data, load_data
from labelsmooth.study.tasks.images.models import build_network
from labelsmooth.study.training import train_trial
from labelsmooth.study.trial import TrialConfig, TrialResult

TINY = Recipe(data="digits", model="cnn", eps=(0.0, 0.1), seeds=1, epochs=1)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module")
def colour(tmp_path_factory) -> Data:
    """Real digits in three channels of different scale, 8 × 10."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    wide = np.pad(digits.images, ((0, 0), (0, 0), (0, 2)))
    path = tmp_path_factory.mktemp("colour") / "digits.npz"
    np.savez(path, x=np.stack([wide, 16 - wide, 3 * wide + 5], axis=-1), y=digits.target)
    return load_data(f"npz:{path}")


def config(**changes) -> TrialConfig:
    return changed(TINY.trials("")[0], **changes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def all_places(
    image: torch.Tensor, shift: int, crop: int, flip: float, zero: torch.Tensor
) -> list[torch.Tensor]:
    """Every picture that can come out, by slicing."""
    channels, height, width = image.shape
    padded = zero.expand(channels, height + 2 * shift, width + 2 * shift).clone()
    padded[:, shift : shift + height, shift : shift + width] = image
    rows, columns = crop or height, crop or width
    pictures = [
        padded[:, top : top + rows, left : left + columns]
        for top in range(height + 2 * shift - rows + 1)
        for left in range(width + 2 * shift - columns + 1)
    ]
    mirrors = [picture.flip(2) for picture in pictures]
    return {0.0: pictures, 1.0: mirrors}.get(flip, pictures + mirrors)


@pytest.mark.parametrize(
    ("shift", "crop", "flip"), [(2, 0, 0.0), (0, 6, 0.0), (1, 7, 0.5), (0, 0, 0.5), (0, 0, 1.0), (1, 8, 0.0)]
)
def test_every_place_comes_up_as_often(colour, shift, crop, flip):
    image = colour.train.images[5]
    drawn = augmented(
        image.expand(6000, *image.shape),
        config(shift=shift, crop=crop, flip=flip).settings,
        colour.zero,
        generator(),
    )
    expected = [picture.numpy().tobytes() for picture in all_places(image, shift, crop, flip, colour.zero)]
    assert len(set(expected)) == len(expected)  # so that each can be told
    counts = Counter(picture.numpy().tobytes() for picture in drawn)
    assert counts.keys() == set(expected)
    mean = 6000 / len(expected)
    statistic = sum((counts[picture] - mean) ** 2 / mean for picture in expected)
    freedom = len(expected) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 5  # χ²


def test_what_comes_in_is_black(colour):
    """Not what is empty in the data: white in the second channel, and 5 of 53 in the third."""
    images = colour.train.images
    steps = (images.amax(dim=(0, 2, 3)) - images.amin(dim=(0, 2, 3))) / torch.tensor([16.0, 16.0, 48.0])
    empty = images[0, :, 0, 9]
    assert colour.zero.shape == (3, 1, 1)
    assert torch.allclose(colour.zero[:, 0, 0], empty - torch.tensor([0.0, 16.0, 5.0]) * steps, atol=1e-5)


def test_each_image_is_moved_by_itself(data):
    images = data.train.images[:64]
    moved = augmented(images, config(shift=2, flip=0.5).settings, data.zero, generator())
    assert moved.shape == images.shape
    for image, original in zip(moved, images, strict=True):
        assert any(torch.equal(image, picture) for picture in all_places(original, 2, 0, 0.5, data.zero))
    assert torch.equal(moved, augmented(images, config(shift=2, flip=0.5).settings, data.zero, generator()))
    assert not torch.equal(
        moved, augmented(images, config(shift=2, flip=0.5).settings, data.zero, generator(1))
    )


def test_nothing_is_drawn_where_nothing_is_asked(data):
    chance = generator()
    before = chance.get_state()
    assert augmented(data.train.images, config().settings, data.zero, chance) is data.train.images
    assert torch.equal(chance.get_state(), before)


def test_the_middle_is_seen_in_evaluation():
    images = torch.arange(2 * 8 * 11).reshape(1, 2, 8, 11)
    assert centre(images, 0) is images
    assert torch.equal(centre(images, 4), images[:, :, 2:6, 3:7])
    assert torch.equal(centre(images, 8), images[:, :, :, 1:9])
    assert torch.equal(centre(images, 3), images[:, :, 2:5, 4:7])


@pytest.mark.parametrize(
    ("changes", "shape", "says"),
    [
        ({"shift": 1}, (64,), "shift, crop and flip need images, got rows of shape (64,)"),
        ({"flip": 0.5}, (64,), "need images"),
        ({"crop": 9}, (1, 8, 12), "crop must be at most the 8 pixels of a side, got 9"),
        ({"shift": 8}, (1, 8, 12), "shift must be below the 8 pixels of a side, got 8"),
    ],
)
def test_rows_that_cannot_be_augmented(changes, shape, says):
    with pytest.raises(ValueError, match="must|need") as raised:
        seen_shape(config(**changes).settings, shape)
    assert says in str(raised.value)


def test_a_crop_too_large_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="crop must be at most the 8 pixels"):
        run_study(replace(TINY, crop=9), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def trained(data: Data, **changes) -> TrialResult:
    trial = changed(TINY.trials(data.summary.sha256)[0], **changes)
    return train_trial(trial, data, lambda: None)


def test_augmentation_is_the_same_whatever_the_batches_of_evaluation(data, monkeypatch):
    changes = {"shift": 1, "crop": 7, "flip": 0.5, "epochs": 2}
    one = trained(data, **changes)
    again = trained(data, **changes)
    assert (one.curves, one.metrics) == (again.curves, again.metrics)
    monkeypatch.setattr(predict, "_CHUNK", 37)
    other = trained(data, **changes)
    assert np.array_equal(one.arrays.classifier_weight, other.arrays.classifier_weight)
    assert np.allclose(one.arrays.test_logits, other.arrays.test_logits, atol=1e-5)
    assert one.arrays.classifier_weight.shape == (10, 128)


def test_arms_see_the_same_augmented_images(data):
    changes = {"shift": 2, "flip": 0.5}
    hard, nearly_hard = trained(data, **changes), trained(data, objective="uniform:1e-7", **changes)
    assert not np.array_equal(hard.arrays.test_logits, nearly_hard.arrays.test_logits)
    assert np.abs(hard.arrays.test_logits - nearly_hard.arrays.test_logits).max() < 1e-2
    assert np.abs(hard.arrays.test_logits - trained(data).arrays.test_logits).max() > 0.1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"schedule": "cosine"},
            [0.2 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(10)],
        ),
        ({"schedule": "steps", "drops": (0.5, 0.75)}, [0.2] * 5 + [0.02] * 3 + [0.002] * 2),
        ({"schedule": "steps", "drops": (0.31,)}, [0.2] * 3 + [0.02] * 7),
        ({"schedule": "steps", "drops": ()}, [0.2] * 10),
        ({"schedule": "linear"}, [0.2 * (1 - t / 10) for t in range(10)]),
        (
            {"schedule": "linear", "warm_up": 0.3},
            [0.05, 0.1, 0.15, *(0.2 * (1 - t / 7) for t in range(7))],
        ),
        (
            {"schedule": "cosine", "warm_up": 0.2},
            [0.2 / 3, 0.4 / 3, *(0.2 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(8))],
        ),
        (
            {"schedule": "steps", "drops": (0.5,), "warm_up": 0.1},
            [0.1] + [0.2] * 4 + [0.02] * 5,
        ),
    ],
)
def test_when_the_learning_rate_falls(changes, expected):
    network = build_network("cnn", (1, 8, 8), 10, seed=0)
    trial = config(learning_rate=0.2, **changes)
    optimizer = make_optimizer(network, trial.settings)
    schedule = make_schedule(optimizer, trial.settings, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)


def test_nesterov_is_that_of_torch(data):
    network = build_network("cnn", (1, 8, 8), 10, seed=0)
    assert make_optimizer(network, config(optimizer="nesterov").settings).defaults["nesterov"]
    assert not make_optimizer(network, config(optimizer="sgd").settings).defaults["nesterov"]
    one, other = trained(data), trained(data, optimizer="nesterov")
    assert not np.array_equal(one.arrays.test_logits, other.arrays.test_logits)


def test_drops_count_for_steps_only():
    def ids(**changes) -> set[str]:
        return {trial.id for trial in replace(TINY, **changes).trials("")}

    assert ids() == ids(drops=(0.3,))
    assert ids(schedule="steps") != ids(schedule="steps", drops=(0.3,))


def test_the_settings_are_stored_and_shown(tmp_path):
    recipe = replace(
        TINY, shift=1, crop=7, flip=0.5, schedule="steps", drops=(0.4, 0.8), optimizer="nesterov"
    )
    run_study(recipe, tmp_path)
    study = load_study(tmp_path)
    assert study.recipe == recipe
    assert [trial.config for trial in study.trials] == list(recipe.trials(study.data.sha256))
    assert len(run_study(recipe, tmp_path).trials) == 2  # complete, and known as such
    text = " ".join(write_report(tmp_path).path.read_text().split())
    assert "falling to a tenth after 0.4 and 0.8 of the steps , Nesterov momentum" in text.replace(
        "steps,", "steps ,"
    )
    assert (
        "moved by up to 1 pixels; cropped to 7×7 (after training: the middle); mirrored with probability 0.5"
        in text
    )
