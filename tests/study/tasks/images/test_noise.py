"""Wrong training labels on purpose: how many, of which classes, and what they change in a study."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from labelsmooth.cli import main
from labelsmooth.report import write_report
from labelsmooth.study import Recipe, run_study
from labelsmooth.study.tasks.images.data import load_data
from labelsmooth.study.tasks.images.noise import with_label_noise
from labelsmooth.study.training import train_trial

TINY = Recipe(data="digits", model="cnn", eps=(0.0,), seeds=1, epochs=6, batch_size=32)
ROWS, CLASSES = 50_000, 5


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough rows to count on, with one value each."""
    file = tmp_path_factory.mktemp("many") / "many.npz"
    labels = np.arange(ROWS) % CLASSES
    np.savez(file, x=labels[:, None] + np.linspace(0, 1, ROWS)[:, None], y=labels)
    return load_data(f"npz:{file}")


@pytest.mark.parametrize("rate", [0.2, 0.6, 0.95])
def test_counts_are_those_of_the_transition_matrix(many, rate):
    """1 − r of every class stay, r/(K − 1) go to each other class: binomial counts, within 4.5 deviations."""
    clean, noisy = many.train.labels, with_label_noise(many, rate).train.labels
    assert noisy.dtype == torch.int64
    table = torch.bincount(clean * CLASSES + noisy, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    rows = len(clean) // CLASSES
    assert table.sum(1).tolist() == [rows] * CLASSES
    for true, counts in enumerate(table.tolist()):
        for given, count in enumerate(counts):
            share = 1 - rate if given == true else rate / (CLASSES - 1)
            assert abs(count - rows * share) < 4.5 * math.sqrt(rows * share * (1 - share))


def test_all_else_stays_clean(many):
    noisy = with_label_noise(many, 0.6)
    assert noisy.validation is many.validation
    assert noisy.test is many.test
    assert noisy.train.images is many.train.images
    assert noisy.summary == many.summary
    assert with_label_noise(many, 0.0) is many


def test_the_draw_is_fixed_and_grows_with_the_rate(many):
    clean, some, more = (with_label_noise(many, rate).train.labels for rate in (0.0, 0.2, 0.6))
    torch.manual_seed(1)
    assert torch.equal(some, with_label_noise(many, 0.2).train.labels)
    wrong = some != clean
    assert torch.equal(some[wrong], more[wrong])
    assert (more != clean)[~wrong].any()


def test_two_classes_change_places(many):
    two = replace(many.summary, class_names=("0", "1"))
    train = replace(many.train, labels=many.train.labels % 2)
    noisy = with_label_noise(replace(many, summary=two, train=train), 0.5).train.labels
    assert set(noisy.tolist()) == {0, 1}


def test_a_trial_trains_on_them_and_is_another_trial():
    data = load_data("digits")
    clean, noisy = (replace(TINY, label_noise=rate).trials(data.summary.sha256)[0] for rate in (0, 0.6))
    assert clean.id != noisy.id
    assert clean.id == replace(TINY, label_noise=-0.0).trials(data.summary.sha256)[0].id
    results = {
        config.settings.label_noise: train_trial(config, data, lambda: None) for config in (clean, noisy)
    }
    assert results[0.6].curves.train_accuracy[-1] < 0.5 < results[0].curves.train_accuracy[-1]
    # scored on clean labels, which 60 % noise leaves the most frequent by far: 0.4 against 0.6/9
    assert results[0.6].metrics["test"]["accuracy"] > 0.5
    for result in results.values():
        assert np.array_equal(result.arrays.validation_labels, data.validation.labels.numpy())
        assert np.array_equal(result.arrays.test_labels, data.test.labels.numpy())


def test_the_study_says_so(tmp_path, capsys):
    out = tmp_path / "study"
    run_study(replace(TINY, label_noise=0.6, eps=(0.0, 0.1), epochs=1), out)
    assert (
        json.loads((out / "results.jsonl").read_text().splitlines()[0])["config"]["settings"]["label_noise"]
        == 0.6
    )
    html = write_report(out).path.read_text(encoding="utf-8")
    assert "symmetric noise: each was wrong with probability 0.6" in " ".join(html.split())
    capsys.readouterr()
    # the same folder is not for the clean labels
    arguments = "study --data digits --model cnn --eps 0 0.1 --seeds 1 --epochs 1 --batch-size 32 --out"
    assert main([*arguments.split(), str(out)]) == 2
    assert "holds a study with other settings (label_noise 0.6)" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["1", "-0.1", "nan", "inf"])
def test_a_rate_outside_its_range(tmp_path, capsys, rate):
    assert main(["study", "--label-noise", rate, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"labelsmooth: error: --label-noise must lie in [0, 1), got {rate}\n"
    assert not (tmp_path / "out").exists()
