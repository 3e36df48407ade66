"""The smooth calibration error against a float64 evaluation of its definition, row by row."""

import numpy as np
import pytest
import torch

from labelsmooth.measure import Calibration, smece, smece_of_scores


def as_probs(confidence, hit):
    """Rows of two classes, the first the predicted one."""
    return np.stack([confidence, 1 - confidence], 1), np.where(hit, 0, 1)


def drawn(rows, power, seed=0):
    rng = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * rng.beta(4, 1.5, rows)
    return confidence, rng.random(rows) < confidence**power


def by_definition(confidence, hit, width, points):
    """∫₀¹ |mean of K(t, c)·(c − y)| dt with K(t, c) the sum of Gaussian densities over all t̃ that fold to t."""
    order = np.argsort(confidence)
    c, r = confidence[order], (confidence - hit)[order]
    total = 0.0
    for t in (np.arange(points) + 0.5) / points:
        field = 0.0
        for image in (t, -t, 2 - t, 2 + t, t - 2, -2 - t, 4 - t):
            near = slice(*np.searchsorted(c, [image - 8 * width, image + 8 * width]))
            field += r[near] @ np.exp(-0.5 * np.square((image - c[near]) / width))
        total += abs(field)
    return total / points / (np.sqrt(2 * np.pi) * width * len(c))


@pytest.mark.parametrize(
    ("rows", "power", "points"),
    [(50, 1.0, 4000), (1000, 1.0, 4000), (1000, 2.0, 2000), (100_000, 1.0, 2000), (100_000, 1.1, 1000)],
)
def test_is_the_width_at_which_the_error_equals_the_width(rows, power, points):
    """As smECE_σ − σ falls by at least as much as σ grows, |smECE_σ − σ| bounds how far σ is off."""
    confidence, hit = drawn(rows, power)
    width = smece(*as_probs(confidence, hit), probs=True)
    assert by_definition(confidence, hit, width, points) == pytest.approx(width, abs=1e-6)


def test_mass_on_the_border_counts_in_full():
    confidence, hit = drawn(2000, 1.3)
    confidence[::3] = 1
    width = smece(*as_probs(confidence, hit), probs=True)
    assert by_definition(confidence, hit, width, 4000) == pytest.approx(width, abs=1e-6)
    # half of it would be 0.1
    assert smece(*as_probs(np.ones(1000), np.arange(1000) % 5 > 0), probs=True) == pytest.approx(
        0.2, abs=1e-6
    )


def test_constant_predictors():
    """All rows at one confidence: the residual is spread by the kernel and keeps its sum."""
    for confidence in (0.5, 0.73, 1.0):
        for share in (0.0, 0.4, 1.0):
            hit = np.arange(1000) < 1000 * share
            expected = abs(confidence - share)
            value = smece(*as_probs(np.full(1000, confidence), hit), probs=True)
            assert value == pytest.approx(expected, abs=1e-6)


def test_order_split_and_weights():
    confidence, hit = drawn(3000, 1.2)
    probs, target = as_probs(confidence, hit)
    whole = smece(probs, target, probs=True)
    parts = [Calibration(), Calibration()]
    for calibration, rows in zip(parts, (slice(None, None, 3), slice(None, None, -1)), strict=True):
        calibration.update_probs(probs[rows], target[rows])
    parts[0].merge(parts[1])
    weight = np.ones(3000)
    weight[::3] = 2
    assert parts[0].compute().smece == pytest.approx(
        smece(probs, target, probs=True, weight=weight), rel=1e-9
    )
    assert smece(probs[::-1], target[::-1], probs=True) == pytest.approx(whole, rel=1e-9)


def test_scores_are_rows_with_one_probability():
    confidence, hit = drawn(5000, 1.2)
    confidence[:100] = 1
    value = smece_of_scores(confidence, hit)
    assert value == pytest.approx(smece(*as_probs(confidence, hit), probs=True), abs=1e-8)
    assert (
        smece_of_scores(
            torch.from_numpy(confidence).reshape(50, 100), torch.from_numpy(hit * 1).reshape(50, 100)
        )
        == value
    )
    # of events, whose probabilities reach down to 0
    low = np.linspace(0, 0.5, 4001)
    happened = np.random.default_rng(0).random(4001) < low**2
    width = smece_of_scores(low, happened)
    assert by_definition(low, happened, width, 2000) == pytest.approx(width, abs=1e-6)
    for confidence, correct, message in [
        ([0.5, np.nan], [0, 1], "lie in 0..1, got nan"),
        ([0.5, 1.5], [0, 1], "lie in 0..1, got 1.5"),
        ([0.5, 0.5], [0, 2], "0 or 1, got 2"),
        ([0.5], [0, 2], r"got \(1,\) and \(2,\)"),
        ([], [], "at least one row"),
    ]:
        with pytest.raises(ValueError, match=message):
            smece_of_scores(np.array(confidence), np.array(correct))
    with pytest.raises(TypeError, match="floating-point values, got torch.int64"):
        smece_of_scores(np.array([0, 1]), np.array([0, 1]))
