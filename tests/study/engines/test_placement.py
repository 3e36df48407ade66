"""Training by several processes together, in mixed precision, and without accelerate; trackers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trials import new_network

from labelsmooth.cli import main
from labelsmooth.losses import distillation_loss
from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study import Recipe, load_study, run_study
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.engines.threads import trials_at_a_time
from labelsmooth.study.runner import _check_together
from labelsmooth.study.tasks.images.data import load_data
from labelsmooth.study.tasks.images.mixup import Mixing
from labelsmooth.study.tasks.images.task import batch_loss
from labelsmooth.study.training import load_network, train_trial
from labelsmooth.study.trial import TrainedNetwork

TINY = Recipe(data="digits", model="cnn", eps=(0.0,), seeds=1, epochs=2, batch_size=100)
NETS = """
from collections import Counter
from torch import nn

seen = Counter()  # dtypes that come out of the first layer


class Watched(nn.Conv2d):
    def forward(self, images):
        made = super().forward(images)
        seen[made.dtype, self.training] += 1
        return made


def factory(shape, num_classes):
    return nn.Sequential(
        Watched(shape[0], 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(288, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, num_classes),
    )
"""


@pytest.fixture
def nets(tmp_path, monkeypatch) -> Path:
    """The folder of a module with a network that normalises batches."""
    (tmp_path / "watched_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("watched_nets", None)


class OneOf(Placement):
    """The share that one process of several has of each batch."""

    def __init__(self, rank: int, processes: int) -> None:
        self.rank = rank
        self.processes = processes


OBJECTIVES = (
    "hard",
    "uniform:0.1",
    "unigram:0.2",
    "class_conditional:0.3",
    "generalised:-0.4:0",
    "confidence_penalty:0.2",
    "max_suppression:0.3",
    "margin_smoothing:0.5:1",
    "uniform:0.1+mixup:0.5",
)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("rows", "processes"), [(8, 2), (7, 2), (7, 3), (1, 2)])
def test_gradients_of_the_shares_average_to_that_of_the_batch(objective, rows, processes):
    """Also where shares are unequal, or empty. In float64."""
    labels = torch.arange(40) % 5
    images = torch.randn(rows, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def gradient(placement: Placement) -> tuple[float, torch.Tensor]:
        torch.manual_seed(0)
        network = nn.Linear(6, 5).double()
        parsed = Objective.parse(objective)
        criterion = parsed.criterion(TrainingFacts(class_counts=torch.bincount(labels), steps=4))
        mixing = Mixing(parsed.mixup, 5, seed=3) if parsed.mixup else None
        loss, _ = batch_loss(network, images, labels[3 : 3 + rows], criterion, placement, mixing)
        loss.backward()
        return loss.item(), network.weight.grad

    loss, whole = gradient(Placement())
    parts = [gradient(OneOf(rank, processes)) for rank in range(processes)]
    assert sum(part for part, _ in parts) / processes == pytest.approx(loss, rel=1e-12)
    mean = torch.stack([part for _, part in parts]).mean(0)
    assert torch.allclose(mean, whole, rtol=0, atol=1e-14)
    assert whole.abs().max() > 1e-3


def numbers(metrics: dict) -> dict[str, float]:
    """All numbers of metrics by their path."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        inner = (
            value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, tuple) else None
        )
        if inner is not None:
            found |= {f"{name}/{key}": number for key, number in numbers(inner).items()}
        elif value is not None:
            found[name] = float(value)
    return found


