"""What is said of the numbers of an audit."""

import math
from types import SimpleNamespace

import pytest

from labelsmooth.audit import Pair
from labelsmooth.measure import Interval
from labelsmooth.report.audit import findings


@pytest.mark.parametrize(
    ("change", "after", "answer"),
    [
        ((-0.2, -0.1), (0.04, 0.06), "yes"),
        ((-0.1, 0.1), (0.01, 0.02), "yes"),
        ((-0.1, 0.1), (0.04, 0.06), "cannot tell"),
        ((-0.1, 0.1), (0.10, 0.12), "no, it harms"),
        ((0.1, 0.2), (0.04, 0.06), "no, it harms"),
        ((-0.2, -0.1), (0.10, 0.12), "the NLL and the ECE disagree"),
        ((math.nan, math.nan), (0.01, 0.02), "yes"),
    ],
)
def test_the_verdict_on_a_temperature_reads_nll_and_ece(change, after, answer):
    def interval(low, high):
        return Interval(value=(low + high) / 2, low=low, high=high)

    numbers = {
        "fitted": {"temperature": interval(1.1, 1.3)},
        "change_by_temperature": {"nll": interval(*change)},
        "held_out": {"nll": interval(0.5, 0.7), "ece": interval(0.04, 0.06)},
        "with_temperature": {"nll": interval(0.4, 0.6), "ece": interval(*after)},
    }
    found = findings._temperature(SimpleNamespace(numbers=numbers, untold=None))
    assert found.answer == answer


def pair(**nll):
    numbers = {part: {"nll": Interval(value=(a + b) / 2, low=a, high=b)} for part, (a, b) in nll.items()}
    return Pair(of="forest", minus="linear", level=0.95, numbers=numbers)


def test_the_reference_of_two_models_and_of_models_that_cannot_be_compared():
    models = [SimpleNamespace(name="linear"), SimpleNamespace(name="forest")]
    two = SimpleNamespace(models=models, pairs=[pair(all=(0.1, 0.3))])
    assert findings.reference(two) == "linear, named first, is the reference."
    assert findings.reference(SimpleNamespace(models=models, pairs=[])) == ""


def test_a_comparison_says_what_a_temperature_turns_round():
    assert findings.comparison(pair(all=(0.1, 0.3), with_temperature=(-0.3, -0.1))) == (
        "As given, the NLL of forest is 0.20 nats (0.10 to 0.30) above that of linear.",
        "With the temperature of each, the NLL of forest is 0.20 nats (0.10 to 0.30) below that of linear.",
    )


def test_a_comparison_says_what_is_noise_and_what_cannot_be_told():
    first, second = findings.comparison(pair(all=(-0.1, 0.3)))
    assert first.endswith("above that of linear, which is within noise.")
    assert second == "With a temperature they cannot be compared: not both have one on the same rows."
    (only,) = findings.comparison(pair(all=(math.nan, math.nan), with_temperature=(0.1, 0.3)))
    assert only.startswith("With the temperature of each")
