"""The gate of an audit: which numbers are above their bounds, and bounds that are refused."""

import json

import numpy as np
import pytest

from labelsmooth.audit import Bound
from labelsmooth.cli import main
from labelsmooth.errors import InputError


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
    assert "above the bound" not in capsys.readouterr().err


def test_a_number_above_its_bound_fails_with_its_interval(weather, capsys):
    assert gate(weather, "nll=0.8", "ece=0.05", "brier=0.1") == 1
    ece, brier = capsys.readouterr().err.splitlines()[-2:]
    numbers = json.loads((weather / "out" / "metrics.json").read_text())["models"]["rain"]["numbers"]["all"]
    low, high = (f"{numbers['ece'][end]:.4g}" for end in ("low", "high"))
    assert ece == f"labelsmooth: ece of rain is 0.2 ({low} to {high}), above the bound of 0.05."
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
        ("=0.05", "must name a number of metrics.json, got '', as ece=0.05 does"),
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
