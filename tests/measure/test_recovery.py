"""The ε of networks really trained is recovered, and nothing is read into others."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch import nn

import labelsmooth as ls
from labelsmooth import theory
from labelsmooth.measure import SmoothingRecovery, recovered_smoothing

TRAIN = 1000


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images / 16)[order], labels[order]


@pytest.fixture(scope="module")
def logits_of(digits):
    """Logits of the rows held out, of an MLP trained on the others as `labelsmooth study` trains."""
    x, y = torch.tensor(digits[0]).float(), torch.tensor(digits[1])

    def train(smoothing, epochs=60, seed=0):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
        for _ in range(epochs):
            for batch in torch.randperm(TRAIN).split(100):
                optimizer.zero_grad()
                ls.cross_entropy(network(x[batch]), y[batch], label_smoothing=smoothing).backward()
                optimizer.step()
            schedule.step()
        with torch.no_grad():
            return network(x[TRAIN:])

    return train


@pytest.mark.parametrize(("eps", "seed"), [(0.05, 0), (0.05, 1), (0.1, 0), (0.1, 1), (0.2, 0), (0.4, 0)])
def test_the_eps_of_a_smoothed_network_lies_in_its_interval(eps, seed, digits, logits_of):
    result = recovered_smoothing(logits_of(eps, seed=seed), digits[1][TRAIN:])
    assert result.verdict == "smoothed", result.reason
    assert result.uniform.low < eps < result.uniform.high
    assert result.uniform.high < 2 * eps
    assert result.uniform.value == pytest.approx(eps, rel=0.25)


def test_the_other_convention_is_given_beside_it(digits, logits_of):
    logits = logits_of(ls.others(0.15))
    result = recovered_smoothing(logits, digits[1][TRAIN:])
    assert result.others.low < 0.15 < result.others.high
    for name in ("value", "low", "high"):
        converted = theory.convert(getattr(result.uniform, name), 10, "uniform", "others")
        assert getattr(result.others, name) == pytest.approx(converted, rel=1e-12)


def test_a_hard_network_is_hard_and_a_temperature_does_not_smooth_it(digits, logits_of):
    logits = logits_of(0.0)
    assert recovered_smoothing(logits, digits[1][TRAIN:]).verdict == "hard"
    for temperature in (2, 4, 8):
        assert recovered_smoothing(logits / temperature, digits[1][TRAIN:]).verdict != "smoothed"


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_a_network_that_is_not_trained_to_the_end_is_undecidable(epochs, eps, digits, logits_of):
    assert recovered_smoothing(logits_of(eps, epochs), digits[1][TRAIN:]).verdict == "undecidable"


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(C=0.01),
        LogisticRegression(max_iter=500),
        LogisticRegression(C=1000, max_iter=5000),
        MLPClassifier((64,), max_iter=400, random_state=0),
        MLPClassifier((64,), alpha=3, random_state=0),
        RandomForestClassifier(100, random_state=0),
        RandomForestClassifier(100, min_samples_leaf=10, random_state=0),
    ],
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_classifiers_trained_without_smoothing_do_not_look_smoothed(classifier, digits):
    x, y = digits
    classifier.fit(x[:TRAIN], y[:TRAIN])
    with np.errstate(divide="ignore"):
        logits = np.log(classifier.predict_proba(x[TRAIN:]))
    result = recovered_smoothing(logits, y[TRAIN:])
    assert result.verdict in ("hard", "undecidable")
    assert result.uniform is result.others is None


@pytest.mark.parametrize("label", [0, 3, 6])
def test_two_classes_do_not_tell_smoothing_from_a_penalty(label):
    """The gaps of one-against-the-rest regressions gather as closely as those of smoothed networks."""
    x, labels = load_digits(return_X_y=True)
    y = (labels == label).astype(int)
    classifier = LogisticRegression(C=0.001).fit(x[:900] / 16, y[:900])
    result = recovered_smoothing(classifier.predict_log_proba(x[900:] / 16), y[900:])
    assert result.log_odds_spread < 0.3
    assert (result.verdict, result.uniform, result.others) == ("undecidable", None, None)
    assert "with two classes" in result.reason


def test_its_numbers_are_their_definitions():
    rng = np.random.default_rng(0)
    logits, target = 2 * rng.standard_normal((3000, 5)), rng.integers(0, 5, 3000)
    gaps, spreads = [], []
    for z, y in zip(logits, target, strict=True):
        if z.argmax() == y:
            wrong = np.delete(z, y)
            gaps.append(z[y] - math.log(np.exp(wrong).mean()))
            spreads.append(wrong.std() / (z[y] - wrong.mean()))
    result = recovered_smoothing(logits, target)
    assert (result.rows, result.correct) == (3000, len(gaps))
    low, median, high = np.quantile(gaps, [0.25, 0.5, 0.75])
    assert result.log_odds == pytest.approx(median, abs=0.02)
    assert result.log_odds_spread == pytest.approx((high - low) / median, abs=0.02)
    assert result.wrong_spread == pytest.approx(np.median(spreads), abs=0.005)


@pytest.mark.parametrize("num_classes", [3, 10, 1000])
@pytest.mark.parametrize("eps", [0.01, 0.1, 0.5])
def test_exact_targets_give_their_own_eps(num_classes, eps):
    target = np.arange(2000) % num_classes
    q = (1 - eps) * np.eye(num_classes)[target] + eps / num_classes
    result = recovered_smoothing(np.log(q) + 100, target)
    assert result.uniform.value == pytest.approx(eps, rel=0.01)
    assert result.uniform.low < eps < result.uniform.high


def test_parts_are_the_whole():
    rng = np.random.default_rng(1)
    logits, target = 3 * rng.standard_normal((500, 4)), rng.integers(0, 4, 500)
    whole = recovered_smoothing(logits, target)
    first, second = SmoothingRecovery(4), SmoothingRecovery(4)
    first.update(logits[:100], target[:100])
    second.update(torch.tensor(logits[100:]).reshape(4, 100, 4), torch.tensor(target[100:]).reshape(4, 100))
    second.merge(first)
    assert second.compute() == whole
    with pytest.raises(ValueError, match="same options.*got num_classes=4 and num_classes=5"):
        second.merge(SmoothingRecovery(5))
    second.reset()
    with pytest.raises(ValueError, match="at least one row, got none"):
        second.compute()


def test_what_is_too_little_or_too_much():
    few = recovered_smoothing(np.eye(10), np.arange(10))
    assert (few.verdict, few.correct) == ("undecidable", 10)
    wrong = recovered_smoothing(np.eye(2), np.array([1, 0]))
    assert (wrong.verdict, wrong.correct) == ("undecidable", 0)
    assert math.isnan(wrong.log_odds)
    certain = np.where(np.eye(3, dtype=bool), 0, -np.inf)[np.arange(300) % 3]
    result = recovered_smoothing(certain, np.arange(300) % 3)
    assert (result.verdict, result.log_odds) == ("hard", math.inf)
    assert "of more than 64 nats" in result.reason
    constant = recovered_smoothing(np.zeros((300, 3)), np.zeros(300, int))
    assert constant.verdict == "undecidable"
    with pytest.raises(ValueError, match="neither NaN nor \\+inf, got 1 of 1 rows"):
        recovered_smoothing(np.array([[np.nan, 0]]), np.array([0]))
    with pytest.raises(ValueError, match="logits must have 3 classes, got 2"):
        SmoothingRecovery(3).update(np.eye(2), np.arange(2))


@pytest.mark.parametrize(
    ("dtype", "huge"), [(torch.float32, 1e30), (torch.float32, 1e38), (torch.float64, 1e300)]
)
def test_huge_logits_count_as_any_beyond_the_last_cell(dtype, huge):
    logits, labels = 5.0 * torch.eye(4, dtype=dtype).repeat(50, 1), torch.arange(4).repeat(50)
    counted = SmoothingRecovery(4)
    logits[0] = torch.tensor([huge, -huge, 0, 1], dtype=dtype)
    counted.update(logits, labels)
    logits[0] = torch.tensor([1e4, -1e4, 0, 1])
    expected = SmoothingRecovery(4)
    expected.update(logits, labels)
    np.testing.assert_array_equal(counted.state()["odds"], expected.state()["odds"])
    assert counted.state()["spreads"].sum() == 200
