"""Every streaming measure of the package through the protocol, and the catalogue against what they produce."""

import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
import torch.distributed as dist

from labelsmooth.measure import (
    Calibration,
    GapHistogram,
    Geometry,
    MultilabelCalibration,
    PNorm,
    Selective,
    SmoothingRecovery,
    Teacher,
    TemperatureScaling,
    teacher_agreement,
)
from labelsmooth.measure.catalogue import QUANTITIES

MEASURES = {
    "calibration": lambda: Calibration(classwise=True, top_k=(2,)),
    "selective": Selective,
    "selective on its grid": lambda: Selective(capacity=1),
    "geometry": lambda: Geometry(4),
    "teacher": lambda: Teacher(2.0),
    "recovery": lambda: SmoothingRecovery(4),
    "pnorm": PNorm,
    "gaps": GapHistogram,
    "labels": MultilabelCalibration,
}
OTHER_OPTIONS = {
    "calibration": lambda: Calibration(7),
    "selective": lambda: Selective(capacity=9),
    "geometry": lambda: Geometry(3),
    "teacher": Teacher,
    "recovery": lambda: SmoothingRecovery(3),
    "gaps": lambda: GapHistogram(7),
    "labels": lambda: MultilabelCalibration(7),
}
# what others measure, of other rows or in another way
SAME = ("selective on its grid", "labels")
# what is no stream of labelled rows
ELSEWHERE = (
    "precision",
    "threshold",
    "coverage",
    "mutual_information",
    "nc2_triangle",
    "perplexity",
    "bleu",
    "chrf",
    "ter",
    "length_ratio",
    "nce",
    "wer",
    "cer",
    "sentence_risk",
    "sentence_aurc",
    "loss",
)


