"""The catalogue of quantities."""

import math

import pytest

from labelsmooth.measure.catalogue import QUANTITIES, quantities


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=QUANTITIES)
def test_an_entry_says_all_that_tables_and_axes_need(quantity):
    assert QUANTITIES[quantity.name] is quantity
    assert quantity.title
    assert quantity.note.endswith(".")
    assert quantity.note.count(". ") == 0  # one sentence
    low, high = quantity.bounds
    assert low < high
    if quantity.unit == "share":
        assert -1 <= low <= high <= 1
    if quantity.better == "zero":
        assert low < 0 < high


def test_names_and_titles_are_told_apart():
    for of_all in ([q.name for q in QUANTITIES.values()], [q.title for q in QUANTITIES.values()]):
        assert len(set(of_all)) == len(of_all)


def test_labels_hold_the_unit_and_groups_the_order():
    assert QUANTITIES["ece"].label == "ECE (%)"
    assert QUANTITIES["nll"].label == "NLL (nats)"
    assert QUANTITIES["rows"].label == "rows"
    names = [quantity.name for quantity in quantities("distillation", "scores")]
    assert names[0] == "rows"
    assert names[-2:] == ["agreement", "kl"]


def test_bounds_of_what_can_be_infinite_are():
    assert QUANTITIES["nll"].bounds[1] == math.inf


def test_differences_of_percentages_are_points():
    accuracy, nll = QUANTITIES["accuracy"].difference, QUANTITIES["nll"].difference
    assert (accuracy.label, accuracy.bounds) == ("accuracy (points)", (-1, 1))
    assert (nll.label, nll.bounds) == ("NLL (nats)", (-math.inf, math.inf))
