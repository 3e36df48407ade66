"""Named recipes and the plan of a study: what the papers did, and what a dry run says."""

from __future__ import annotations

import time
from dataclasses import fields, replace

import numpy as np
import pytest

from labelsmooth.cli import main
from labelsmooth.study import RECIPES, Recipe, plan_study, run_study
from labelsmooth.study.data import load_data
from labelsmooth.study.progress import duration
from labelsmooth.study.training import train_trial

TINY = Recipe(data="digits", model="cnn", eps=(0.0, 0.1), seeds=2, epochs=3, batch_size=100)


def test_the_recipes_are_those_of_the_papers():
    """Settings that are stated in the papers; what is ours is not looked at."""
    teacher = RECIPES["mnist-mlp"]  # Müller et al. 2019, §4; Hinton et al. 2015, §3
    assert (teacher.model, teacher.shift, teacher.flip) == ("mlp_dropout", 2, 0)
    for name, rows in (("fashion-resnet56", 48_000), ("cifar100-resnet56", 40_000)):
        he = RECIPES[name]  # He et al. 2016, §4.2
        assert (he.model, he.batch_size, he.learning_rate, he.momentum) == ("resnet56", 128, 0.1, 0.9)
        assert (he.weight_decay, he.shift, he.crop, he.flip) == (1e-4, 4, 0, 0.5)
        assert (he.schedule, he.drops) == ("steps", (32 / 64, 48 / 64))
        assert he.epochs * -(-rows // 128) == pytest.approx(64_000, rel=0.005)
    tutorial = RECIPES["cifar10-alexnet"]  # tensorflow/models r1.13, tutorials/image/cifar10
    assert (tutorial.model, tutorial.batch_size, tutorial.learning_rate) == ("alexnet", 128, 0.1)
    assert (tutorial.optimizer, tutorial.momentum, tutorial.weight_decay) == ("sgd", 0, 0.004)
    assert (tutorial.crop, tutorial.shift, tutorial.flip) == (24, 0, 0.5)
    assert [part * tutorial.epochs for part in tutorial.drops] == pytest.approx([350, 700])
    assert all(0.1 in recipe.eps for recipe in RECIPES.values())


def test_the_plan_of_a_study():
    plan = plan_study(TINY)
    assert plan.recipe == TINY
    assert plan.data == load_data("digits").summary
    assert plan.trials == TINY.trials(plan.data.sha256)
    # 3×3 convolutions of 1 → 16 → 32 channels, 32·2·2 → 128 → 10
    assert plan.parameters["cnn"] == 16 * 10 + 32 * (16 * 9 + 1) + 128 * 129 + 10 * 129
    assert plan.steps == 3 * 11  # 1,079 rows in batches of 100
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
    import torch

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
        value = getattr(expected, setting.name)
        shown = lines["--" + setting.name.replace("_", "-")]
        if isinstance(value, tuple):
            value = " ".join(f"{part:g}" for part in value) or None
        assert shown == ("none" if value is None else str(value))
    assert lines["rows"] == "1,079 training, 359 validation, 359 test"
    assert lines["trials"] == "4, 0 of them complete in runs/study"
    assert lines["steps"] == "27 a trial"  # 1,079 rows in batches of 128
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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90061, "1 d 1 h"),
        (86400 * 30, "30 d 0 h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
