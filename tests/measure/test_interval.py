"""Intervals: how they are made, and that they hold what they should (benchmarks/coverage.py counts how often)."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from labelsmooth.measure import Calibration
from labelsmooth.measure.interval import (
    bootstrap_counts,
    percentile_interval,
    share_interval,
    shrinking_interval,
    simultaneous_level,
)

NAMES = {
    "accuracy", "nll", "brier", "mean_confidence", "over_confidence", "entropy",
    "ece", "ece_ratio", "ece_l2", "mce", "debiased_l2", "ece_equal_mass", "smece",
}  # fmt: skip


def test_several_intervals_hold_together():
    assert simultaneous_level(0) == simultaneous_level(1) == pytest.approx(0.95)
    assert simultaneous_level(13) == pytest.approx(1 - 0.05 / 13)
    assert simultaneous_level(3, 0.9) == pytest.approx(1 - 0.1 / 3)


@pytest.fixture(scope="module")
def digits():
    """Probabilities of an over-confident classifier for digits it has not seen."""
    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=10, max_iter=50, tol=1).fit(images[:300], labels[:300])
    return classifier.predict_proba(images[300:]), labels[300:]


def drawn(rows, power, seed):
    rng = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * rng.beta(4, 1.5, rows)
    hit = rng.random(rows) < confidence**power
    return np.stack([confidence, 1 - confidence], 1), np.where(hit, 0, 1)


def calibration_of(probs, target, weight=None, **options):
    calibration = Calibration(**options)
    calibration.update_probs(probs, target, weight)
    return calibration


def test_every_number_has_an_interval_that_holds_it(digits):
    calibration = calibration_of(*digits, top_k=(1, 5))
    result, intervals = calibration.compute(), calibration.intervals()
    assert intervals.keys() == NAMES | {"top_1_accuracy", "top_5_accuracy"}
    for name, interval in intervals.items():
        assert interval.low < interval.high, name
        assert interval.low <= interval.value <= interval.high, name
        if name in NAMES:
            assert interval.value == getattr(result, name)
    assert intervals["top_1_accuracy"] == intervals["accuracy"]
    assert intervals["debiased_l2"].low == intervals["ece_l2"].low
    wider, again = calibration.intervals(level=0.99), calibration.intervals()
    assert again == intervals
    for name in NAMES:
        assert wider[name].low <= intervals[name].low <= intervals[name].high <= wider[name].high, name
    assert calibration.intervals(seed=1)["nll"] != intervals["nll"]


def test_means_have_the_intervals_of_a_bootstrap_of_rows(digits):
    probs, target = digits
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(target), (4000, len(target)))
    confidence, hit = probs.max(-1), probs.argmax(-1) == target
    per_row = {
        "nll": -np.log(probs[np.arange(len(target)), target]),
        "brier": (np.square(probs - np.eye(10)[target])).sum(-1),
        "mean_confidence": confidence,
        "over_confidence": confidence - hit,
        "entropy": -(probs * np.log(probs)).sum(-1),
        "accuracy": hit,
    }
    intervals = calibration_of(probs, target).intervals(replicates=4000)
    for name, values in per_row.items():
        low, high = np.quantile(values[rows].mean(1), [0.025, 0.975])
        found = intervals[name]
        assert found.value == pytest.approx(values.mean(), rel=1e-12)
        assert [found.low, found.high] == pytest.approx([low, high], abs=0.12 * (high - low)), name


def test_weights_widen_as_they_do_for_a_bootstrap_of_rows(digits):
    probs, target = digits
    rng = np.random.default_rng(0)
    weight = rng.exponential(size=len(target))
    rows = rng.integers(0, len(target), (4000, len(target)))
    nll = -np.log(probs[np.arange(len(target)), target])
    draws = (weight * nll)[rows].sum(1) / weight[rows].sum(1)
    found = calibration_of(probs, target, weight).intervals(replicates=4000)["nll"]
    assert found.value == pytest.approx(np.average(nll, weights=weight), rel=1e-12)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.15 * (high - low))


def test_calibrated_rows_are_not_called_miscalibrated():
    """A plain bootstrap of these errors holds 0 for none of them."""
    calibrated = [calibration_of(*drawn(1000, 1.0, seed)).intervals(200) for seed in range(12)]
    miscalibrated = calibration_of(*drawn(1000, 2.0, 0)).intervals(200)
    for measure in ("ece", "smece", "ece_l2", "ece_equal_mass", "debiased_l2"):
        assert sum(intervals[measure].low == 0 for intervals in calibrated) >= 10, measure
        assert miscalibrated[measure].low > 0.05, measure


def test_the_interval_of_the_ece_holds_the_ece_of_many_rows():
    truth = calibration_of(*drawn(500_000, 1.3, 99)).compute().ece
    intervals = [calibration_of(*drawn(2000, 1.3, seed)).intervals(200)["ece"] for seed in range(20)]
    assert sum(i.low <= truth <= i.high for i in intervals) >= 17
    assert all(i.high - i.low < 0.08 for i in intervals)


def test_shares_have_wilsons_interval():
    for share, rows in ((0.9, 50), (0.5, 4), (1.0, 30), (0.0, 7)):
        interval = share_interval(share, rows, 0.95)
        for end in {interval.low, interval.high} - {0.0, 1.0}:
            # an end is where the share is 1.96 of ITS standard deviations away
            assert abs(end - share) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / rows), rel=1e-6)
    assert share_interval(1.0, 30, 0.95).high == 1
    assert share_interval(0.0, 7, 0.95).low == 0


def test_draws_are_multinomial():
    rng = np.random.default_rng(0)
    share = np.array([0.5, 0.3, 0.2])
    for weight, rows in ((share, 1000), (np.array([500, 300, 200]), 1000), (np.array([5, 3, 2]), 20)):
        counts = np.concatenate(list(bootstrap_counts(rng, weight, rows, 5000)))
        assert counts.shape == (5000, 3)
        assert (counts.sum(1) == rows).all()
        np.testing.assert_allclose(counts.mean(0), rows * share, rtol=0.02)
        expected = rows * (np.diag(share) - np.outer(share, share))
        np.testing.assert_allclose(np.cov(counts.T), expected, atol=0.015 * rows)
    sizes = [part.shape for part in bootstrap_counts(rng, np.full(2**17, 2.0**-17), 10, 5)]
    assert sizes == [(2, 2**17), (2, 2**17), (1, 2**17)]


def test_where_nothing_is_noisy_the_interval_is_the_number():
    gaps = np.array([0.1, -0.2])
    interval = shrinking_interval(0.3, gaps, np.zeros((100, 2)), lambda g: np.abs(g).sum(-1), 0.95)
    assert (interval.low, interval.value, interval.high) == (0.3, 0.3, 0.3)
    assert percentile_interval(2.0, np.array([0.0, 1.0]), 0.95).high == 2


def test_an_infinite_nll_and_an_unknown_entropy_stay_so():
    calibration = calibration_of(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0]))
    interval = calibration.intervals()["nll"]
    assert interval.low == interval.value == interval.high == math.inf
    assert all(math.isfinite(i.low) for name, i in calibration.intervals().items() if name != "nll")


def test_one_row_and_rows_that_are_all_right():
    one = calibration_of(np.array([[0.9, 0.1]]), np.array([0])).intervals()
    assert one["accuracy"].low < 0.3
    probs = np.stack([np.full(500, 0.99), np.full(500, 0.01)], 1)
    right = calibration_of(probs, np.zeros(500, int)).intervals()
    # 500 of 500 right at 0.99 happen once in 150 times: under-confident it seems, but by up to 0.01 at most
    assert 0.99 < right["accuracy"].low < right["accuracy"].high == 1
    assert right["ece"].value == pytest.approx(0.01)
    assert right["ece"].high < 0.02


def test_bad_arguments_are_refused():
    calibration = Calibration()
    with pytest.raises(ValueError, match="at least one row that counts, got none"):
        calibration.intervals()
    calibration.update(torch.eye(3), torch.arange(3))
    with pytest.raises(TypeError, match="replicates must be an int, got float"):
        calibration.intervals(1e3)
    with pytest.raises(ValueError, match="replicates must be at least 100, got 10"):
        calibration.intervals(10)
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        calibration.intervals(level=95)
