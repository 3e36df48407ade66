"""Numbers of tokens along what they depend on, beside the same from full logits."""

import numpy as np
import pytest
import torch
from predicted import COUNTS, TEST, VALIDATION, logits_of

from labelsmooth.measure import Calibration
from labelsmooth.study.tasks.sequences.forced import TEMPERATURES, token_arrays
from labelsmooth.study.tasks.sequences.series import token_series


@pytest.fixture(scope="module")
def series():
    return token_series(token_arrays(TEST[0], VALIDATION[0], TEST[1], VALIDATION[1], COUNTS))


def test_the_curve_is_that_of_the_scaled_logits(series):
    logits, labels = logits_of(TEST)
    nll, ece = series["temperatures"]
    assert nll.at.tolist() == ece.at.tolist() == list(TEMPERATURES)
    assert nll.at[[0, 4, -1]].tolist() == [0.6, 1.0, 1.6]
    for at, temperature in enumerate(TEMPERATURES):
        calibration = Calibration()
        calibration.update(logits / temperature, labels)
        result = calibration.compute()
        assert (nll.values[at], ece.values[at]) == pytest.approx((result.nll, result.ece), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "words", "least", "most"), [("positions", "5–8", 5, 8), ("frequencies", "100–999", 100, 999)]
)
def test_tokens_by_position_and_by_frequency(series, name, words, least, most):
    logits, labels = logits_of(TEST)
    lengths = TEST[1].lengths.tolist()
    kind = {
        "positions": np.concatenate([np.arange(1, length + 1) for length in lengths]),
        "frequencies": COUNTS[labels].numpy(),
    }[name]
    inside = torch.from_numpy((kind >= least) & (kind <= most))
    calibration = Calibration()
    calibration.update(logits[inside], labels[inside])
    result = calibration.compute()
    for one in series[name]:
        at = one.words.index(words)
        assert one.at[at] == least
        assert one.values[at] == pytest.approx(getattr(result, one.quantity), abs=1e-5)
    # a sentence moves the mean over its tokens as leaving it out does
    accuracy = next(one for one in series[name] if one.quantity == "accuracy")
    correct, kept = (logits.argmax(-1) == labels).numpy(), inside.numpy()
    sentence = np.repeat(np.arange(60), lengths)
    moved = accuracy.influences["test"][accuracy.words.index(words)]
    jackknife = [59 * (correct[kept].mean() - correct[kept & (sentence != one)].mean()) for one in range(60)]
    np.testing.assert_allclose(moved - moved.mean(), jackknife, atol=0.15 * np.abs(jackknife).max())
