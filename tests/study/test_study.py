"""Studies in one process: recipes, trials, and the folder that keeps them."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trials import changed, new_network

import labelsmooth.study.cache as cache
import labelsmooth.study.runner as runner
import labelsmooth.study.stored as stored
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure import Selective, TemperatureScaling
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.study import ImageSettings, Recipe, load_study, run_study
from labelsmooth.study.store import load_weights, lock_study, write_results
from labelsmooth.study.tasks.base import batch_sizes
from labelsmooth.study.tasks.images import TASK
from labelsmooth.study.tasks.images.data import load_data
from labelsmooth.study.training import run_trial, train_trial
from labelsmooth.study.trial import Teacher, TrialResult
from labelsmooth.theory import optimal_gap

TINY = Recipe(data="digits", model="cnn", eps=(0.0, 0.1), seeds=1, epochs=2)


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished study, for tests that do not change it."""
    out = tmp_path_factory.mktemp("finished")
    run_study(TINY, out)
    return out


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A finished study, for tests that damage it."""
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    return out


def train(data, **changes) -> TrialResult:
    """The first trial of the tiny recipe, with some of its settings changed."""
    config = changed(TINY.trials(data.summary.sha256)[0], **changes)
    return train_trial(config, data, lambda: None)


def same(one: TrialResult, other: TrialResult) -> bool:
    arrays = [{**vars(result.arrays), **result.weights} for result in (one, other)]
    return (one.curves, one.metrics) == (other.curves, other.metrics) and equal(*arrays)


def equal(one: object, other: object) -> bool:
    """Whether two arrays are equal, or all of two mappings of them."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return np.array_equal(one, other)


# recipes


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"eps": (0.0, 1.1)}, "eps must lie in [0, 1], got 1.1"),
        ({"eps": (0.0, -0.1)}, "eps must lie in [0, 1], got -0.1"),
        ({"eps": (0.0, float("nan"))}, "eps must lie in [0, 1], got nan"),
        ({"eps": (0.0, 0.1, 0.1)}, "must not name a value twice, got 0, 0.1, 0.1"),
        ({"eps": (0.0, -0.0)}, "must not name a value twice"),
        ({"eps": (0.1,)}, "eps must include 0, the hard arm that the others are compared with, got 0.1"),
        ({"learning_rate": 1e39}, "learning_rate must be above 0 and finite"),
        ({"weight_decay": 1e39}, "weight_decay must be at least 0 and finite"),
        ({"eps": ()}, "eps must include 0, the hard arm that the others are compared with, got none"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be a whole number of at least 1, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be above 0 and finite, got inf"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite, got nan"),
        ({"momentum": 1.0}, "momentum must lie in [0, 1), got 1"),
        ({"optimizer": "adagrad"}, "optimizer must be one of sgd, nesterov, adamw, adam, got 'adagrad'"),
        ({"warm_up": 1.0}, "warm_up must lie in [0, 1), got 1"),
        ({"optimizer": "nesterov", "momentum": 0.0}, "must have a momentum above 0, got 0"),
        ({"schedule": "step"}, "schedule must be one of cosine, linear, steps, inverse_sqrt, got 'step'"),
        ({"clip": -1.0}, "clip must be at least 0 and finite, got -1"),
        ({"drops": (0.5, 0.5)}, "drops must ascend in (0, 1), got 0.5, 0.5"),
        ({"drops": (0.5, 1.0)}, "drops must ascend in (0, 1), got 0.5, 1"),
        ({"drops": (0.0,)}, "drops must ascend in (0, 1), got 0"),
        ({"drops": (float("nan"),)}, "drops must ascend in (0, 1), got nan"),
        ({"shift": -1}, "shift must be a whole number of at least 0, got -1"),
        ({"flip": 1.5}, "flip must lie in [0, 1], got 1.5"),
        ({"flip": float("nan")}, "flip must lie in [0, 1], got nan"),
        ({"weight_decay": -1e-4}, "weight_decay must be at least 0 and finite, got -0.0001"),
        (
            {"model": "resnet"},
            "model must be one of mlp, mlp_dropout, mlp800, linear, cnn, alexnet, resnet56, or",
        ),
        ({"model": "resnet"}, "or module:factory of your own, got 'resnet'"),
        ({"model": ".nets:make"}, "of your own, got '.nets:make'"),
        ({"model": "nets:"}, "of your own, got 'nets:'"),
        ({"model": "nets:make:"}, "of your own, got 'nets:make:'"),
    ],
)
def test_recipe_out_of_range(settings, says):
    with pytest.raises(ValueError, match="must") as raised:
        Recipe(**settings)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seeds": 2.5}, "seeds must be a whole number, got 2.5"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"crop": 2.5}, "crop must be a whole number, got 2.5"),
        ({"eps": 0.1}, "eps must be a tuple, each part a number, got 0.1"),
        ({"eps": [0.0, "a"]}, "eps must be a tuple, each part a number, got (0.0, 'a')"),
        ({"eps": ("a",)}, "eps must be a tuple, each part a number, got ('a',)"),
        ({"drops": (0.5, "x")}, "drops must be a tuple, each part a number, got (0.5, 'x')"),
        ({"flip": "a"}, "flip must be a number, got 'a'"),
        ({"learning_rate": "x"}, "learning_rate must be a number, got 'x'"),
        ({"momentum": True}, "momentum must be a number, got True"),
        ({"model": None}, "model must be a string, got None"),
        ({"data": 3}, "data must be a string, got 3"),
        ({"student": 3}, "student must be a string or None, got 3"),
        ({"plain_student": 1}, "plain_student must be True or False, got 1"),
    ],
)
def test_recipe_of_other_types(settings, says):
    with pytest.raises(InputTypeError) as raised:
        Recipe(**settings)
    assert str(raised.value) == says


