"""What is said of the numbers of an audit."""

import math
from types import SimpleNamespace

import pytest

from labelsmooth.audit import Pair
from labelsmooth.evaluation import exactly
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
    assert on_temperature((1.1, 1.3), change, after).answer == answer


def interval(low, high):
    return Interval(value=(low + high) / 2, low=low, high=high)


def on_temperature(temperature, change=(-0.2, -0.1), after=(0.04, 0.06)):
    numbers = {
        "fitted": {"temperature": interval(*temperature), "rows": exactly(15)},
        "change_by_temperature": {"nll": interval(*change)},
        "held_out": {"nll": interval(0.5, 0.7), "ece": interval(0.04, 0.06), "rows": exactly(33)},
        "with_temperature": {"nll": interval(0.4, 0.6), "ece": interval(*after)},
    }
    return findings._temperature(SimpleNamespace(numbers=numbers, untold=None))


def test_a_temperature_that_helps_but_is_hardly_known():
    """The verdict is of the rows that it was not fitted on, and these are named."""
    found = on_temperature((3, 339))
    assert found.answer == "yes, but the rows that it was fitted on hardly tell which"
    assert found.sentence.startswith(
        "T = 171 (3 to 339), fitted on 15 rows. On 33 rows that it was not fitted on, the NLL with it is"
    )
    assert "a change of −0.150 nats (−0.200 to −0.100)" in found.sentence
    assert on_temperature((1, 4)).answer == "yes"
    assert on_temperature((1, 4.1)).answer != "yes"
    assert on_temperature((3, 339), (-0.1, 0.1)).answer == "cannot tell"


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