def rows(smoothed=False):
    """300 rows of logits and of features, with labels and weights."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(300, 4, generator=generator)
    target = (logits + 2 * torch.randn(300, 4, generator=generator)).argmax(-1)
    if smoothed:
        logits = 4 * torch.nn.functional.one_hot(target, 4) + 0.2 * torch.randn(300, 4, generator=generator)
    features = torch.randn(300, 5, generator=generator) + 100
    return logits, features, target, torch.rand(300, generator=generator).double()


def count(measure, part, weighted=False, smoothed=False):
    logits, features, target, weight = rows(smoothed)
    if isinstance(measure, Geometry):
        measure.update(features[part], target[part])
        return
    if isinstance(measure, MultilabelCalibration):
        target = torch.nn.functional.one_hot(target, 4)
    if weighted:
        measure.update(logits[part], target[part], weight[part])
    else:
        measure.update(logits[part], target[part])


def counted(name, *parts, **options):
    measure = MEASURES[name]()
    for part in parts:
        count(measure, part, **options)
    return measure


def assert_near(values, expected):
    assert values.keys() == expected.keys()
    for name, value in values.items():
        assert value == pytest.approx(expected[name], rel=1e-9, nan_ok=True), name


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MEASURES)
def test_pieces_and_merges_are_all_rows_at_once(name, weighted):
    whole = counted(name, slice(None), weighted=weighted).values()
    assert_near(counted(name, slice(90), slice(90, None), weighted=weighted).values(), whole)
    first, second = (
        counted(name, slice(200), weighted=weighted),
        counted(name, slice(200, None), weighted=weighted),
    )
    before = second.values()
    first.merge(second)
    assert_near(first.values(), whole)
    assert second.values() == before


@pytest.mark.parametrize("name", MEASURES)
def test_a_state_holds_all_and_is_a_copy(name):
    measure, loaded = counted(name, slice(200), weighted=True), MEASURES[name]()
    count(loaded, slice(30))  # which goes
    state = measure.state()
    loaded.load(state)
    expected = measure.values()
    assert loaded.values() == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
    assert all(isinstance(array, np.ndarray) for array in state.values())
    kept = {key: array.copy() for key, array in state.items()}
    for each in (measure, loaded):
        count(each, slice(200, None))
    for key, array in state.items():
        np.testing.assert_array_equal(array, kept[key])
    assert_near(loaded.values(), measure.values())


@pytest.mark.parametrize("name", MEASURES)
def test_a_refused_state_changes_nothing(name):
    measure = counted(name, slice(200))
    before, state = measure.values(), measure.state()
    last = list(state)[-1]
    for refused in (
        {key: array for key, array in state.items() if key != last},
        state | {last: np.zeros((2, 3, 5), state[last].dtype)},
    ):
        with pytest.raises(ValueError, match="."):
            measure.load(refused)
        assert measure.values() == pytest.approx(before, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("name", MEASURES)
def test_an_empty_measure_has_a_state_but_no_values(name):
    measure, loaded = MEASURES[name](), MEASURES[name]()
    loaded.load(measure.state())
    for each in (measure, loaded):
        with pytest.raises(ValueError, match="at least"):
            each.values()
    loaded.merge(measure)
    count(loaded, slice(None))
    assert_near(loaded.values(), counted(name, slice(None)).values())
    loaded.reset()
    with pytest.raises(ValueError, match="at least"):
        loaded.values()


@pytest.mark.parametrize("name", OTHER_OPTIONS)
def test_other_options_and_other_states_are_refused(name):
    measure, other = counted(name, slice(None)), OTHER_OPTIONS[name]()
    with pytest.raises(ValueError, match=r"same options.*got "):
        measure.merge(other)
    with pytest.raises(ValueError, match="got"):
        measure.load({"nothing": np.zeros(1)})


@pytest.mark.parametrize("name", MEASURES)
def test_values_intervals_and_figures_are_those_of_the_catalogue(name):
    measure = counted(name, slice(None), smoothed=name == "recovery")
    for key, value in measure.values().items():
        low, high = QUANTITIES[key].bounds
        assert isinstance(value, float | int)
        assert low <= value <= high, key
    values = measure.values()
    options = {"replicates": 100} if isinstance(measure, Calibration | Selective) else {}
    narrow, wide = (measure.intervals(level=level, **options) for level in (0.5, 0.99))
    for key, interval in narrow.items():
        assert interval.value == values.get(key, interval.value), key
        assert interval.low <= interval.value <= interval.high
        assert wide[key].high - wide[key].low >= interval.high - interval.low
    for table in measure.figures().values():
        assert len({len(column) for column in table.values()}) == 1


def test_every_number_of_the_catalogue_has_one_producer():
    logits, _, target, _ = rows()
    measures = [counted(name, slice(None)) for name in MEASURES if name not in SAME]
    produced = Counter(ELSEWHERE)
    for measure in measures:
        values = measure.values(torch.eye(4, 5)) if isinstance(measure, Geometry) else measure.values()
        produced.update(values.keys())
    scaling = TemperatureScaling().fit(logits, target)
    assert scaling.intervals(level=0.9)["temperature"].value == scaling.values()["temperature"]
    produced.update(scaling.values().keys())
    produced.update(teacher_agreement(logits, logits).values().keys())
    assert produced == Counter(QUANTITIES.keys())


def test_weights_of_a_recovery_count_rows_as_often():
    logits, _, target, _ = rows(smoothed=True)
    twice = SmoothingRecovery(4)
    twice.update(torch.cat([logits, logits[:100]]), torch.cat([target, target[:100]]))
    weighted = SmoothingRecovery(4)
    weighted.update(logits, target, torch.cat([2 * torch.ones(100), torch.ones(200)]))
    assert_near(weighted.values(), twice.values())
    # one row of weight 2 says less than two rows
    assert weighted.compute().uniform.low < twice.compute().uniform.low
    # rows of weight 0 are not there, and a common factor says nothing
    half = SmoothingRecovery(4)
    half.update(logits, target, 7 * (torch.arange(300) < 150).double())
    plain = SmoothingRecovery(4)
    plain.update(logits[:150], target[:150])
    assert half.compute() == plain.compute()
    few = SmoothingRecovery(4)  # 300 rows that say as much as one
    few.update(logits, target, torch.where(torch.arange(300) == 0, 1.0, 1e-6).double())
    assert "only 1 rows are classified correctly" in few.compute().reason


def one_of_two(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = (
        "lo" if sys.platform == "linux" else "lo0"
    )  # nothing leaves the machine
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in MEASURES:
        measure = counted(name, slice(180) if rank == 0 else slice(180, None))
        measure.all_merge()
        np.savez(f"{folder}/{name}{rank}.npz", **measure.values())
    with pytest.raises(ValueError, match=f"got temperature={1 + rank} and temperature={2 - rank}"):
        Teacher(1 + rank).all_merge()
    dist.barrier()  # neither leaves while the other still talks to it
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_measure_what_one_does(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for name in MEASURES:
        measure = counted(name, slice(None))
        measure.all_merge()  # nothing without a process group
        first, second = (dict(np.load(tmp_path / f"{name}{rank}.npz")) for rank in (0, 1))
        assert_near(first, measure.values())
        for key, value in first.items():  # to the last bit
            assert value == second[key] or (math.isnan(value) and math.isnan(second[key])), key


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), sys.argv[2])
