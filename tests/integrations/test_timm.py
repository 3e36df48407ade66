"""Targets of mixed images, against timm's own with the same random numbers, on real digits."""

import copy
import doctest

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from timm_apart import loader, timm
from timm_apart import mixup as peer
from torch.utils.data import DataLoader

import labelsmooth as ls
import labelsmooth.integrations.timm
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.integrations.timm import FastCollateMixup, Mixup

K = 10
MIXES = {
    "mixup": {"mixup_alpha": 0.8},
    "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
    "both": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    "cutmix of given sizes": {"mixup_alpha": 0.0, "cutmix_minmax": (0.2, 0.8)},
    "some": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.5},
    "hard": {"mixup_alpha": 0.8, "label_smoothing": 0.0},
}


@pytest.fixture(autouse=True)
def _timm_makes_tables_of_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def digits(rows=12):
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:rows]).reshape(rows, 1, 8, 8), torch.tensor(labels[:rows])


def mixed(mix, *batch):
    """What a mixer makes of a batch, always with the same random numbers."""
    np.random.seed(3)  # noqa: NPY002  # timm draws from numpy's global state
    return mix(*copy.deepcopy(batch))


def assert_same_loss(mixture, table, tolerance=1e-12):
    logits = torch.randn(len(table), K, requires_grad=True)
    losses = ls.cross_entropy(logits, mixture), timm.loss.SoftTargetCrossEntropy()(logits, table)
    ours, theirs = (torch.autograd.grad(loss, logits)[0] for loss in losses)
    torch.testing.assert_close(*losses, rtol=0, atol=tolerance)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("settings", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_the_loss_is_that_of_timm_s_table(mode, settings):
    settings = {"mode": mode, "num_classes": K, "label_smoothing": 0.1} | settings
    images, mixture = mixed(Mixup(**settings), *digits())
    expected, table = mixed(peer.Mixup(**settings), *digits())
    assert torch.equal(images, expected)
    assert_same_loss(mixture, table)


@pytest.mark.parametrize("settings", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("mode", ["batch", "pair", "elem", "half"])
@pytest.mark.parametrize("as_arrays", [True, False])
def test_collating_mixes_as_timm_does(as_arrays, mode, settings):
    settings = {"mode": mode, "num_classes": K, "label_smoothing": 0.1} | settings
    images, labels = digits()
    images = images.byte()
    batch = list(zip(images.numpy() if as_arrays else images, labels.tolist(), strict=True))
    pixels, mixture = mixed(FastCollateMixup(**settings), batch)
    expected, table = mixed(peer.FastCollateMixup(**settings), batch)
    assert torch.equal(pixels, expected)
    assert_same_loss(
        mixture, table, 1e-12 if mode == "batch" else 1e-6
    )  # the share of an image is float32 here


def test_smoothing_happens_once():
    """Not at all where it is 0, once where nothing is mixed, and not in the loss as well."""
    mix = Mixup(mixup_alpha=0.8, label_smoothing=0.1, num_classes=K)
    mix.mixup_enabled = False
    images, mixture = mix(*digits())
    logits = torch.randn(len(images), K)
    expected = torch.nn.functional.cross_entropy(logits, digits()[1], label_smoothing=0.1)
    torch.testing.assert_close(ls.cross_entropy(logits, mixture), expected)
    with pytest.raises(ValueError, match="Mixture"):
        ls.cross_entropy(logits, mixture, label_smoothing=0.1)


def test_every_smoothing():
    """The prior of `unigram` in place of the uniform one, in the same shares."""
    images, labels = digits()
    prior = torch.bincount(labels, minlength=K) + 1.0
    settings = {"mixup_alpha": 0.8, "mode": "elem", "num_classes": K}
    _, mixture = mixed(Mixup(**settings, label_smoothing=ls.prior(0.2, prior / prior.sum())), images, labels)
    _, table = mixed(peer.Mixup(**settings, label_smoothing=0.0), images, labels)
    assert_same_loss(mixture, 0.8 * table + 0.2 * prior / prior.sum())


def test_training_in_half_precision():
    images, labels = digits()
    _, mixture = mixed(Mixup(num_classes=K, mode="elem"), images.float(), labels)
    logits = torch.randn(len(images), K, dtype=torch.bfloat16)
    whole = -(mixture.dense(K) * logits.double().log_softmax(-1)).sum(-1).mean()
    assert ls.cross_entropy(logits, mixture).item() == pytest.approx(whole.item(), rel=1e-6)


def test_in_the_workers_of_a_loader_and_timm_s_prefetcher():
    images, labels = digits()
    rows = list(zip(images.byte().expand(-1, 3, -1, -1).numpy(), labels.tolist(), strict=True))
    collate = FastCollateMixup(num_classes=K, mode="half")
    batches = DataLoader(rows, 6, collate_fn=collate, num_workers=1)
    batches = loader.PrefetchLoader(batches, device=torch.device("cpu"))
    batches.mixup_enabled = False  # timm's way to end with plain images
    assert not collate.mixup_enabled
    for (pixels, mixture), expected in zip(batches, labels.split(6), strict=True):
        assert pixels.shape == (3, 3, 8, 8)
        smoothed = ls.uniform(0.1)(expected[:3], K).dense(K)
        torch.testing.assert_close(mixture.dense(K), smoothed, rtol=0, atol=1e-7, check_dtype=False)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mode": "half"}, "mode must be one of batch, pair, elem, got 'half'"),
        ({"multi_label": True}, "several labels a row are no mixture of classes, got multi_label=True"),
        ({"mixup_alpha": 0.0}, "mixup_alpha or cutmix_alpha must be above 0, got 0.0 and 0.0"),
        ({"label_smoothing": 1.5}, "got 1.5"),
        ({"label_smoothing": ls.class_conditional(0.1, torch.full((K, K), 1 / K))}, "class-conditional"),
        ({"label_smoothing": ls.prior(0.1, torch.full((4,), 0.25))}, "cover the 10 classes"),
    ],
)
def test_settings_that_cannot_be(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Mixup(**{"num_classes": K} | settings)


def test_batches_that_cannot_be():
    mix, (images, labels) = Mixup(num_classes=K), digits()
    with pytest.raises(InputError, match="must be even, .* got 11"):
        mix(images[1:], labels[1:])
    with pytest.raises(InputError, match="must be even, .* got 1"):
        FastCollateMixup(num_classes=K)([(images[0].byte(), 1)])
    with pytest.raises(InputError, match=r"labels must be \(12,\) as the images, got \(10,\)"):
        mix(images, labels[2:])
    with pytest.raises(InputTypeError, match="images to mix must be floating-point, got torch.uint8"):
        mix(images.byte(), labels)


def test_examples_in_docstrings_run():
    assert doctest.testmod(labelsmooth.integrations.timm, extraglobs={"torch": torch}).failed == 0
