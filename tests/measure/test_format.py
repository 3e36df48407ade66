"""How numbers are written."""

import math

import pytest

from labelsmooth.measure.format import show
from labelsmooth.measure.interval import Interval


@pytest.mark.parametrize(
    ("name", "value", "half_width", "expected"),
    [
        ("accuracy", 0.93104, math.nan, "93.10 %"),
        ("accuracy", 1, 0, "100.00 %"),
        ("accuracy", 0.93104, 0.0213, "93.1 ± 2.1 %"),
        ("accuracy", 0.93104, 0.213, "93 ± 21 %"),
        ("accuracy", 0.93104, 0.000213, "93.104 ± 0.021 %"),
        ("nll", 0.24831, 0.0099951, "0.248 ± 0.010 nats"),  # 0.0099951 rounds to 0.010
        ("nll", 0.24831, 0.0123, "0.248 ± 0.012 nats"),
        ("nll", 1e-9, 1e-12, "0.0000 nats"),
        ("over_confidence", -0.05, 0.011, "−5.0 ± 1.1 points"),
        ("over_confidence", -0.000001, math.nan, "0.00 points"),  # no −0
        ("nll", 5.4321e7, 3e6, "5.43e+07 ± 3.00e+06 nats"),
        ("rows", 1234567, math.nan, "1,234,567"),
        ("pnorm", 4, math.nan, "4"),
        ("temperature", 1.23456, math.nan, "1.235"),
        ("nc1", 123.456, math.nan, "123.5"),
        ("nc1", 0.0123456, math.nan, "0.0123"),
        ("nc1", 0, math.nan, "0.0000"),
        ("nll", math.nan, 0.1, "–"),
        ("nll", math.inf, 0.1, "∞ nats"),
        ("logit_gap", -math.inf, math.nan, "−∞ nats"),
        ("nll", 0.5, math.inf, "0.5000 ± ∞ nats"),
    ],
)
def test_values_with_half_widths(name, value, half_width, expected):
    assert show(name, value, half_width) == expected


@pytest.mark.parametrize(
    ("name", "value", "low", "high", "expected"),
    [
        ("ece", 0.0312, 0.0254, 0.0381, "3.12 % (2.54 to 3.81)"),
        ("over_confidence", -0.02, -0.041, 0.003, "−2.0 points (−4.1 to 0.3)"),
        ("nll", 0.5, math.nan, math.nan, "0.5000 nats"),
        ("nll", math.inf, math.inf, math.inf, "∞ nats"),
        ("temperature", 1.5, 0, math.inf, "1.500 (0.000 to ∞)"),
        ("aurc", 0.01, 0.01, 0.01, "0.0100 (0.0100 to 0.0100)"),
        ("temperature", math.nan, math.nan, math.nan, "–"),
    ],
)
def test_values_with_intervals(name, value, low, high, expected):
    assert show(name, Interval(value=value, low=low, high=high)) == expected


def test_units_can_be_left_to_the_heading():
    assert show("accuracy", 0.5, unit=False) == "50.00"
    assert show("ece", Interval(value=0.5, low=0.25, high=0.75), unit=False) == "50 (25 to 75)"


def test_an_unknown_quantity_is_an_error():
    with pytest.raises(KeyError):
        show("frame_error", 1.0)
