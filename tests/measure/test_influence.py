"""Influences of rows against what leaving a row out does."""

import numpy as np
import pytest
import torch

from labelsmooth.measure import Calibration, TemperatureScaling, smece_of_scores
from labelsmooth.measure.influence import Mean, ece_l2_influence, log_temperature_influence
from labelsmooth.measure.rows import numbers_from_logits
from labelsmooth.measure.smooth import smooth_ece_influence


def without(rows, at):
    return np.delete(rows, at, axis=0)


def test_the_influence_on_the_smooth_error_is_that_of_leaving_a_row_out():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 500)
    correct = rng.uniform(size=500) < confidence**2  # over-confident
    smece = smece_of_scores(confidence, correct)
    influence = smooth_ece_influence(confidence, correct, smece)
    assert influence.mean() == pytest.approx(smece, abs=1e-7)
    for at in range(0, 500, 50):
        moved = smece_of_scores(without(confidence, at), without(correct, at))
        assert influence[at] - smece == pytest.approx(499 * (smece - moved), abs=0.02)
    # one step of Newton's from a smooth error nearby
    assert smooth_ece_influence(confidence, correct, smece + 0.002).mean() == pytest.approx(smece, abs=1e-4)


def test_a_perfect_prediction_has_no_influence_on_the_smooth_error():
    assert not smooth_ece_influence(np.ones(4), np.ones(4, dtype=bool), 0.0).any()


def test_the_influence_on_the_root_mean_square_error_is_its_slope_along_the_weight_of_a_row():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(600, 4)) * 3
    labels = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(-1)  # over-confident

    def error(at, weight):
        calibration = Calibration()
        calibration.update(logits, labels, np.where(np.arange(600) == at, weight, 1.0))
        return calibration.compute().ece_l2

    influence = ece_l2_influence(numbers_from_logits(torch.from_numpy(logits), torch.from_numpy(labels)))
    whole = error(0, 1.0)
    assert influence.mean() == pytest.approx(whole, rel=1e-12)
    for at in range(0, 600, 60):
        slope = (error(at, 1.001) - error(at, 0.999)) / 0.002
        assert influence[at] - whole == pytest.approx(600 * slope, abs=1e-5)
    certain = numbers_from_logits(torch.tensor([[0.0, -torch.inf]] * 3), torch.zeros(3, dtype=torch.long))
    assert not ece_l2_influence(certain).any()


def test_the_influence_on_the_temperature_is_that_of_leaving_a_row_out():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(400, 5)) * 3
    labels = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(-1)
    temperature = TemperatureScaling().fit(logits, labels).temperature
    influence = log_temperature_influence(logits, labels, temperature)
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    for at in range(0, 400, 40):
        moved = TemperatureScaling().fit(without(logits, at), without(labels, at)).temperature
        assert influence[at] == pytest.approx(399 * np.log(temperature / moved), abs=0.03)
    # a class that some rows lack, as questions lack options
    lacking = np.concatenate([logits, np.full((400, 1), -np.inf)], axis=1)
    np.testing.assert_allclose(log_temperature_influence(lacking, labels, temperature), influence, rtol=1e-12)


def test_the_influence_on_the_temperature_is_its_formula_also_of_many_rows():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(700, 1000)).astype(np.float32), rng.integers(0, 1000, 700)
    z = logits.astype(np.float64)
    p = np.exp(z / 1.3) / np.exp(z / 1.3).sum(-1, keepdims=True)
    mean = (p * z).sum(-1)
    variance = (p * (z - mean[:, None]) ** 2).sum(-1)
    excess = z[np.arange(700), labels] - mean
    expected = -1.3 * (excess - excess.mean()) / variance.mean()
    np.testing.assert_allclose(
        log_temperature_influence(logits, labels, 1.3), expected, rtol=1e-10, atol=1e-12
    )


def test_a_mean_whose_square_float64_cannot_hold_has_no_narrow_interval():
    mean = Mean()
    mean.update(np.array([1.0, 2.0, 1e300]))
    interval = mean.interval()
    assert interval.value == pytest.approx(1e300 / 3)
    assert not interval.high - interval.low < 1e300
