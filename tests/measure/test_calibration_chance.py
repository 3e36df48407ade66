"""The ECE of calibrated classifiers by chance, against labels really drawn from their probabilities."""

import numpy as np
import pytest
import torch

from labelsmooth.measure import Calibration


def calibrated(rows, sharpness, *, weighted=False):
    """Probabilities of three classes, and weights of the rows."""
    rng = np.random.default_rng(rows)
    logits = torch.from_numpy(sharpness * rng.standard_normal((rows, 3)))
    return logits.softmax(-1), torch.from_numpy(rng.exponential(size=rows)) if weighted else None


def drawn_ece(confidence, weights, draws=4000):
    """ECEs with outcomes that are right with the probability of their confidence, by the definition."""
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    right = np.random.default_rng(0).random((draws, len(confidence))) < confidence
    gaps = weights * (right - confidence)
    return np.abs([gaps[:, bins == at].sum(-1) for at in range(15)]).sum(0) / weights.sum()


@pytest.mark.parametrize(
    ("rows", "sharpness", "weighted"),
    [(1, 1, False), (5, 1, False), (48, 3, False), (48, 30, False), (500, 2, False), (500, 2, True)],
)
def test_it_is_the_mean_of_those_drawn(rows, sharpness, weighted):
    probs, weights = calibrated(rows, sharpness, weighted=weighted)
    calibration = Calibration()
    calibration.update_probs(probs, torch.zeros(rows, dtype=torch.int64), weights)
    result = calibration.compute()
    eces = drawn_ece(probs.amax(-1).numpy(), np.ones(rows) if weights is None else weights.numpy())
    noise = 4 * eces.std() / np.sqrt(len(eces))
    assert result.ece_by_chance == pytest.approx(eces.mean(), abs=noise + 0.01 * eces.mean())
    assert result.ece_ratio == result.ece / result.ece_by_chance
    interval = calibration.intervals(100)["ece_ratio"]
    assert interval.low <= interval.value <= interval.high


def test_rows_of_one_confidence_are_binomial():
    """|X − 10p| of X ~ B(10, p), whose probabilities are summed one by one."""
    p = 0.7
    calibration = Calibration()
    probs = torch.tensor([[p, 1 - p]], dtype=torch.float64).expand(10, 2)
    calibration.update_probs(probs, torch.zeros(10, dtype=torch.int64))
    chance = torch.distributions.Binomial(10, torch.tensor(p, dtype=torch.float64))
    x = torch.arange(11, dtype=torch.float64)
    expected = float((chance.log_prob(x).exp() * (x - 10 * p).abs()).sum()) / 10
    assert calibration.compute().ece_by_chance == pytest.approx(expected, rel=1e-9)


def test_rows_that_are_certain_leave_nothing_to_chance():
    calibration = Calibration()
    calibration.update_probs(torch.eye(2), torch.tensor([0, 1]))
    assert calibration.compute().ece_by_chance == 0
    assert calibration.compute().ece_ratio is None
    assert "ece_ratio" not in calibration.values() | calibration.intervals(100)