def test_a_list_is_taken_for_a_tuple():
    assert Recipe(eps=[0, 0.1]) == Recipe(eps=(0.0, 0.1))


def test_the_plan_is_every_eps_with_every_seed():
    trials = Recipe(eps=(0.1, 0.0), seeds=2).trials("some data")
    assert [(trial.objective, trial.seed) for trial in trials] == [
        ("hard", 0),
        ("hard", 1),
        ("uniform:0.1", 0),
        ("uniform:0.1", 1),
    ]
    assert len({trial.id for trial in trials}) == 4
    assert trials[2].id.startswith("uniform=0.1-seed0-")


def test_any_other_setting_is_another_trial():
    trial = TINY.trials("some data")[0]
    assert (
        replace(trial, teacher=Teacher(id="a", objective="hard"), objective="distillation:1:1").id != trial.id
    )
    others = {
        "optimizer": "adamw", "precision": "bf16", "schedule": "linear", "drops": (0.3,), "information": 1,
    }  # fmt: skip
    for part in (trial, trial.settings):
        for field in fields(part):
            if field.name not in ("settings", "teacher"):
                value = getattr(part, field.name)
                changes = {
                    field.name: others.get(
                        field.name,
                        value
                        if isinstance(value, tuple)
                        else value + {str: "!", int: 1}.get(type(value), 1e-9),
                    )
                }
                if field.name == "information":
                    changes["shift"] = 1
                assert changed(trial, **changes).id != trial.id, field.name


def test_a_setting_that_has_its_default_is_not_in_the_name():
    """So that one which is added later leaves the names of stored trials alone."""
    trial = TINY.trials("some data")[0]

    @dataclass(frozen=True, kw_only=True)
    class Later(ImageSettings):
        another: float = 3.0

    later = replace(trial, settings=Later(**vars(trial.settings)))
    assert later.id == trial.id
    assert replace(later, settings=replace(later.settings, another=4.0)).id != trial.id


def test_more_eps_or_seeds_keep_the_trials():
    def names(**changes) -> set[str]:
        return {trial.id for trial in replace(TINY, **changes).trials("some data")}

    assert names() < names(eps=(0, 0.1, 0.2))
    assert names() < names(seeds=4)
    assert names() < names(eps=(0.3, 0.1, -0.0))


# trials


def test_the_same_seed_gives_the_same_bits(data):
    one = train(data, model="mlp")
    torch.manual_seed(99)  # which the trial must neither use ...
    before = torch.get_rng_state()
    assert same(one, train(data, model="mlp"))
    assert torch.equal(torch.get_rng_state(), before)  # ... nor change
    assert not torch.are_deterministic_algorithms_enabled()
    assert not same(one, train(data, model="mlp", seed=1))


