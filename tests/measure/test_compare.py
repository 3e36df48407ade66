"""Paired differences against their definitions, and their intervals against what resampling gives."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from labelsmooth.measure import Calibration, Comparison, compare
from labelsmooth.measure.influence import Mean, influences
from labelsmooth.measure.rows import numbers_from_probs


@pytest.fixture(scope="module")
def predictions():
    """Probabilities of two real classifiers on rows that neither has seen, and their labels."""
    images, labels = load_digits(return_X_y=True)
    a = LogisticRegression(C=0.01, max_iter=500).fit(images[:600], labels[:600])
    b = RandomForestClassifier(100, min_samples_leaf=3, random_state=0).fit(images[:600], labels[:600])
    return a.predict_proba(images[600:]), b.predict_proba(images[600:]), labels[600:]


def aurc_by_definition(confidence, error):
    return np.mean([error[confidence >= c].mean() for c in confidence])


def test_values_are_the_differences_of_the_numbers(predictions):
    a, b, target = predictions
    differences = compare(a, b, target, probs=True)
    expected = {}
    for sign, probs in ((1, a), (-1, b)):
        calibration = Calibration()
        calibration.update_probs(probs, target)
        result = calibration.compute()
        numbers = {
            name: getattr(result, name)
            for name in ("accuracy", "nll", "brier", "mean_confidence", "over_confidence", "ece")
        }
        numbers["entropy"] = (
            -np.where(probs > 0, probs * np.log(np.where(probs > 0, probs, 1)), 0).sum(-1).mean()
        )
        numbers["aurc"] = aurc_by_definition(probs.max(-1), probs.argmax(-1) != target)
        for name, value in numbers.items():
            expected[name] = expected.get(name, 0) + sign * value
    assert differences.keys() == expected.keys()
    for name, value in expected.items():
        difference = differences[name]
        assert difference.value == pytest.approx(value, rel=1e-10, abs=1e-13), name
        assert difference.low < value < difference.high, name


def test_logits_and_probabilities_give_the_same(predictions):
    a, b, target = predictions
    b = b / 2 + 0.05  # without zeros
    given = compare(a, b, target, probs=True)
    logits = compare(torch.tensor(a).log() + 7, np.log(b), torch.tensor(target))
    for name, difference in given.items():
        for end in ("value", "low", "high"):
            assert getattr(logits[name], end) == pytest.approx(getattr(difference, end), rel=1e-9, abs=1e-12)


def ece_of(confidence, error):
    gaps = np.bincount(np.ceil(confidence * 15).astype(int), confidence - 1 + error)
    return np.abs(gaps).sum() / len(error)


def aurc_of(confidence, error):
    _, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    accepted = np.cumsum(count)
    return count @ (np.cumsum(np.bincount(group, error)) / accepted) / len(error)


def test_influences_are_those_of_leaving_a_row_out(predictions):
    probs, _, target = predictions
    # each row many times over, so that one less is a small change; rounded, so that others tie
    probs = probs[:200].round(2) / probs[:200].round(2).sum(-1, keepdims=True)
    probs, target = np.tile(probs, (20, 1)), np.tile(target[:200], 20)
    confidence, error = probs.max(-1), (probs.argmax(-1) != target).astype(float)
    rows = numbers_from_probs(torch.tensor(probs), torch.tensor(target))
    known = influences(rows).of(rows)
    for name, number in (("aurc", aurc_of), ("ece", ece_of)):
        value, influence = number(confidence, error), known[name]
        assert influence.mean() == pytest.approx(value, rel=1e-12)
        without = [number(np.delete(confidence, i), np.delete(error, i)) for i in range(200)]
        jackknife = (len(target) - 1) * (value - np.array(without))
        expected = jackknife - jackknife.mean()
        np.testing.assert_allclose((influence - influence.mean())[:200], expected, atol=2e-3)
        assert np.abs(expected).max() > 0.2


def test_a_mean_of_batches_is_that_of_all_rows_whatever_its_offset():
    rng = np.random.default_rng(0)
    values, weights = 1e9 + rng.normal(size=1000), rng.integers(0, 3, 1000) / 2
    values[weights == 0] = math.inf  # which does not count
    kept, w = values[weights > 0] - 1e9, weights[weights > 0]
    mean = np.average(kept, weights=w)
    half = 1.959963984540054 * np.sqrt((w**2 * (kept - mean) ** 2).sum()) / w.sum()
    measured = Mean()
    for part in (slice(300), slice(300, 300), slice(300, None)):
        measured.update(values[part], weights[part])
    interval = measured.interval()
    assert interval.value == pytest.approx(1e9 + mean, rel=1e-15)
    assert interval.high - interval.value == pytest.approx(half, rel=1e-5)
    assert math.isnan(Mean().interval().value)


def test_the_intervals_hold_the_truth(predictions):
    """In samples from the rows of two real classifiers, whose differences are then the truth."""
    a, b, target = predictions
    truth = compare(a, b, target, probs=True)
    rng = np.random.default_rng(0)
    held = dict.fromkeys(truth, 0)
    for _ in range(500):
        rows = rng.integers(0, len(target), 500)
        for name, interval in compare(a[rows], b[rows], target[rows], probs=True).items():
            held[name] += interval.low <= truth[name].value <= interval.high
    # three standard errors of a share of 0.95 are 0.03
    for name in held.keys() - {"ece"}:
        assert 0.92 <= held[name] / 500 <= 0.98, (name, held[name])
    assert held["ece"] / 500 >= 0.9


def test_intervals_follow_the_level_and_the_number_of_rows(predictions):
    a, b, target = predictions
    narrow, wide = (compare(a, b, target, probs=True, level=level)["nll"] for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    four = compare(np.tile(a, (4, 1)), np.tile(b, (4, 1)), np.tile(target, 4), probs=True, level=0.5)["nll"]
    assert four.high - four.low == pytest.approx((narrow.high - narrow.low) / 2, rel=1e-9)


def test_the_same_predictions_do_not_differ(predictions):
    a, _, target = predictions
    for name, difference in compare(a, a, target, probs=True).items():
        assert difference.value == 0, name
        # equal decisions on these rows are not equal decisions on all
        assert (
            (difference.high == -difference.low > 0)
            if name == "accuracy"
            else difference.low == difference.high == 0
        )


def test_batches_in_any_order_are_the_whole(predictions):
    a, b, target = predictions
    whole = compare(a, b, target, probs=True)
    first, second = Comparison(), Comparison()
    second.update_probs(
        a[:500].reshape(5, 100, 10), b[:500].reshape(5, 100, 10), target[:500].reshape(5, 100)
    )
    first.update_probs(torch.tensor(a[500:]), torch.tensor(b[500:]), torch.tensor(target[500:]))
    first.merge(second)
    for name, difference in first.compute().items():
        for end in ("value", "low", "high"):
            assert getattr(difference, end) == pytest.approx(getattr(whole[name], end), rel=1e-9, abs=1e-14)
    first.reset()
    with pytest.raises(ValueError, match="at least one row, got none"):
        first.compute()


def test_an_infinite_nll_is_said_and_harms_nothing_else():
    certain, unsure, target = np.array([[1.0, 0], [1, 0]]), np.full((2, 2), 0.5), np.array([0, 1])
    differences = compare(certain, unsure, target, probs=True)
    assert (differences["nll"].value, differences["nll"].low, differences["nll"].high) == (math.inf,) * 3
    assert math.isnan(compare(certain, certain, target, probs=True)["nll"].value)
    assert compare(unsure, certain, target, probs=True)["nll"].value == -math.inf
    assert all(math.isfinite(d.low) for name, d in differences.items() if name != "nll")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros((3, 2)), np.zeros((3, 4)), np.full(3, 2)), {}, ValueError, "target must lie in 0..1, got 2"),
        ((np.zeros((3, 2)), np.zeros((2, 2)), np.zeros(3, int)), {}, ValueError, r"target \(3,\) with b \(2, 2\)"),
        ((np.zeros((3, 2)), np.full((3, 2), np.nan), np.zeros(3, int)), {}, ValueError, "row of b must hold a finite value .* 3 of 3"),
        ((np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, int)), {"probs": True}, ValueError, "each row of a must sum to 1, got a sum of 0"),
        ((np.full((3, 2), 0.5), np.full((3, 2), -0.5), np.zeros(3, int)), {"probs": True}, ValueError, "b must lie in 0..1, got -0.5"),
        ((np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3, int)), {"level": 1}, ValueError, r"level must lie between 0 and 1, got 1"),
        ((np.zeros((3, 2)), np.zeros((3, 2), int), np.zeros(3, int)), {}, TypeError, "b must hold floating-point values"),
    ],
)  # fmt: skip
def test_bad_comparisons_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        compare(*arguments, **options)
