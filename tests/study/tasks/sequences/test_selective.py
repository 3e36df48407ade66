"""The risk–coverage curve of whole sentences, beside its formula and that of rows that are right or wrong."""

import numpy as np
import pytest

from labelsmooth.measure import Selective
from labelsmooth.study.tasks.sequences.selective import (
    ORDERS,
    in_orders,
    risk_influences,
    sentence_aurc_influence,
    sentence_risk_coverage,
)

CHANCE = np.random.default_rng(0)
RISK = CHANCE.beta(2, 3, 200)
CONFIDENCE = np.round(3 - RISK + CHANCE.normal(0, 0.3, 200), 1)  # with ties


def aurc(confidence, risk):
    """The mean over sentences of the mean risk of those that the network is at least as sure of."""
    return np.mean([risk[confidence >= threshold].mean() for threshold in confidence])


def test_the_area_is_that_of_the_formula():
    assert len(set(CONFIDENCE)) < 50
    result = sentence_risk_coverage(CONFIDENCE, RISK)
    assert result.aurc == pytest.approx(aurc(CONFIDENCE, RISK), rel=1e-12)
    assert result.random_aurc == pytest.approx(RISK.mean())
    assert result.coverage[-1] == pytest.approx(1)
    half = np.flatnonzero(result.coverage >= 0.5)[0]
    assert result.risk[half] == pytest.approx(RISK[result.threshold[half] <= CONFIDENCE].mean())


def test_sentences_that_are_right_or_wrong_are_rows():
    wrong = RISK > 0.4
    selective = Selective()
    selective.update_scores(CONFIDENCE, ~wrong)
    assert sentence_risk_coverage(CONFIDENCE, wrong.astype(float)).aurc == pytest.approx(
        selective.compute().aurc, rel=1e-12
    )


def test_the_influence_has_the_area_as_its_mean_and_is_what_leaving_out_does():
    moved = sentence_aurc_influence(CONFIDENCE, RISK)
    whole = aurc(CONFIDENCE, RISK)
    assert moved.mean() == pytest.approx(whole)
    without = np.array([aurc(np.delete(CONFIDENCE, n), np.delete(RISK, n)) for n in range(200)])
    jackknife = 199 * (whole - without)
    assert np.corrcoef(jackknife, moved)[0, 1] > 0.99
    assert np.std(jackknife) == pytest.approx(np.std(moved), rel=0.1)


def test_the_risk_at_a_coverage_and_what_a_bootstrap_makes_of_it():
    confidence = CONFIDENCE + CHANCE.uniform(0, 1e-6, 200)
    result = sentence_risk_coverage(confidence, RISK)
    coverages = (0.2, 0.5, 1.0)
    moved = risk_influences(confidence, RISK, coverages)
    np.testing.assert_allclose(moved.mean(1), [result.risk_at(coverage) for coverage in coverages])
    np.testing.assert_allclose(moved[2], RISK)
    drawn = CHANCE.integers(200, size=(2000, 200))
    risks = [risk_influences(confidence[rows], RISK[rows], coverages).mean(1) for rows in drawn]
    np.testing.assert_allclose(moved.std(1) / np.sqrt(200), np.std(risks, axis=0), rtol=0.15)


def test_orders():
    confidences = np.array([[2, -4, -3, 0.5], [8, -6, -5, 0.25]], dtype=np.float32)
    found = in_orders(confidences)
    assert list(found) == list(ORDERS)
    # the longer sentence is less probable, and its tokens are more so
    assert found["product"].argmax() == 0
    assert found["mean"].tolist() == [-2, -0.75]
    assert found["mean_with_temperature"].tolist() == [-1.5, -0.625]
    assert found["pnorm"].tolist() == [0.5, 0.25]