def test_the_same_seed_gives_the_same_bits_in_another_process(finished, tmp_path):
    program = (
        "import sys, torch; from labelsmooth.study import Recipe, run_study; torch.set_num_threads(1); "
        "run_study(Recipe(data='digits', model='cnn', eps=(0, 0.1), seeds=1, epochs=2), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True)
    assert (tmp_path / "results.jsonl").read_bytes() == (finished / "results.jsonl").read_bytes()
    for one, other in zip(load_study(finished).trials, load_study(tmp_path).trials, strict=True):
        assert equal(vars(one.arrays), vars(other.arrays))


def test_arms_start_from_the_same_weights_and_see_the_same_batches(data):
    hard = train(data).arrays.test_logits
    nearly_hard = train(data, objective="uniform:1e-7").arrays.test_logits
    another_seed = train(data, seed=1).arrays.test_logits
    assert not np.array_equal(hard, nearly_hard)
    assert np.abs(hard - nearly_hard).max() < 1e-2
    assert np.abs(hard - another_seed).max() > 0.3


def test_what_a_trial_measures(data):
    result = train(data, epochs=12, objective="uniform:0.1")
    metrics, arrays = result.metrics, result.arrays
    test, scaled, training = (metrics[part] for part in ("test", "test_with_temperature", "train"))
    assert test["accuracy"] > 0.93
    assert test["accuracy"] == (arrays.test_logits.argmax(1) == arrays.test_labels).mean()
    assert scaled["accuracy"] == test["accuracy"]
    assert metrics["fitted"]["temperature"] < 1  # smoothing left it under-confident
    scaling = TemperatureScaling().fit(arrays.validation_logits, arrays.validation_labels)
    assert metrics["fitted"]["temperature"] == scaling.temperature
    assert test["over_confidence"] < -0.05
    assert scaled["ece"] < test["ece"] / 2
    log_p = torch.from_numpy(arrays.test_logits).double().log_softmax(1)
    nll = nn.functional.nll_loss(log_p, torch.from_numpy(arrays.test_labels))
    assert test["nll"] == pytest.approx(float(nll), rel=1e-12)
    assert training["logit_gap"] == pytest.approx(optimal_gap(0.1, 10), rel=0.1)
    assert training["spread"] < metrics["validation"]["spread"] < 1

    assert arrays.feature_classes.tolist() == [0, 1, 2]
    train_labels = data.train.labels.numpy()
    assert arrays.train_feature_labels.tolist() == sorted(train_labels[train_labels <= 2])
    logits = arrays.validation_features @ arrays.classifier_weight.T + arrays.classifier_bias
    shown = np.concatenate([np.flatnonzero(arrays.validation_labels == label) for label in range(3)])
    assert np.allclose(logits, arrays.validation_logits[shown], atol=1e-4)
    assert arrays.validation_feature_labels.tolist() == arrays.validation_labels[shown].tolist()

    curves = result.curves
    lengths = {name: len(curve) for name, curve in vars(curves).items()}
    assert lengths.pop("information") == lengths.pop("information_epochs") == 0
    assert set(lengths.values()) == {12}
    assert curves.train_loss[-1] < curves.train_loss[0]
    assert curves.train_accuracy[-1] > curves.train_accuracy[0]
    validation_logits = torch.from_numpy(arrays.validation_logits)
    final_nll = nn.functional.cross_entropy(validation_logits, torch.from_numpy(arrays.validation_labels))
    assert curves.validation_nll[-1] == pytest.approx(float(final_nll), rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "cnn", "objective": "uniform:0.1"},
        {"model": "cnn", "optimizer": "nesterov", "schedule": "steps", "drops": (0.3, 0.6)},
        {"model": "mlp800", "weight_decay": 0.1, "momentum": 0.5},
        {"model": "mlp800", "momentum": 0.0, "objective": "uniform:0.1"},
    ],
)
def test_a_trial_trains_as_the_formulas_of_sgd_say(data, changes):
    """In float64 and in torch's own layout of weights, with a last batch of another size."""
    result = train(data, learning_rate=0.02, **changes)
    config, settings = result.config, result.config.settings
    assert len(data.train.labels) % config.settings.batch_size
    network = new_network(config, data.summary).double().to(memory_format=torch.contiguous_format)
    images, labels = data.train.images.double(), data.train.labels
    velocity = [torch.zeros_like(weight) for weight in network.parameters()]
    generator = torch.Generator().manual_seed(config.seed)
    batches = [
        batch
        for _ in range(config.settings.epochs)
        for batch in torch.randperm(len(labels), generator=generator).split(config.settings.batch_size)
    ]
    for step, batch in enumerate(batches):
        done = step / len(batches)
        rate = 0.02 * (1 + math.cos(math.pi * done)) / 2
        if settings.schedule == "steps":
            rate = 0.02 * 0.1 ** sum(step >= round(part * len(batches)) for part in settings.drops)
        eps = 0.1 if config.objective == "uniform:0.1" else 0.0
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch], label_smoothing=eps)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for weight, gradient, v in zip(network.parameters(), gradients, velocity, strict=True):
                slope = gradient + settings.weight_decay * weight
                v.mul_(settings.momentum).add_(slope)
                weight -= rate * (slope + settings.momentum * v if settings.optimizer == "nesterov" else v)
    for name, expected in network.state_dict().items():
        assert np.allclose(result.weights[name], expected.numpy(), atol=2e-5), name


