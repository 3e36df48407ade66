"""What measures hand to other programs: states that sum, and the smooth error of bare confidences."""

from functools import cache

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from labelsmooth.measure import Calibration, Selective, smece_of_scores


@cache
def digits():
    """Probabilities of two classifiers on digits that they were not trained on, and the labels."""
    images, labels = load_digits(return_X_y=True)
    classifiers = LogisticRegression(C=0.001, max_iter=2000), RandomForestClassifier(20, random_state=0)
    probs = [model.fit(images[:900], labels[:900]).predict_proba(images[900:]) for model in classifiers]
    return *probs, labels[900:]


CALIBRATIONS = {
    "plain": {},
    "peer": {"num_bins": 7, "peer": "torchmetrics"},
    "all": {"edges": "right_open", "classwise": True, "top_k": (1, 3)},
}


@pytest.mark.parametrize("options", CALIBRATIONS.values(), ids=CALIBRATIONS)
def test_states_of_calibration_sum(options):
    _, probs, target = digits()  # a forest's 0 and 1 too, and so an infinite NLL
    whole, first, second, loaded = (Calibration(**options) for _ in range(4))
    whole.update_probs(probs, target)
    first.update_probs(probs[:400], target[:400])
    second.update_probs(probs[400:], target[400:])
    sums = {name: array + second.state()[name] for name, array in first.state().items()}
    loaded.load(sums)
    result, expected = loaded.compute(), whole.compute()
    for name in (
        "rows",
        "accuracy",
        "nll",
        "infinite_nll_rows",
        "brier",
        "ece",
        "mce",
        "smece",
        "debiased_l2",
        "entropy",
    ):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=1e-12), name
    np.testing.assert_array_equal(result.bins.count, expected.bins.count)
    assert result.top_k == pytest.approx(expected.top_k)
    assert result.classwise_ece == pytest.approx(expected.classwise_ece)
    # what was counted before is gone, and the arrays are copies
    loaded.load(first.state())
    loaded.update_probs(probs[:3], target[:3])
    assert loaded.compute().rows == 403
    assert first.compute().rows == 400


def test_a_state_of_other_options_is_refused():
    probs, _, target = digits()
    other = Calibration(7, classwise=True)
    other.update_probs(probs, target)
    for measure in (Calibration(7), Calibration(8, classwise=True)):
        with pytest.raises(ValueError, match=r"needs arrays .*, got"):
            measure.load(other.state())
    with pytest.raises(ValueError, match="a state has exact, confidence, weight, .*, got count, errors"):
        Selective().load({"count": np.zeros(3, np.int64), "errors": np.zeros(3, np.int64)})
    with pytest.raises(ValueError, match="sums are weight, .* of shape"):
        Selective().load_sums({"count": np.zeros(3, np.int64), "errors": np.zeros(3, np.int64)})


def test_sums_of_selective_sum_on_its_grid():
    for probs in digits()[:2]:
        target = digits()[2]
        whole, first, second, loaded = (Selective(capacity=1) for _ in range(4))
        whole.update_probs(probs, target)
        first.update_probs(probs[:400], target[:400])
        second.update_probs(probs[400:], target[400:])
        loaded.load_sums({name: array + second.sums()[name] for name, array in first.sums().items()})
        result, expected = loaded.compute(), whole.compute()
        for name in ("threshold", "accepted", "errors"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
        assert result.aurc == expected.aurc
        exact = Selective()
        exact.update_probs(probs, target)
        assert result.aurc == pytest.approx(exact.compute().aurc, rel=1e-3)
        # a measure that keeps confidences apart gives the same sums
        for name, array in exact.sums().items():
            np.testing.assert_array_equal(array, whole.sums()[name])


def test_every_confidence_has_its_cell_and_others_are_refused():
    confidence = np.array([0, 2.0**-23, 0.25, 0.5, np.nextafter(0.5, 0), np.nextafter(1, 0), 1 - 2.0**-30, 1])
    measure, loaded = Selective(), Selective()
    measure.update_scores(confidence, np.arange(8) % 2 == 0)
    loaded.load_sums(measure.sums())
    result = loaded.compute()
    assert result.accepted.tolist() == list(range(1, 9))
    assert not result.exact
    np.testing.assert_allclose(result.threshold, np.sort(confidence)[::-1], rtol=1 / 2048)
    assert (result.threshold <= np.sort(confidence)[::-1]).all()
    measure.update_scores(np.array([1.5]), np.array([True]))
    with pytest.raises(ValueError, match=r"need confidences in 0..1, got 1.5"):
        measure.sums()


def definition(confidence, residual, width, points=20_000):
    """∫₀¹ |mean of K_σ(t, c_i)·r_i| dt, a Gaussian around every row, reflected at 0 and 1."""
    at = (np.arange(points) + 0.5) / points
    total = 0.0
    for t in np.array_split(at, 20):
        images = (confidence + shift for shift in (-2, 0, 2))
        around = sum(
            np.exp(-0.5 * ((t[:, None] - sign * image) / width) ** 2) for image in images for sign in (1, -1)
        )
        total += np.abs(around @ residual).sum()
    return total / (points * len(confidence) * width * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("which", [0, 1])
def test_smooth_error_of_confidences_is_that_of_calibration_and_its_definition(which):
    probs, target = digits()[which], digits()[2]
    confidence, correct = probs.max(-1), probs.argmax(-1) == target
    calibration = Calibration()
    calibration.update_probs(probs, target)
    width = smece_of_scores(confidence, correct)
    assert width == pytest.approx(calibration.compute().smece, abs=1e-9)
    assert definition(confidence, confidence - correct, width) == pytest.approx(width, abs=1e-6)


@pytest.mark.parametrize(
    ("confidence", "correct", "error", "message"),
    [
        (np.array([0.5, 1.1]), np.array([True, True]), ValueError, "lie in 0..1, got 1.1"),
        (np.array([0.5, np.nan]), np.array([True, True]), ValueError, "lie in 0..1, got nan"),
        (np.array([0.5]), np.array([True, True]), ValueError, r"got \(1,\) and \(2,\)"),
        (np.zeros(0), np.zeros(0, bool), ValueError, r"got \(0,\) and \(0,\)"),
        (np.array([1]), np.array([True]), TypeError, "floating-point values, got torch.int64"),
        (np.array([0.5]), np.array([2]), ValueError, "correct must be 0 or 1, got 2"),
    ],
)
def test_what_smece_of_scores_refuses(confidence, correct, error, message):
    with pytest.raises(error, match=message):
        smece_of_scores(confidence, correct)
