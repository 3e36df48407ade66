"""Normalised cross-entropy beside the formula of NIST, and the influence of rows beside what leaving them out does."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from labelsmooth.measure.nce import nce_influence, normalised_cross_entropy


@pytest.fixture
def rows():
    chance = np.random.default_rng(0)
    confidence = chance.uniform(0.05, 0.99, 3000)
    return confidence, chance.random(3000) < confidence**1.5


def test_it_is_that_of_nist(rows):
    """In base 2 and as sums, as SCTK prints it, and by the log loss of scikit-learn."""
    confidence, correct = rows
    n, N = correct.sum(), len(correct)
    most = -n * np.log2(n / N) - (N - n) * np.log2(1 - n / N)
    gained = np.log2(confidence[correct]).sum() + np.log2(1 - confidence[~correct]).sum()
    found = normalised_cross_entropy(confidence, correct)
    assert found == pytest.approx((most + gained) / most, rel=1e-12)
    ratio = log_loss(correct, confidence) / log_loss(correct, np.full(N, n / N))
    assert found == pytest.approx(1 - ratio, rel=1e-9)


def test_what_knows_nothing_has_none_and_what_errs_a_negative_one(rows):
    _, correct = rows
    assert normalised_cross_entropy(np.full(len(correct), correct.mean()), correct) == pytest.approx(
        0, abs=1e-12
    )
    assert normalised_cross_entropy(np.where(correct, 0.2, 0.8), correct) < 0
    assert normalised_cross_entropy(np.where(correct, 1 - 1e-9, 1e-9), correct) == pytest.approx(1)
    # sure of an error: as sure as float64 can tell
    assert np.isfinite(normalised_cross_entropy(np.ones(len(correct)), correct))
    assert np.isnan(normalised_cross_entropy(np.full(3, 0.9), np.ones(3, bool)))


def test_influences_are_what_a_row_more_changes(rows):
    confidence, correct = rows
    moved, value = nce_influence(confidence, correct), normalised_cross_entropy(confidence, correct)
    assert moved.mean() == pytest.approx(value, rel=1e-12)
    for row in (0, 1, 2, 3, 4, 5):
        left = normalised_cross_entropy(np.delete(confidence, row), np.delete(correct, row))
        # leaving one of N out moves the value by −(φ − value)/(N − 1), to first order
        assert (value - left) * (len(correct) - 1) == pytest.approx(moved[row] - value, rel=0.01, abs=0.01)
