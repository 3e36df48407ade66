"""Named recipes and the plan of a study: what the papers did, and what a dry run says."""

from __future__ import annotations

import math
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from labelsmooth.cli import main
from labelsmooth.study import RECIPES, Recipe, plan_study, run_study
from labelsmooth.study.optimizer import make_schedule
from labelsmooth.study.tasks.images.data import load_data
from labelsmooth.study.tasks.images.models import build_network
from labelsmooth.study.training import train_trial

TINY = Recipe(data="digits", model="cnn", eps=(0.0, 0.1), seeds=2, epochs=3, batch_size=100)


def test_the_recipes_are_those_of_the_papers():
    """Settings that are stated in the papers; what is ours is not looked at."""
    teacher = RECIPES["mnist-mlp"]  # Müller et al. 2019, §4 and A.5
    assert (teacher.model, teacher.shift, teacher.flip) == ("mlp_dropout", 2, 0)
    assert (teacher.epochs, teacher.schedule, teacher.weight_decay) == (100, "linear", 0)
    assert teacher.momentum == 0.9
    assert (teacher.student, teacher.plain_student, teacher.beta) == ("mlp800", True, 0.6)  # A.5
    for name, rows in (("fashion-resnet56", 48_000), ("cifar100-resnet56", 40_000)):
        he = RECIPES[name]  # He et al. 2016, §4.2
        assert (he.model, he.batch_size, he.momentum) == ("resnet56", 128, 0.9)
        assert (he.shift, he.crop, he.flip) == (4, 0, 0.5)
        assert (he.schedule, he.drops) == ("steps", (32 / 64, 48 / 64))
        assert he.epochs * -(-rows // 128) == pytest.approx(64_000, rel=0.005)
    fashion = RECIPES["fashion-resnet56"]
    assert (fashion.learning_rate, fashion.weight_decay) == (0.1, 1e-4)
    cifar100 = RECIPES["cifar100-resnet56"]  # Müller et al. 2019, A.2, with three times the cross-entropy
    assert cifar100.optimizer == "nesterov"
    assert cifar100.learning_rate == pytest.approx(0.1 * 3)
    assert (cifar100.weight_decay * 3, cifar100.clip * 3) == pytest.approx((1e-4, 1))
    alexnet = RECIPES["cifar10-alexnet"]  # Müller et al. 2019, A.1, with three times the cross-entropy
    assert (alexnet.model, alexnet.batch_size) == ("alexnet", 128)
    assert (alexnet.optimizer, alexnet.momentum) == ("sgd", 0)
    # one step takes 0.1·(3g + 0.04w) off the weights
    assert alexnet.learning_rate == pytest.approx(0.1 * 3)
    assert alexnet.learning_rate * alexnet.weight_decay == pytest.approx(0.1 * 0.04)
    assert (alexnet.crop, alexnet.shift, alexnet.flip) == (24, 0, 0.5)
    steps = alexnet.epochs * -(-40_000 // 128)
    assert steps == pytest.approx(390_000, rel=0.001)
    assert [part * steps for part in alexnet.drops] == pytest.approx([130_000, 260_000], rel=0.001)
    grid = RECIPES["cifar10-distillation"]  # figure 5
    assert (grid.model, grid.student, grid.beta) == ("resnet56", "alexnet", 1)
    assert grid.eps == (0, 0.15, 0.3, 0.45, 0.6, 0.75)
    assert grid.temperatures == (1, 2, 3, 4, 8, 12, 16)
    assert all(0.1 in recipe.eps for recipe in RECIPES.values() if recipe != grid)


def test_a_factor_of_the_loss_is_one_of_the_rate():
    """What the recipes above rest on: SGD on 3·L, with decay d and norms clipped at c, is that on L with 3 times
    the rate, d/3 and c/3."""
    data = load_data("digits")

    def trained(factor: float) -> dict[str, np.ndarray]:
        recipe = replace(
            TINY, model="linear", learning_rate=0.02 * factor, weight_decay=0.1 / factor, optimizer="nesterov",
            clip=4 / factor, epochs=2,
        )  # fmt: skip
        return train_trial(recipe.trials(data.summary.sha256)[0], data, lambda: None).weights

    # the same by hand, in float64, with the loss times 3
    images, labels = data.train.images.double().flatten(1), data.train.labels
    network = build_network("linear", (1, 8, 8), 10, seed=0).classifier.double()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=0.1, nesterov=True)
    chance, clipped = torch.Generator().manual_seed(0), 0
    for step in range(22):
        if step % 11 == 0:
            batches = torch.split(torch.randperm(1079, generator=chance), 100)
        batch = batches[step % 11]
        optimizer.param_groups[0]["lr"] = 0.02 * 0.5 * (1 + math.cos(math.pi * step / 22))
        optimizer.zero_grad()
        (3 * torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])).backward()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in network.parameters()))
        clipped += bool(norm > 4)
        for parameter in network.parameters():
            parameter.grad *= min(1.0, 4 / float(norm))
        optimizer.step()
    assert 0 < clipped < 22
    np.testing.assert_allclose(trained(3)["classifier.weight"], network.weight.detach().numpy(), atol=2e-5)


def test_a_line_ends_at_zero():
    data = load_data("digits")
    config = replace(TINY, schedule="linear").trials(data.summary.sha256)[0]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    schedule = make_schedule(optimizer, config.settings, 4)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])


