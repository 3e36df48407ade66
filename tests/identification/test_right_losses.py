"""Losses that are right are not accused, in any dtype: ours, and those of the peers that are installed."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from fastai.losses import LabelSmoothingCrossEntropy
from transformers.trainer_pt_utils import LabelSmoother

import labelsmooth as ls

DTYPES = (torch.float32, torch.bfloat16)
PUBLISHED = [name for name, record in ls.conventions().items() if record.same_as == name]
SIZES = (3, 10)


def of_convention(name, eps):
    pad = 0 if ls.conventions()[name].needs_pad else None
    ignored = {} if pad is None else {"ignore_index": pad}
    return partial(ls.cross_entropy, label_smoothing=ls.convention(name, eps, pad), **ignored)


def cast(loss, dtype):
    return lambda logits, labels: loss(logits.to(dtype), labels)


def hf(logits, labels):
    return LabelSmoother(0.1)({"logits": logits}, labels)


def half(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, 0.9 * labels + 0.05)


def full(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, 0.8 * labels + 0.1)


TORCH = partial(F.cross_entropy, label_smoothing=0.1)
OURS = partial(ls.cross_entropy, label_smoothing=0.1)
WEIGHT = torch.tensor([1.0, 2.0, 0.5])
RIGHT = {  # loss, convention, ε
    "torch": (TORCH, "torch", 0.1),
    "torch, hard": (F.cross_entropy, "torch", 0.0),
    "torch, sum": (partial(TORCH, reduction="sum"), "torch", 0.1),
    "torch, none": (partial(TORCH, reduction="none"), "torch", 0.1),
    "torch, padding": (partial(TORCH, ignore_index=0), "torch", 0.1),
    "torch, module": (torch.nn.CrossEntropyLoss(label_smoothing=0.2), "torch", 0.2),
    "transformers": (hf, "torch", 0.1),
    "ours": (OURS, "torch", 0.1),
    "ours, none": (partial(OURS, reduction="none"), "torch", 0.1),
    "ours, module": (ls.CrossEntropyLoss(label_smoothing=0.1), "torch", 0.1),
    "ours, in place": (partial(OURS, inplace_backward=True), "torch", 0.1),
    "ours, finite": (partial(OURS, support="finite"), "torch", 0.1),
    "ours, z-loss": (partial(OURS, z_loss=1e-2), "torch", 0.1),
    "ours, others": (partial(ls.cross_entropy, label_smoothing=ls.others(0.1)), "fairseq", 0.1),
    "ours, negative": (
        partial(ls.cross_entropy, label_smoothing=ls.uniform(-0.4, signed=True)),
        "torch",
        -0.4,
    ),
    "sigmoids, hard": (F.binary_cross_entropy_with_logits, "half", 0.0),
    "sigmoids, half": (half, "half", 0.1),
    "sigmoids, full": (full, "full", 0.1),
    "sigmoids, weight": (
        lambda z, y: F.binary_cross_entropy_with_logits(
            z, 0.9 * y + 0.05, pos_weight=torch.tensor(3.0, dtype=z.dtype)
        ),
        "half",
        0.1,
    ),
}


def is_found(found, convention, eps, dtype):
    """The convention may have another name at an ε of its own, as those of one target have."""
    tolerance = 1e-4 if dtype == torch.float32 else 3e-3  # bfloat16 has three digits
    names = dict([(found.convention, found.eps), *found.also])
    return names.get(convention) == pytest.approx(eps, abs=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PUBLISHED)
def test_each_convention(name, dtype):
    found = ls.identify(of_convention(name, 0.1), SIZES, dtype=dtype)
    assert is_found(found, name, 0.1, dtype)
    assert found.faults == ()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RIGHT)
def test_each_right_loss(name, dtype):
    loss, convention, eps = RIGHT[name]
    found = ls.identify(loss, SIZES, dtype=dtype)
    assert is_found(found, convention, eps, dtype)
    assert found.faults == ()
    assert found.right


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("loss", [TORCH, OURS], ids=["torch", "ours"])
def test_a_loss_that_casts_its_logits(loss, dtype):
    found = ls.identify(cast(loss, dtype))
    assert (found.convention, found.eps, found.faults) == ("torch", pytest.approx(0.1, abs=1e-4), ())


def test_many_classes():
    for loss in (TORCH, OURS, hf, of_convention("fairseq", 0.1), of_convention("opennmt", 0.1)):
        found = ls.identify(loss, (10, 1000))
        assert (found.eps, found.faults) == (pytest.approx(0.1, abs=1e-4), ())


@pytest.mark.parametrize("loss", [torch.nn.CrossEntropyLoss, ls.CrossEntropyLoss])
def test_class_weights_as_in_torch(loss):
    found = ls.identify(loss(label_smoothing=0.1, weight=WEIGHT.double()))
    assert (found.convention, found.eps, found.reduction, found.faults) == ("torch", 0.1, "mean", ())
    assert list(found.target) == [3]


def test_a_prior_is_no_fault():
    prior = torch.tensor([0.4, 0.3, 0.2, 0.1])
    found = ls.identify(partial(ls.cross_entropy, label_smoothing=ls.prior(0.2, prior)), 4)
    assert found.eps == pytest.approx(0.2, abs=1e-6)
    assert found.prior == pytest.approx(prior.tolist(), abs=1e-6)
    assert (found.convention, found.right) == (None, True)


def test_fastai_trains_on_ignored_rows():
    """As docs/departures.md says, and the numbers of `tests/fixtures/peer_losses.json`."""
    found = ls.identify(LabelSmoothingCrossEntropy(eps=0.1))
    assert (found.convention, found.eps) == ("torch", pytest.approx(0.1, abs=1e-6))
    assert [fault.name for fault in found.faults] == ["ignored rows leak"]


def test_notes_of_torch_are_notes():
    notes = {
        departure.name for departure in ls.identify(torch.nn.CrossEntropyLoss(label_smoothing=0.1)).departures
    }
    assert notes == {
        "NaN in an ignored row", "empty batch", "no row counts", "smoothing in evaluation", "bfloat16 loss",
        "float16 loss", "float16 overflow",
    }  # fmt: skip
    assert ls.identify(OURS).departures == ()
