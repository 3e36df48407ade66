"""The gate of an audit: which numbers are above their bounds, and bounds that are refused."""

import json
import re

import numpy as np
import pytest
from scipy.stats import binom

from labelsmooth.audit import Bound
from labelsmooth.cli import main
from labelsmooth.errors import InputError

NAMES = (
    "nll, infinite_nll_rows, brier, over_confidence, ece, ece_ratio, ece_l2, debiased_l2, ece_equal_mass, smece, "
    "mce, aurc, augrc, excess_aurc"
)
# the mean of |k/100 − 0.8| over the days k of rain in 100, if it rains on each with probability 0.8
CHANCE = sum(binom(100, 0.8).pmf(days) * abs(days / 100 - 0.8) for days in range(101))
BY_CHANCE = f"; calibrated predictions of 100 rows have {CHANCE:.4g} by chance."


@pytest.fixture(scope="module")
def weather(tmp_path_factory):
    """Rain is forecast at 80 % on 100 days, and it rains on 60: an ECE and an over-confidence of 0.2."""
    folder = tmp_path_factory.mktemp("weather")
    np.savez(
        folder / "rain.npz", probs=np.tile([0.2, 0.8], (100, 1)), labels=(np.arange(100) % 5 < 3).astype(int)
    )
    return folder


def gate(folder, *bounds):
    arguments = ["audit", str(folder / "rain.npz"), "--out", str(folder / "out")]
    return main([*arguments, *(part for bound in bounds for part in ("--max", bound))])


def test_numbers_within_their_bounds_pass(weather, capsys):
    assert gate(weather, "ece=0.21", "nll=0.8", "over_confidence=1") == 0
    ece, nll, over_confidence = capsys.readouterr().err.splitlines()[-3:]
    assert "above the bound" not in ece + nll + over_confidence
    assert re.fullmatch(
        r"labelsmooth: nll of rain is [\d.]+ \([\d.]+ to [\d.]+\), within the bound of 0\.8\.", nll
    )
    assert "is 0.2 (" in over_confidence
    assert ece.endswith(f", within the bound of 0.21{BY_CHANCE}")


def test_a_number_above_its_bound_fails_with_its_interval(weather, capsys):
    assert gate(weather, "nll=0.8", "ece=0.05", "brier=0.1") == 1
    ece, brier = capsys.readouterr().err.splitlines()[-2:]
    numbers = json.loads((weather / "out" / "metrics.json").read_text())["models"]["rain"]["numbers"]["all"]
    low, high = (f"{numbers['ece'][end]:.4g}" for end in ("low", "high"))
    assert ece == f"labelsmooth: ece of rain is 0.2 ({low} to {high}), above the bound of 0.05{BY_CHANCE}"
    # 0.6 · 2 · 0.2² + 0.4 · 2 · 0.8²
    assert brier.startswith("labelsmooth: brier of rain is 0.56 (0.")
    assert (weather / "out" / "report.html").exists()


def test_a_number_that_a_model_does_not_have(weather, capsys):
    assert gate(weather, "nc1=0.1") == 2
    assert "max must name a number of all models, got nc1, not in rain" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [
        ("eec=0.05", "must name a number of metrics.json, got 'eec', did you mean ece?"),
        ("ECE=0.05", "must name a number of metrics.json, got 'ECE', did you mean ece?"),
        ("=0.05", f"must name a number of metrics.json, got '', expected one of {NAMES}"),
        ("foo=0.05", f"must name a number of metrics.json, got 'foo', expected one of {NAMES}"),
        ("ece", "must give ece a number, as ece=0.05 does, got 'ece'"),
        ("ece=5%", "must give ece a number, as ece=0.05 does, got 'ece=5%'"),
        ("ece=nan", "must give ece a number, as ece=0.05 does, got 'ece=nan'"),
        ("accuracy=0.9", "must name a number of which less is better, got accuracy"),
    ],
)
def test_bounds_that_are_none(bound, sentence, tmp_path, capsys):
    with pytest.raises(InputError, match=sentence.replace("?", r"\?")):
        Bound.parse(bound)
    assert gate(tmp_path, bound) == 2
    assert capsys.readouterr().err == f"labelsmooth: error: --max {sentence}\n"
