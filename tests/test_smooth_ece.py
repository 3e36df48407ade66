"""The smooth calibration error against a float64 evaluation of its definition, row by row."""

import numpy as np
import pytest

from labelsmooth.measure import Calibration, smece


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