def test_the_plan_of_a_study():
    plan = plan_study(TINY)
    assert plan.recipe == TINY
    assert plan.data == load_data("digits").summary
    assert plan.trials == TINY.trials(plan.data.sha256)
    # 3×3 convolutions of 1 → 16 → 32 channels, 32·2·2 → 128 → 10
    assert plan.parameters["cnn"] == 16 * 10 + 32 * (16 * 9 + 1) + 128 * 129 + 10 * 129
    assert plan.steps == {"cnn": 3 * 11}  # 1,079 rows in batches of 100
    start = time.perf_counter()
    train_trial(plan.trials[0], load_data("digits"), lambda: None)
    actual = time.perf_counter() - start
    seconds = plan.seconds[plan.trials[0].id]
    assert list(plan.seconds) == [trial.id for trial in plan.trials]
    assert actual / 10 < seconds < actual * 10  # loose, as machines are shared
    longer = plan_study(replace(TINY, epochs=300))
    assert 20 < longer.seconds[longer.trials[0].id] / seconds < 500


def test_the_plan_of_a_study_with_students():
    plan = plan_study(replace(TINY, model="mlp", student="cnn", temperatures=(1.0, 3.0)))
    # 2 objectives and 2 seeds: teachers, students alone, and students at two temperatures
    assert len(plan.trials) == 2 * 2 * (1 + 1 + 2)
    assert list(plan.parameters) == ["mlp", "cnn"]
    teacher, alone, taught = (plan.seconds[plan.trials[number].id] for number in (0, 4, 8))
    assert taught > alone  # its teacher, which is larger, looks at every batch too
    assert teacher > alone


def test_the_plan_leaves_no_trace_in_random_states():
    before = torch.get_rng_state()
    plan_study(replace(TINY, model="mlp_dropout", shift=1))
    assert torch.equal(torch.get_rng_state(), before)


def lines_of(text: str) -> dict[str, str]:
    return {
        line.split("  ", 1)[0]: line.split("  ", 1)[1].strip() for line in text.splitlines() if line[0] != " "
    }


def test_a_dry_run_shows_every_setting_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = (
        "study --recipe cifar100-resnet56 --data digits --model cnn --seeds 2 --epochs 3 --eps 0 0.1 --flip 0"
    )
    assert main([*arguments.split(), "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert list(tmp_path.iterdir()) == []
    lines = lines_of(out)
    expected = replace(
        RECIPES["cifar100-resnet56"], data="digits", model="cnn", seeds=2, epochs=3, eps=(0.0, 0.1), flip=0.0
    )
    for setting in fields(Recipe):
        value, option = getattr(expected, setting.name), "--" + setting.name.replace("_", "-")
        if setting.name in ("temperatures", "beta", "plain_student"):  # there is no student
            assert option not in lines
            continue
        shown = lines[option]
        if isinstance(value, tuple):
            value = " ".join(f"{part:g}" for part in value) or None
        assert shown == ("none" if value is None else str(value).removesuffix(".0"))
    assert lines["rows"] == "1,079 training, 359 validation and 359 test rows"
    assert lines["trials"] == "4, 0 of them complete in runs/study"
    assert lines["steps"] == "27 a trial of cnn"  # 1,079 rows in batches of 128
    assert lines["time"].startswith("about ")
    assert "of shape (1, 8, 8) and 10 classes" in out


def test_a_dry_run_knows_what_is_complete(tmp_path, capsys):
    run_study(replace(TINY, epochs=1, seeds=1), tmp_path)
    capsys.readouterr()
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    arguments = (
        "study --data digits --model cnn --eps 0 0.1 --seeds 2 --epochs 1 --batch-size 100 --dry-run --out"
    )
    assert main([*arguments.split(), str(tmp_path)]) == 0
    assert lines_of(capsys.readouterr().out)["trials"] == f"4, 2 of them complete in {tmp_path}"
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    assert main([*arguments.replace("--epochs 1", "--epochs 3").split(), str(tmp_path)]) == 2
    assert f"{tmp_path} holds a study with other settings (epochs 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--recipe mnist-cnn", "invalid choice: 'mnist-cnn' (choose from"),
        ("--recipe cifar10-alexnet --data digits", "crop must be at most the 8 pixels of a side, got 24"),
        (
            "--recipe mnist-mlp --data npz:vectors.npz",
            "shift, crop and flip need images, got rows of shape (5,)",
        ),
        ("--recipe mnist-mlp --eps 2", "eps must lie in [0, 1], got 2"),
        (
            "--recipe cifar10-alexnet --optimizer nesterov",
            "the optimizer nesterov must have a momentum above 0",
        ),
        ("--recipe cifar10-alexnet --data cifar:nowhere", "there is no folder nowhere"),
    ],
)
@pytest.mark.parametrize("dry", ["", " --dry-run"])
def test_bad_input_is_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, arguments, says, dry):
    monkeypatch.chdir(tmp_path)
    np.savez("vectors.npz", x=np.random.default_rng(0).normal(size=(60, 5)), y=np.arange(60) % 3)
    assert main(["study", *(arguments + dry).split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("labelsmooth: error: ")
    assert err.count("\n") == 1
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npz"]
