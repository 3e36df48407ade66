"""Evaluations of rows in memory, against the measures called by hand and against plain arithmetic."""

import json
import math

import numpy as np
import pytest
import torch

from labelsmooth.evaluation import Split, evaluate, from_document, to_document
from labelsmooth.measure import Calibration, Geometry, PNorm, Selective, TemperatureScaling, plane_projection
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.predictions import InMemory


def rows(number=600, seed=0, scale=3.0, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=number)
    return scale * (np.eye(classes)[labels] + 0.8 * rng.normal(size=(number, classes))), labels


@pytest.fixture(scope="module")
def validated():
    logits, labels = rows()
    features = np.random.default_rng(1).normal(size=(400, 5)) + np.eye(5)[labels[:400]]
    test = InMemory(
        logits[:400],
        labels[:400],
        features=features,
        classifier=(torch.eye(5)[:4].double(), torch.zeros(4).double()),
    )
    split = Split(test, InMemory(logits[400:], labels[400:]))
    return logits, labels, features, evaluate(split, intervals=False)


def test_the_numbers_are_those_of_the_measures(validated):
    logits, labels, features, found = validated
    scaling = TemperatureScaling().fit(logits[400:], labels[400:])
    assert found.temperature == found.numbers["fitted"]["temperature"].value
    assert found.temperature == pytest.approx(scaling.temperature, rel=1e-9)
    assert found.numbers["fitted"]["rows"].value == 200
    for part, scores in (("all", logits[:400]), ("with_temperature", logits[:400] / scaling.temperature)):
        for measure in (Calibration(), Selective()):
            measure.update(scores, labels[:400])
            for name, value in measure.values().items():
                assert found.numbers[part][name].value == pytest.approx(value, rel=1e-9), (part, name)
    assert found.numbers["held_out"] == found.numbers["all"]
    change = found.numbers["with_temperature"]["nll"].value - found.numbers["held_out"]["nll"].value
    assert found.numbers["change_by_temperature"]["nll"].value == pytest.approx(change, rel=1e-9)
    weight = torch.eye(5)[:4].double()
    geometry, plane = Geometry(4), Geometry(3)
    geometry.update(features, labels[:400])
    projected = plane_projection(features, labels[:400], weight, torch.zeros(4).double(), (0, 1, 2))
    plane.update(projected.points, projected.labels)
    expected = geometry.values(weight) | {"nc2_triangle": plane.compute().frame.nc2}
    assert found.numbers["layer"].keys() == expected.keys()
    for name, value in expected.items():
        assert found.numbers["layer"][name].value == pytest.approx(value, rel=1e-9), name


def test_the_p_norm_changes_the_order_of_held_out_rows():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 5)) * rng.uniform(0, 9, size=(600, 1))
    noisy = logits / np.linalg.norm(logits, axis=1, keepdims=True) + 0.3 * rng.normal(size=(600, 5))
    labels = noisy.argmax(-1)
    split = Split(InMemory(logits[:400], labels[:400]), InMemory(logits[400:], labels[400:]))
    found = evaluate(split, intervals=False)
    pnorm = PNorm().fit(logits[400:], labels[400:])
    assert found.numbers["fitted"]["pnorm"].value == pnorm.p
    selective = Selective()
    selective.update_scores(pnorm.confidence(logits[:400]), logits[:400].argmax(-1) == labels[:400])
    aurc = found.numbers["with_pnorm"]["aurc"].value
    assert aurc == pytest.approx(selective.compute().aurc, rel=1e-12)
    change = aurc - found.numbers["held_out"]["aurc"].value
    assert found.numbers["change_by_pnorm"]["aurc"].value == pytest.approx(change, rel=1e-9)


def test_every_part_holds_quantities_of_the_catalogue_in_its_order(validated):
    *_, found = validated
    for numbers in found.numbers.values():
        assert list(numbers) == [name for name in QUANTITIES if name in numbers]
    for part, numbers in found.numbers.items():  # no intervals were asked for
        assert all(math.isnan(number.low) for number in numbers.values()), part


def test_intervals_are_there_when_asked_for_and_hold_the_same_values():
    logits, labels = rows(200)
    split = Split(InMemory(logits, labels))
    plain, told = (evaluate(split, intervals=asked) for asked in (False, True))
    for part, numbers in plain.numbers.items():
        assert numbers.keys() == told.numbers[part].keys()
        for name, number in numbers.items():
            other = told.numbers[part][name]
            assert other.value == pytest.approx(number.value, rel=1e-12, nan_ok=True), (part, name)
    for name in ("accuracy", "nll", "ece", "aurc"):
        assert told.numbers["with_temperature"][name].low < told.numbers["with_temperature"][name].high


