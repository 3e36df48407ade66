"""How each row moves the numbers of a classifier, against formulas in float64, and in pieces."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import log_softmax

from labelsmooth.measure.arrays import pieces
from labelsmooth.study.tasks import influences
from labelsmooth.study.tasks.influences import classifier_influences

METRICS = {
    "fitted": {"temperature": 1.6, "pnorm": 3},
    "test": {"smece": 0.1},
    "test_with_temperature": {"smece": 0.05},
}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    test, teacher, validation = (3 * rng.standard_normal((50, 4)).astype(np.float32) for _ in range(3))
    return SimpleNamespace(
        test_logits=test,
        test_labels=test.argmax(-1) ^ (rng.random(50) < 0.2),
        validation_logits=validation,
        validation_labels=validation.argmax(-1) ^ (rng.random(50) < 0.2),
        teacher_test_logits=teacher,
    )


def test_means_of_rows_move_with_the_value_of_each(arrays):
    known = classifier_influences(arrays, METRICS, 2.0)
    z, t, y = arrays.test_logits.astype(float), arrays.teacher_test_logits.astype(float), arrays.test_labels
    for name, temperature in (("test", 1), ("test_with_temperature", 1.6)):
        nll = -log_softmax(z / temperature, -1)[np.arange(50), y]
        np.testing.assert_allclose(known[f"{name}.nll"]["test"], nll, rtol=1e-12)
    log_p, log_q = log_softmax(t / 2, -1), log_softmax(z / 2, -1)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    np.testing.assert_allclose(known["distilled.kl"]["test"], kl, rtol=1e-12)
    assert known["distilled.agreement"]["test"].tolist() == (z.argmax(-1) == t.argmax(-1)).tolist()


def test_rows_in_pieces_move_the_numbers_as_all_at_once(arrays, monkeypatch):
    whole = classifier_influences(arrays, METRICS, 2.0)
    monkeypatch.setattr(influences, "pieces", partial(pieces, numbers=7 * 4))
    parts = classifier_influences(arrays, METRICS, 2.0)
    assert whole.keys() == parts.keys()
    for name, influence in whole.items():
        for rows, values in influence.items():
            np.testing.assert_array_equal(parts[name][rows], values)
