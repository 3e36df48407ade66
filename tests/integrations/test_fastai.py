"""The loss in fastai's own Learner on real digits, against torch's cross-entropy and fastai's losses."""

import pickle
import random

import pytest
import torch
from fastai.callback.mixup import MixUp
from fastai.callback.schedule import *  # noqa: F403  # which gives Learner its `lr_find` and `fit_one_cycle`
from fastai.data.core import Datasets
from fastai.data.transforms import Categorize
from fastai.learner import Learner, load_learner
from fastai.losses import CrossEntropyLossFlat as Peer
from fastai.losses import LabelSmoothingCrossEntropyFlat
from fastai.metrics import accuracy
from fastai.torch_core import TensorBase, TensorCategory, TensorImageBW
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import labelsmooth as ls
from labelsmooth.errors import InputError
from labelsmooth.integrations.fastai import CrossEntropyLossFlat

K, EPS, TRAIN = 10, 0.1, 1400
IMAGES, LABELS = (torch.tensor(part) for part in load_digits(return_X_y=True))


def image(row):
    return TensorImageBW(IMAGES[row].float().reshape(1, 8, 8) / 16)


def label(row):
    return int(LABELS[row])


def learner(folder, loss=None, **more):
    random.seed(0)  # the order of batches
    torch.manual_seed(0)
    rows = list(range(len(LABELS)))
    data = Datasets(rows, [[image], [label, Categorize]], splits=[rows[:TRAIN], rows[TRAIN:]])
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, K))
    loss = CrossEntropyLossFlat(label_smoothing=EPS) if loss is None else loss
    return Learner(data.dataloaders(bs=200, num_workers=0), network, loss, path=folder, **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    training = learner(tmp_path_factory.mktemp("fastai"), metrics=[accuracy, F.cross_entropy])
    with training.no_bar(), training.no_logging():
        training.fit_one_cycle(3, 0.02)
    return training


def logits_of(training):
    with torch.no_grad():
        return training.model.eval()((IMAGES[TRAIN:] / 16).float().reshape(-1, 1, 8, 8))


def test_a_learner_learns(trained):
    with trained.no_bar(), trained.no_logging():
        smoothed, right, nll = trained.validate()
    logits, labels = logits_of(trained), LABELS[TRAIN:]
    assert smoothed == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=EPS).item(), rel=1e-5)
    assert nll == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert right == pytest.approx((logits.argmax(-1) == labels).double().mean().item())
    assert right > 0.8


def test_training_equals_that_of_fastai_s_loss(tmp_path):
    """Of the same weights and order of batches, to the rounding of float32."""
    weights = []
    for loss in (CrossEntropyLossFlat(label_smoothing=EPS), LabelSmoothingCrossEntropyFlat(eps=EPS)):
        training = learner(tmp_path, loss)
        with training.no_bar(), training.no_logging():
            training.fit(1, 0.01)
        weights.append(training.model[1].weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


def test_predictions_have_probabilities_classes_and_losses(trained):
    with trained.no_bar():
        probabilities, labels, classes, losses = trained.get_preds(with_decoded=True, with_loss=True)
    logits = logits_of(trained)
    torch.testing.assert_close(probabilities.as_subclass(torch.Tensor), logits.softmax(-1))
    assert classes.tolist() == logits.argmax(-1).tolist()
    expected = F.cross_entropy(logits, LABELS[TRAIN:], label_smoothing=EPS, reduction="none")
    torch.testing.assert_close(losses, expected)
    assert labels.tolist() == LABELS[TRAIN:].tolist()
    assert trained.loss_func.reduction == "mean"  # as before


# fastai shows images, and lists numpy's types, as was right for older versions of numpy
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")
def test_show_results_and_lr_find(trained, tmp_path):
    from matplotlib import pyplot as plt

    with trained.no_bar():
        _, axes = plt.subplots(1, 4)
        trained.show_results(ctxs=list(axes), max_n=4, shuffle=False)
        assert all(len(ax.images) == 1 for ax in axes)
        finding = learner(tmp_path)
        with finding.no_bar():
            assert finding.lr_find(num_it=12, show_plot=False).valley > 0
    plt.close("all")


def test_mixup_of_fastai_mixes_smoothed_losses(tmp_path):
    mixing = MixUp(0.4)
    training = learner(tmp_path, cbs=mixing)
    mixing.learn = training
    with training.no_bar(), training.no_logging():
        training.fit(1, 0.01)
    logits, labels, partners = torch.randn(6, K), LABELS[:6], LABELS[6:12]
    mixing.before_train()
    training.training, mixing.yb1, mixing.lam = True, (partners,), torch.rand(6)
    expected = ls.cross_entropy(logits, ls.mixup(labels, partners, mixing.lam, EPS))
    torch.testing.assert_close(mixing.lf(logits, labels), expected)
    mixing.after_train()


def test_an_exported_learner_keeps_the_loss(trained):
    trained.export("learner.pkl")
    with pytest.warns(UserWarning, match="load_learner"):
        loaded = load_learner(trained.path / "learner.pkl")
    assert str(loaded.loss_func) == str(trained.loss_func)
    logits = torch.randn(5, K)
    assert torch.equal(loaded.loss_func(logits, LABELS[:5]), trained.loss_func(logits, LABELS[:5]))


def test_maps_have_their_classes_on_another_axis():
    logits, labels = torch.randn(2, K, 3, 4), torch.randint(K, (2, 3, 4))
    labels[0, 0] = 255
    loss = CrossEntropyLossFlat(label_smoothing=EPS, axis=1, ignore_index=255)
    settings = {"label_smoothing": EPS, "ignore_index": 255}
    torch.testing.assert_close(loss(TensorBase(logits), labels), F.cross_entropy(logits, labels, **settings))
    assert torch.equal(loss.decodes(logits), logits.argmax(1))
    torch.testing.assert_close(loss.activation(logits), logits.softmax(1))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_hard_losses_are_those_of_fastai(reduction):
    logits, labels = TensorBase(torch.randn(6, K)), TensorCategory(LABELS[:6])
    weight = torch.rand(K)
    losses = [kind(weight=weight) for kind in (CrossEntropyLossFlat, Peer)]
    for loss in losses:
        loss.reduction = reduction
    ours, theirs = (loss(logits, labels).as_subclass(torch.Tensor) for loss in losses)
    torch.testing.assert_close(ours, theirs)


def test_it_says_what_it_is_and_can_be_copied():
    loss = CrossEntropyLossFlat(label_smoothing=ls.others(0.2), axis=1)
    copy = pickle.loads(pickle.dumps(loss))
    assert "others(0.2" in str(loss)
    assert str(copy) == str(loss)
    assert (copy.axis, copy.y_int) == (1, True)


def test_what_cannot_be_is_refused_at_once():
    with pytest.raises(InputError, match="got 1.5"):
        CrossEntropyLossFlat(label_smoothing=1.5)