def test_rows_that_tell_no_temperature_give_none_everywhere():
    logits, _ = rows(200)
    found = evaluate(Split(InMemory(logits, logits.argmax(-1))), intervals=False)
    assert found.temperature is None
    assert math.isnan(found.numbers["fitted"]["temperature"].value)
    assert "with_temperature" not in found.numbers
    assert found.untold in found.notes
    assert any(note.startswith("Fewer than 20 of its rows are wrong") for note in found.notes)


def test_probabilities_are_as_their_logits():
    logits, labels = rows(300)
    probs = torch.from_numpy(logits).softmax(-1)
    one = evaluate(Split(InMemory(logits, labels)), intervals=False)
    other = evaluate(Split(InMemory(probs, labels, are_probs=True)), intervals=False)
    for part, numbers in one.numbers.items():
        for name, number in numbers.items():
            found = other.numbers[part][name].value
            assert found == pytest.approx(number.value, rel=1e-6, abs=1e-9, nan_ok=True), (part, name)


def test_groups_are_the_rows_by_themselves():
    logits, labels = rows(300)
    groups = np.where(np.arange(300) % 3 == 0, "b", "a")
    found = evaluate(Split(InMemory(logits, labels, groups=groups)), intervals=False)
    assert list(found.groups) == ["a", "b"]
    for group, numbers in found.groups.items():
        calibration = Calibration()
        calibration.update(logits[groups == group], labels[groups == group])
        assert {name: number.value for name, number in numbers.items()} == pytest.approx(calibration.values())


def test_a_document_comes_back():
    logits, labels = rows(200)
    for scores, are_probs in ((logits, False), (np.eye(4)[labels.copy()[::-1]] * 1.0, True)):
        found = evaluate(Split(InMemory(scores, labels, are_probs=are_probs)))
        text = json.dumps(to_document(found), allow_nan=False)
        again = from_document(json.loads(text))
        assert json.dumps(to_document(again), allow_nan=False) == text
        for part, numbers in found.numbers.items():
            for name, number in numbers.items():
                value = again.numbers[part][name].value
                assert value == pytest.approx(number.value, nan_ok=True) or name not in ("nll", "accuracy")
        assert again.numbers["all"]["nll"].value == found.numbers["all"]["nll"].value
        assert (again.rows, again.temperature, again.notes) == (found.rows, found.temperature, found.notes)


def test_too_few_rows_are_refused():
    logits, labels = rows(1)
    with pytest.raises(ValueError, match="a file has too few rows to fit on 0.2 of them .*, got 1"):
        evaluate(Split(InMemory(logits, labels, name="a file")))


def test_few_errors_are_counted_whatever_their_weight():
    logits, labels = rows(400)
    wrong = logits.argmax(-1) != labels
    assert wrong.sum() >= 40
    light = evaluate(Split(InMemory(logits, labels, weights=np.where(wrong, 1e-3, 1.0))), intervals=False)
    assert not any("are wrong" in note for note in light.notes)
    few = np.flatnonzero(wrong)[:3]
    kept = np.union1d(few, np.flatnonzero(~wrong))
    weights = np.where(wrong[kept], 1e3, 1.0)
    heavy = evaluate(Split(InMemory(logits[kept], labels[kept], weights=weights)), intervals=False)
    assert heavy.numbers["all"]["accuracy"].value < 0.5
    assert any("are wrong" in note for note in heavy.notes)


def test_the_plane_is_that_of_templates_with_their_biases():
    """One feature spans a plane with a bias, and none without: a picture and a number agree on that."""
    logits, labels = rows(200)
    features = np.random.default_rng(0).normal(size=(200, 1))
    weight = torch.tensor([[1.0], [2.0], [4.0], [3.0]])[: logits.shape[1]]
    for bias, spans in ((torch.zeros(len(weight)), False), (torch.arange(len(weight)) ** 2.0, True)):
        source = InMemory(logits, labels, features=features, classifier=(weight, bias))
        found = evaluate(Split(source), intervals=False)
        assert (found.projection is not None) == spans
        assert ("nc2_triangle" in found.numbers["layer"]) == spans