def launched(place: Path, processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in processes that torchrun starts, which talk over the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
        "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "labelsmooth", *arguments,
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=place, capture_output=True, text=True, timeout=300,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.long
def test_two_processes_train_what_one_trains(nets):
    """Batch normalisation, online smoothing, chance in images, clipping and distillation included; the last
    batch has 79 rows. Two runs that differ in rounding stay within 1e-4 over these 22 steps."""
    recipe = replace(
        TINY, model="watched_nets:factory", also=("class_conditional:0.1",), shift=1, clip=1.0,
        information=1, student="linear", temperatures=(2.0,), beta=0.5,
    )  # fmt: skip
    one = run_study(recipe, nets / "one", jobs=1)
    done = launched(
        nets, 2, "study", "--data", "digits", "--model", recipe.model, "--eps", "0", "--also", *recipe.also,
        "--seeds", "1", "--epochs", "2", "--batch-size", "100", "--shift", "1", "--clip", "1",
        "--information", "1", "--student", "linear", "--temperatures", "2", "--beta", "0.5", "--out", "two",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = load_study(nets / "two")
    assert two.recipe == recipe
    assert [trial.config for trial in two.trials] == [trial.config for trial in one.trials]
    assert {trial.versions.processes for trial in two.trials} == {2}
    for ours, theirs in zip(one.trials, two.trials, strict=True):
        np.testing.assert_allclose(theirs.arrays.test_logits, ours.arrays.test_logits, atol=1e-4)
        expected, got = (numbers({**asdict(trial.curves), **trial.metrics}) for trial in (ours, theirs))
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-4)
    # only one of them writes and prints
    assert done.stdout.count("two/report.html") == 1
    assert done.stderr.count("trial 1 of 6") == 1
    assert not list((nets / "two").glob("**/.partial*"))


def test_jobs_and_processes_exclude_each_other():
    together, alone = OneOf(1, 2), Placement()
    assert trials_at_a_time(None, together) == trials_at_a_time(1, together) == 1
    assert trials_at_a_time(3, alone) == 3
    assert trials_at_a_time(None, alone) == torch.get_num_threads()
    with pytest.raises(ValueError, match="jobs must be 1 where 2 processes train each trial together, got 3"):
        trials_at_a_time(3, together)
    with pytest.raises(ValueError, match="engine must be local where 2 processes train each trial together"):
        _check_together(TINY, "ray", 2)
    with pytest.raises(ValueError, match="batch_size must be at least the number of processes, 128, got 100"):
        _check_together(TINY, "local", 128)


def test_bf16_trains_in_it_and_measures_in_float32(nets):
    import watched_nets

    data = load_data("digits")
    recipe = replace(TINY, model="watched_nets:factory", epochs=4, batch_size=50)
    results = {}
    for precision, trained in (("no", torch.float32), ("bf16", torch.bfloat16)):
        watched_nets.seen.clear()
        (config,) = replace(recipe, precision=precision).trials(data.summary.sha256)
        results[precision] = train_trial(config, data, lambda: None)
        assert set(watched_nets.seen) == {(trained, True), (torch.float32, True), (torch.float32, False)}
        if precision == "bf16":  # but for the look at a network of the user's own before it is trained
            assert watched_nets.seen[torch.float32, True] == 1
        assert {str(array.dtype) for array in results[precision].weights.values()} == {"float32", "int64"}
    exact, low = results.values()
    assert results["no"].config.id != results["bf16"].config.id
    assert exact.curves.train_loss != low.curves.train_loss
    assert low.curves.train_loss == pytest.approx(exact.curves.train_loss, rel=0.02)
    assert low.metrics["test"]["accuracy"] == pytest.approx(exact.metrics["test"]["accuracy"], abs=0.02)
    assert low.metrics["test"]["accuracy"] > 0.9


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_fp16_needs_a_gpu(tmp_path, capsys):
    assert main(["study", "--data", "digits", "--precision", "fp16", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "labelsmooth: error: precision fp16 must have a GPU, which is not here; bf16 trains on CPUs too\n"
    )
    assert not (tmp_path / "out").exists()


def test_without_need_accelerate_stays_out():
    script = (
        "import sys, labelsmooth.cli.study\n"
        "from labelsmooth.study.engines.placement import Placement\n"
        "from labelsmooth.study.engines.select import make_placement\n"
        "assert type(make_placement('no')) is Placement\n"
        "assert not {'accelerate', 'tensorboard'} & set(sys.modules)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_study_without_accelerate_says_what_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delitem(sys.modules, "labelsmooth.study.engines.accelerated", raising=False)
    for option in ("--precision bf16", "--track tensorboard"):
        assert main(["study", "--data", "digits", *option.split(), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err == (
            "labelsmooth: error: this needs the package accelerate, "
            "which pip install '.[accelerate]' in a clone of labelsmooth brings\n"
        )
    assert not (tmp_path / "out").exists()


def test_tensorboard_has_the_curves_and_metrics_of_every_trial(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study = run_study(replace(TINY, shift=1, information=2), tmp_path / "study", jobs=1, track="tensorboard")
    (trial,) = study.trials
    events = EventAccumulator(str(tmp_path / "study" / "tracking" / trial.config.id)).Reload()
    curves = trial.curves
    for name in ("train_loss", "validation_nll", "validation_accuracy", "information"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2]
        assert [scalar.value for scalar in scalars] == pytest.approx(getattr(curves, name), rel=1e-6)
    finals = {
        "fitted/temperature": trial.metrics["fitted"]["temperature"],
        "validation/nll": trial.metrics["validation"]["nll"],
        "test/ece": trial.metrics["test"]["ece"],
        "train/class_separation": trial.metrics["train"]["class_separation"],
    }
    for name, value in finals.items():
        (scalar,) = events.Scalars(f"final/{name}")
        assert (scalar.step, scalar.value) == (2, pytest.approx(value, rel=1e-6))
    # each trial once, those that were trained without a tracker too
    shutil.rmtree(tmp_path / "study" / "tracking")
    run_study(study.recipe, tmp_path / "study", track="tensorboard")
    assert not (tmp_path / "study" / "tracking").exists()
    grown = run_study(replace(study.recipe, seeds=2), tmp_path / "study", jobs=1)
    run_study(grown.recipe, tmp_path / "study", track="tensorboard")
    assert [run.name for run in (tmp_path / "study" / "tracking").iterdir()] == [grown.trials[1].config.id]


def test_a_tracker_that_is_missing_is_one_sentence(tmp_path):
    for name, says in (
        ("wandb", "needs the package wandb"),
        ("notes", "track must be one of tensorboard, wandb"),
    ):
        with pytest.raises(ValueError, match=says):
            run_study(TINY, tmp_path / "out", track=name)
    assert not (tmp_path / "out").exists()


def test_precision_must_be_known():
    with pytest.raises(ValueError, match="precision must be one of no, bf16, fp16, got 'fp32'"):
        replace(TINY, precision="fp32")


def test_a_step_of_a_student_is_that_of_its_loss():
    """Of distillation, from the weights that it leaves: one step, from the gradient of the formula."""
    data = load_data("digits")
    recipe = replace(TINY, model="linear", student="linear", temperatures=(2.0,), beta=0.5, epochs=1,
                     batch_size=1079, momentum=0.0, weight_decay=0.0, learning_rate=0.5)  # fmt: skip
    *_, student = recipe.trials(data.summary.sha256)
    teacher_config = recipe.trials(data.summary.sha256)[0]
    taught_by = train_trial(teacher_config, data, lambda: None)
    teacher = TrainedNetwork(config=teacher_config, weights=taught_by.weights)
    result = train_trial(student, data, lambda: None, teacher)
    network = new_network(student, data.summary)
    images, labels = data.train.images, data.train.labels
    distillation_loss(
        network(images), load_network(teacher, data.summary)(images), labels, 0.5, 2.0
    ).backward()
    stepped = network.classifier.weight - 0.5 * network.classifier.weight.grad
    np.testing.assert_allclose(result.weights["classifier.weight"], stepped.detach().numpy(), atol=1e-6)