def test_a_trial_trains_as_adamw_with_a_warm_up(data):
    """Decoupled weight decay, betas of 0.9 and 0.999, and a rate that rises before it falls, in float64."""
    result = train(
        data, model="linear", optimizer="adamw", learning_rate=0.01, weight_decay=0.1, warm_up=0.25, epochs=3
    )
    config = result.config
    network = new_network(config, data.summary).double()
    images, labels = data.train.images.double(), data.train.labels
    weights = list(network.parameters())
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    generator = torch.Generator().manual_seed(config.seed)
    batches = [b for _ in range(3) for b in torch.randperm(len(labels), generator=generator).split(128)]
    steps, warm_up = len(batches), round(0.25 * len(batches))
    for step, batch in enumerate(batches):
        fallen = (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
        rate = 0.01 * ((step + 1) / (warm_up + 1) if step < warm_up else fallen)
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient, m, v in zip(weights, gradients, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * gradient)
                v.mul_(0.999).add_(0.001 * gradient**2)
                weight.mul_(1 - rate * 0.1)
                weight -= (
                    rate * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
                )
    for name, expected in network.state_dict().items():
        np.testing.assert_allclose(result.weights[name], expected.numpy(), atol=2e-4)


def test_settings_that_mean_nothing_are_in_no_name():
    def ids(**changes) -> set[str]:
        return {trial.id for trial in replace(TINY, **changes).trials("")}

    assert ids(optimizer="adamw") == ids(optimizer="adamw", momentum=0.5)
    assert ids() != ids(momentum=0.5)


def test_a_trial_leaves_the_settings_of_torch_as_they_were(data):
    torch.utils.deterministic.fill_uninitialized_memory = True
    train(data, epochs=1)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_training_that_breaks_down_says_so(data):
    with pytest.raises(ValueError, match="learning rate 1e\\+06 is too large") as raised:
        train(data, learning_rate=1e6)
    assert "the training of cnn on hard, seed 0 broke down in epoch 1" in str(raised.value)


# the folder


def test_the_stored_study_reads_back_as_it_was(finished):
    study = load_study(finished)
    assert study.recipe == TINY
    assert study.data == load_data("digits").summary
    assert study.plan == tuple(config.id for config in TINY.trials(study.data.sha256))
    assert [trial.config for trial in study.trials] == list(TINY.trials(study.data.sha256))
    for trial in study.trials:
        assert trial.versions.torch == torch.__version__
        assert trial.versions.threads == 1
        assert same(
            TrialResult(
                config=trial.config,
                curves=trial.curves,
                metrics=trial.metrics,
                arrays=trial.arrays,
                weights=load_weights(finished, trial.config),
                versions=trial.versions,
            ),
            train_trial(trial.config, load_data("digits"), lambda: None),
        )


def test_results_hold_one_line_a_trial_and_nothing_of_the_moment(finished):
    lines = [json.loads(line) for line in (finished / "results.jsonl").read_text().splitlines()]
    study = load_study(finished)
    assert tuple(line["trial"] for line in lines) == study.plan
    assert lines == [
        json.loads(
            json.dumps(
                {
                    "trial": t.config.id,
                    "config": asdict(t.config),
                    "curves": asdict(t.curves),
                    "metrics": t.metrics,
                }
            )
        )
        for t in study.trials
    ]
    text = (finished / "results.jsonl").read_text()
    for secret in (str(finished), "seconds", str(study.trials[0].versions.seconds)):
        assert secret not in text


def states(out: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for folder in (out / "trials").iterdir()
        for path in (folder, *folder.iterdir())
    }


def test_complete_trials_are_not_trained_again(copied, monkeypatch):
    before, results = states(copied), (copied / "results.jsonl").read_bytes()

    def refuse(*_):
        raise AssertionError("a complete trial was trained")

    with monkeypatch.context() as patched:
        patched.setattr(runner, "run_trial", refuse)
        assert len(run_study(TINY, copied).trials) == 2
    assert states(copied) == before
    assert (copied / "results.jsonl").read_bytes() == results

    trained = []
    monkeypatch.setattr(
        runner, "run_trial", lambda c, *rest: trained.append(c.objective) or train_trial(c, *rest)
    )
    study = run_study(replace(TINY, eps=(0.0, 0.05, 0.1)), copied)
    assert trained == ["uniform:0.05"]
    assert [trial.config.objective for trial in study.trials] == ["hard", "uniform:0.05", "uniform:0.1"]
    assert before.items() <= states(copied).items()
    lines = (copied / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["config"]["objective"] for line in lines] == list(study.arms())


def test_a_study_with_other_settings_is_not_overwritten(copied):
    before = {path: path.read_bytes() for path in copied.rglob("*.json*")}
    with pytest.raises(ValueError, match=r"other settings \(epochs \d+\); give this one another folder"):
        run_study(replace(TINY, epochs=TINY.epochs + 1), copied)
    assert {path: path.read_bytes() for path in copied.rglob("*.json*")} == before


def test_other_data_under_the_same_name_is_not_mixed(tmp_path):
    from sklearn.datasets import load_digits

    digits = load_digits()
    recipe = replace(TINY, data=f"npz:{tmp_path / 'data.npz'}", eps=(0.0,), epochs=1)
    np.savez(tmp_path / "data.npz", x=digits.images[:400], y=digits.target[:400])
    run_study(recipe, tmp_path / "out")
    np.savez(tmp_path / "data.npz", x=digits.images[:500], y=digits.target[:500])
    with pytest.raises(ValueError, match="other rows"):
        run_study(recipe, tmp_path / "out")
    study = run_study(recipe, tmp_path / "another")
    assert study.trials[0].metrics["test"]["rows"] == pytest.approx(100, abs=5)


def test_trials_that_are_left_out_are_counted(copied, capsys):
    run_study(replace(TINY, eps=(0.0,)), copied)
    assert "1 of them complete; stored there, but not in this study: 1" in capsys.readouterr().err


def test_what_a_kill_left_half_written_is_removed(copied):
    (done, *_) = (copied / "trials").iterdir()
    leftover = copied / "trials" / ".partial-eps0.1-seed9-00000000"
    done.rename(leftover)
    (leftover / "arrays.npz").write_bytes(b"PK")
    half = copied / ".partial-0a1b2c3d4e5f-results.jsonl"
    half.write_text("{")
    (copied / "results.jsonl").unlink()
    assert len(load_study(copied).trials) == 1
    assert len(run_study(TINY, copied).trials) == 2
    assert not leftover.exists()
    assert not half.exists()


def test_a_stop_at_any_write_leaves_a_study_that_resumes(finished, data, tmp_path, monkeypatch):
    trained = {config: train_trial(config, data, lambda: None) for config in TINY.trials(data.summary.sha256)}
    monkeypatch.setattr(runner, "run_trial", lambda config, *_: trained[config])
    fsync, writes = os.fsync, iter(())

    def stopping(descriptor):
        if next(writes, None) == "stop":
            raise OSError("stopped")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", stopping)
    for before in itertools.count():
        out, writes = tmp_path / str(before), iter(["go on"] * before + ["stop"])
        try:
            run_study(TINY, out)
            break  # a whole study makes no more writes than that
        except OSError:
            complete = [folder for folder in (out / "trials").iterdir() if folder.name[0] != "."]
            if (out / "study.json").exists():
                assert len(load_study(out).trials) == len(complete)
            else:
                assert complete == []
        run_study(TINY, out)
        assert (out / "results.jsonl").read_bytes() == (finished / "results.jsonl").read_bytes()
    assert before > 2 * 6  # files of two trials


class Normed(nn.Module):
    """What decides on the batches of a network: whether any layer of it normalises over them."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), layer])


@pytest.mark.parametrize(
    ("rows", "size", "layer", "expected"),
    [
        (36, 7, nn.BatchNorm1d(2), [7, 7, 7, 7, 8]),
        (36, 7, nn.Sequential(nn.BatchNorm2d(2)), [7, 7, 7, 7, 8]),
        (36, 7, nn.SyncBatchNorm(2), [7, 7, 7, 7, 8]),
        (8, 7, nn.BatchNorm1d(2), [8]),
        (37, 7, nn.BatchNorm1d(2), [7, 7, 7, 7, 7, 2]),
        (35, 7, nn.BatchNorm1d(2), [7, 7, 7, 7, 7]),
        (5, 7, nn.BatchNorm1d(2), [5]),
        (36, 7, nn.LayerNorm(2), [7, 7, 7, 7, 7, 1]),  # of its rows each is normalised for itself
        (36, 7, nn.Dropout(), [7, 7, 7, 7, 7, 1]),
        (3, 1, nn.Identity(), [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_row_joins_another_under_batch_normalisation(data, rows, size, layer, expected):
    config = replace(TINY, batch_size=size).trials(data.summary.sha256)[0]
    assert batch_sizes(rows, config, Normed(layer)) == expected


@pytest.mark.parametrize("size", [7, 1])
def test_a_network_with_batch_normalisation_meets_no_batch_of_one_row(tmp_path, monkeypatch, size):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "normed_net.py").write_text(
        "from torch import nn\n"
        "def net(shape, k):\n"
        "    return nn.Sequential(nn.Linear(shape[0], 4), nn.BatchNorm1d(4), nn.Linear(4, k))\n"
    )
    labels = np.arange(60) % 3
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).normal(size=(60, 8)), y=labels)
    recipe = Recipe(
        data=f"npz:{tmp_path}/rows.npz", model="normed_net:net", eps=(0,), seeds=1, epochs=1, batch_size=size
    )  # 36 rows are for training
    if size == 1:
        with pytest.raises(InputError, match="batch_size must be at least 2 for the batch normalisation of"):
            run_study(recipe, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    else:
        assert len(run_study(recipe, tmp_path / "out").trials) == 1


@pytest.mark.parametrize("read", [load_study, lambda out: run_study(TINY, out)])
def test_a_bug_in_a_reader_is_no_damage(copied, monkeypatch, read):
    def bug(_):
        raise KeyError("bug")

    monkeypatch.setattr(stored, "undefined", bug)
    with pytest.raises(KeyError, match="bug"):
        read(copied)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("study.json", {"recipe": {"seeds": 0}}, "seeds must be a whole number of at least 1, got 0"),
        ("study.json", {"recipe": {"eps": "abc"}}, "study.json: recipe: eps must be a list, got 'abc'"),
        ("study.json", {"recipe": {"label_noise": "x"}}, "label_noise must be of the type float, got 'x'"),
        ("study.json", {"recipe": {"seeds": True}}, "seeds must be of the type int, got True"),
        ("study.json", {"recipe": {"speed": 1}}, "got 'speed' too"),
        ("study.json", {"plan": 3}, "study.json: plan must be a list, got 3"),
        ("study.json", {"data": []}, "study.json: data must hold a JSON object"),
        (
            "curves.json",
            {"train_loss": [None]},
            "curves.json: train_loss must be of the type float, got None",
        ),
        ("curves.json", {"train_loss": 1}, "curves.json: train_loss must be a list, got 1"),
        ("versions.json", {"processes": "1"}, "versions.json: processes must be of the type int, got '1'"),
    ],
)
def test_values_of_other_types_are_named(copied, name, changes, says):
    path = copied / name
    if name != "study.json":
        path = copied / "trials" / load_study(copied).plan[0] / name
    stored = json.loads(path.read_text())
    for key, change in changes.items():
        stored[key] = {**stored[key], **change} if isinstance(change, dict) else change
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=re.escape(says)) as raised:
        load_study(copied)
    assert str(path if name == "study.json" else path.parent) in str(raised.value)


@pytest.mark.parametrize("name", ["arrays.npz", "weights.npz", "config.json", "curves.json", "versions.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b"[1, 2]"),
        lambda path: path.write_bytes(b"{}"),
        lambda path: path.write_bytes(b"\xff\xfe{"),
    ],
    ids=["missing", "empty", "half", "a list", "no keys", "no text"],
)
def test_a_damaged_trial_is_named_and_left_alone(copied, name, damage):
    folder = copied / "trials" / load_study(copied).plan[1]
    damage(folder / name)
    before = states(copied)
    reads = [lambda: run_study(TINY, copied)]
    if name != "weights.npz":
        reads.append(lambda: load_study(copied).trials[1].arrays)
    for read in reads:
        with pytest.raises(ValueError, match="is damaged") as raised:
            read()
        message = str(raised.value)
        assert f"the trial in {folder} is damaged" in message
        assert message.endswith("delete that folder and run the study again to train it anew")
        assert message.count("is damaged (") == 1
        assert "\n" not in message
    assert states(copied) == before
    shutil.rmtree(folder)
    assert len(run_study(TINY, copied).trials) == 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda stored: {**stored, "objective": "uniform:0.2"}),
        ("curves.json", lambda stored: {**stored, "train_loss": None}),
        ("curves.json", lambda stored: {**stored, "another": [3.0]}),
        ("curves.json", lambda stored: {**stored, "train_loss": [float("nan")]}),
        ("curves.json", lambda stored: {**stored, "train_loss": [10**400]}),
        ("curves.json", lambda stored: {n: v for n, v in stored.items() if n != "validation_nll"}),
    ],
)
def test_a_trial_with_other_content_is_damaged_too(copied, name, change):
    path = copied / "trials" / load_study(copied).plan[0] / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match="is damaged"):
        run_study(TINY, copied)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda arrays: {"test_labels": arrays["test_labels"] + 9}, "the labels of test_logits must be"),
        (lambda arrays: {"test_logits": arrays["test_logits"] * np.nan}, "test_logits must hold finite"),
        (lambda arrays: {"test_labels": arrays["test_labels"][1:]}, "test_logits must hold finite floats"),
        (lambda arrays: {"test_logits": arrays["test_logits"][1:]}, "test_logits must hold finite floats"),
        (lambda arrays: {"validation_logits": arrays["validation_logits"].astype(int)}, "got int64"),
        (lambda arrays: {"train_features": arrays["train_features"][:, 1:]}, "train_features must hold"),
        (lambda arrays: {"classifier_bias": arrays["classifier_bias"][None]}, "classifier_bias must hold"),
        (lambda arrays: {"feature_classes": arrays["feature_classes"] + 1}, "feature_classes must name"),
        (lambda arrays: {"train_teacher.sums": arrays["train_teacher.sums"] * np.nan}, "train_teacher must"),
        (lambda arrays: {"train_teacher.sums": arrays["train_teacher.sums"][1:]}, "needs arrays"),
        (lambda arrays: {"train_geometry.another": arrays["classifier_bias"]}, "train_geometry must hold"),
        (lambda arrays: {"train_geometry.within": arrays["classifier_weight"]}, "needs other arrays"),
        (lambda arrays: {"another": arrays["classifier_bias"]}, "arrays.npz must hold validation_logits"),
    ],
)
def test_arrays_that_were_altered_are_named(copied, change, says):
    folder = copied / "trials" / load_study(copied).plan[0]
    with np.load(folder / "arrays.npz") as stored:
        arrays = dict(stored)
    np.savez(folder / "arrays.npz", **(arrays | change(arrays)))
    with pytest.raises(InputError, match=says) as raised:
        run_study(TINY, copied)
    assert f"the trial in {folder} is damaged" in str(raised.value)


def lacks_a_number(path: Path) -> None:
    """What an earlier version wrote that did not know the ECE."""
    stored = json.loads(path.read_text())
    del stored["metrics"]["test"]["ece"]
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b"[1, 2]"),
        lambda path: path.write_bytes(b"\xff\xfe{"),
        lambda path: path.write_text('{"metrics": {}, "sha256": "0"}'),
        lacks_a_number,
    ],
    ids=["missing", "empty", "half", "a list", "no text", "another", "lacks a number"],
)
def test_metrics_are_measured_again_where_they_are_not_as_they_were_written(copied, finished, change):
    for folder in (copied / "trials").iterdir():
        change(folder / "metrics.json")
    for one, other in zip(load_study(copied).trials, load_study(finished).trials, strict=True):
        assert one.metrics == other.metrics
        stored = (one.folder / "metrics.json").read_bytes()
        assert stored == (other.folder / "metrics.json").read_bytes()
    (copied / "results.jsonl").unlink()
    run_study(TINY, copied)
    assert (copied / "results.jsonl").read_bytes() == (finished / "results.jsonl").read_bytes()


def test_a_new_measure_is_in_the_numbers_and_the_report_of_a_stored_study(copied, monkeypatch):
    """One of probabilities, here a number that the catalogue knows and no study has."""
    from labelsmooth.report import write_report

    values = Selective.values
    monkeypatch.setattr(Selective, "values", lambda self: {**values(self), "classwise_ece": 0.25})
    assert "classwise_ece" not in load_study(copied).trials[0].metrics["test"]
    monkeypatch.setattr(cache, "QUANTITIES", {**QUANTITIES, "another": QUANTITIES["classwise_ece"]})
    for trial in write_results(copied).trials:
        assert all(trial.metrics[part]["classwise_ece"] == 0.25 for part in ("test", "test_with_pnorm"))
    assert (copied / "results.jsonl").read_text().count('"classwise_ece": 0.25') == 2 * 6
    words = write_report(copied).path.read_text(encoding="utf-8")
    assert '<th scope="row">classwise ECE (%) †</th><td>25.00</td><td>25.00</td>' in words
    assert f"<dd>{QUANTITIES['classwise_ece'].note.replace(chr(39), '&#39;')}</dd>" in words


def test_metrics_that_cannot_be_stored_are_measured_each_time(copied, finished, monkeypatch):
    (folder, *_) = (copied / "trials").iterdir()
    (folder / "metrics.json").unlink()

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(stored, "write_whole", refuse)
    one, other = load_study(copied), load_study(finished)
    assert [trial.metrics for trial in one.trials] == [trial.metrics for trial in other.trials]
    assert not (folder / "metrics.json").exists()


def test_arrays_that_are_damaged_are_named_where_the_metrics_are_missing_too(copied):
    (folder, *_) = (copied / "trials").iterdir()
    (folder / "metrics.json").unlink()
    (folder / "arrays.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="is damaged") as raised:
        load_study(copied)
    assert f"the trial in {folder} is damaged" in str(raised.value)
    assert not (folder / "metrics.json").exists()


def test_a_temperature_that_cannot_be_told_is_none_of_the_metrics(data):
    """Of validation rows whose labels all have the largest logit by far."""
    result = train(data, epochs=1)
    sure = np.eye(10, dtype=np.float32)[result.arrays.validation_labels] * 50
    metrics = TASK.measure(result.config, replace(result.arrays, validation_logits=sure))
    assert set(metrics["fitted"]) == {"rows", "pnorm"}
    assert not {"test_with_temperature", "validation_with_temperature"} & set(metrics)
    assert metrics["test"] == result.metrics["test"]


def test_a_lack_of_files_or_memory_is_no_damage(copied, monkeypatch):
    for error, number in (
        (OSError(errno.EMFILE, "Too many open files"), errno.EMFILE),
        (MemoryError(), errno.ENOMEM),
    ):

        def refuse(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(np, "load", refuse)
            with pytest.raises(OSError, match=os.strerror(number)) as raised:
                run_study(TINY, copied)
        assert raised.value.errno == number
        assert not isinstance(raised.value, InputError)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 3, "recipe": {"seeds": 0}}',
    ],
)
def test_a_folder_that_holds_no_study(tmp_path, content):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(ValueError, match=r"holds no study|cannot be read as a study") as raised:
        load_study(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda names: names[:1], "its plan of 1 trials is not that of its recipe"),
        (lambda names: [names[0], "../another"], "'../another' is not the name of one trial"),
        (lambda names: [names[0], ".."], "'..' is not the name of one trial"),
        (lambda names: [names[0], ""], "'' is not the name of one trial"),
        (lambda names: [names[0], names[0]], "is not the name of one trial"),
    ],
)
def test_a_plan_that_was_changed_by_hand(copied, plan, says):
    path = copied / "study.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "plan": plan(stored["plan"])}))
    with pytest.raises(ValueError, match=re.escape(says)):
        load_study(copied)


def test_a_second_process_is_refused(tmp_path):
    with lock_study(tmp_path), pytest.raises(ValueError, match="another process is running a study in"):
        run_study(TINY, tmp_path)
    with lock_study(tmp_path):
        pass  # free again


def test_bad_input_leaves_no_folder(tmp_path):
    for recipe, says in (
        (replace(TINY, data="nothing"), "known are mnist5k, digits, idx:DIR, npz:FILE"),
        (replace(TINY, data=f"npz:{tmp_path / 'x.npz'}"), "no file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            run_study(recipe, tmp_path / "out")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(90, 5)), y=np.arange(90) % 3)
    with pytest.raises(ValueError, match="cnn needs images"):
        run_study(replace(TINY, data=f"npz:{tmp_path / 'x.npz'}"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_classes_can_be_studied_too(tmp_path):
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = digits.target < 2
    np.savez(tmp_path / "x.npz", x=digits.images[chosen], y=digits.target[chosen])
    study = run_study(replace(TINY, data=f"npz:{tmp_path / 'x.npz'}"), tmp_path / "out")
    assert study.trials[0].arrays.feature_classes.tolist() == [0, 1]


def test_progress_is_a_few_lines_where_there_is_no_terminal(tmp_path, capsys):
    run_study(TINY, tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == f"study in {tmp_path}: 2 trials, 0 of them complete"
    assert lines[1].startswith("trial 1 of 2: cnn on hard, seed 0, test accuracy ")
    assert "left" in lines[1]
    assert lines[2].startswith("trial 2 of 2: cnn on uniform:0.1, seed 0, test accuracy ")
    assert len(lines) == 3


# trials that diverge


def test_a_trial_that_diverges_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    """Students of a teacher that diverged are not trained, and the arm is left out of the report."""
    from labelsmooth.report import write_report

    def run(config, *rest):
        if config.objective == "uniform:0.1" and config.seed == 1:
            config = changed(config, learning_rate=1e9)
        outcome = run_trial(config, *rest)
        return replace(outcome, config=changed(outcome.config, learning_rate=0.1))

    monkeypatch.setattr(runner, "run_trial", run)
    recipe = replace(TINY, eps=(0.0, 0.1), also=("unigram:0.1",), seeds=2, epochs=1, student="linear")
    recipe = replace(recipe, temperatures=(2.0,))
    study = run_study(recipe, tmp_path)
    gone = [trial.config for trial in study.diverged]
    assert [(c.model, c.arm, c.seed) for c in gone if c.teacher is None] == [
        ("cnn", "uniform:0.1", 1),
        ("linear", "uniform:0.1", 1),
    ]
    assert [(c.arm, c.seed) for c in gone if c.teacher] == [("uniform:0.1", 1)]
    assert len(study.trials) + len(gone) == len(study.plan) == 18
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert ["diverged" in line for line in lines] == [line["trial"] in {c.id for c in gone} for line in lines]
    (teacher, *_, student) = [line["diverged"] for line in lines if "diverged" in line]
    assert "broke down in epoch 1" in teacher
    assert student.startswith("its teacher diverged: the training of cnn on uniform:0.1, seed 1 broke down")
    assert "cnn on uniform:0.1, seed 1, diverged: the training of" in capsys.readouterr().err
    assert run_study(recipe, tmp_path).diverged == study.diverged  # they are not trained again

    kept = study.without_diverged()
    assert list(kept.arms()) == ["hard", "unigram:0.1"]
    assert len(kept.trials) == len(kept.plan) == 12
    assert "smoothed ε = 0.1 (diverged)" in write_report(tmp_path).path.read_text()


def test_without_a_hard_arm_there_is_nothing_to_report(tmp_path):
    study = run_study(replace(TINY, learning_rate=1e9), tmp_path)
    with pytest.raises(
        InputError, match="has no hard arm to compare with, as a trial of it diverged: the tr"
    ):
        study.without_diverged()
