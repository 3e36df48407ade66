"""The threshold for a precision, chosen on some rows and judged on others, by its definition in float64."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from labelsmooth.evaluation import Split, evaluate, fit
from labelsmooth.predictions import InMemory


@pytest.fixture(scope="module")
def digits():
    """Confidence, correctness and rows of a linear classifier of digits, for fitting and for measuring."""
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=50, C=1e-4).fit(x[:500] / 16, y[:500])
    logits = 200 * model.decision_function(x[500:] / 16)
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    return logits, y[500:], probs.max(-1), probs.argmax(-1) == y[500:]


def lowest(confidence, correct, weights, precision):
    """The lowest of the confidences from which on the answers have the precision."""
    reached = [
        c
        for c in np.unique(confidence)
        if np.average(correct[confidence >= c], weights=weights[confidence >= c]) >= precision - 1e-12
    ]
    return min(reached, default=None)


@pytest.mark.parametrize("precision", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("weighted", [False, True])
def test_threshold_coverage_and_accuracy(digits, precision, weighted):
    logits, labels, confidence, correct = digits
    weights = np.arange(len(labels)) % 3 + 0.5 if weighted else np.ones(len(labels))
    fitted_on, measured = slice(0, 400), slice(400, None)
    parts = [
        InMemory(
            torch.from_numpy(logits[rows]),
            torch.from_numpy(labels[rows]),
            weights=torch.from_numpy(weights[rows]) if weighted else None,
        )
        for rows in (measured, fitted_on)
    ]
    split = Split(*parts)
    fitted = fit(split, precision)
    threshold = lowest(confidence[fitted_on], correct[fitted_on], weights[fitted_on], precision)
    assert threshold is not None
    assert fitted.threshold == pytest.approx(threshold, rel=1e-12)
    numbers = evaluate(split, fitted).numbers
    assert numbers["fitted"]["precision"].value == precision
    answered = confidence[measured] >= fitted.threshold
    w = weights[measured]
    found = numbers["above_threshold"]
    assert list(found) == ["rows", "accuracy", "coverage"]
    assert found["rows"].value == answered.sum()
    for name, flags, counted in (
        ("accuracy", correct[measured][answered], w[answered]),
        ("coverage", answered, w),
    ):
        share, n = np.average(flags, weights=counted), counted.sum() ** 2 / (counted**2).sum()
        assert found[name].value == pytest.approx(share, rel=1e-12)
        z = 1.959963984540054  # Wilson 1927
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        assert (found[name].low, found[name].high) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_a_precision_that_is_never_reached():
    rows = InMemory(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1, 1]))
    split = Split(rows, validation=rows)
    fitted = fit(split, 0.9)
    assert fitted.threshold is None
    numbers = evaluate(split, fitted, intervals=False).numbers
    assert "above_threshold" not in numbers
    assert np.isnan(numbers["fitted"]["threshold"].value)


def test_without_a_precision_there_is_no_threshold():
    rows = InMemory(torch.tensor([[3.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    numbers = evaluate(Split(rows, validation=rows), intervals=False).numbers
    assert not {"precision", "threshold"} & numbers["fitted"].keys()


def test_a_threshold_that_no_other_row_reaches():
    sure = InMemory(torch.tensor([[9.0, 0.0], [0.0, 0.1]]), torch.tensor([0, 0]))
    unsure = InMemory(torch.tensor([[0.5, 0.0], [0.0, 0.1]]), torch.tensor([0, 0]))
    split = Split(unsure, validation=sure)
    numbers = evaluate(split, fit(split, 0.9)).numbers["above_threshold"]
    assert (numbers["rows"].value, numbers["coverage"].value) == (0, 0)
    assert np.isnan(numbers["accuracy"].value)
