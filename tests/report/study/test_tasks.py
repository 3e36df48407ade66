"""The report of a task that has nothing but what a task must have."""

import json
import re

import characters
import pytest
import torch

from labelsmooth.errors import InputError
from labelsmooth.report import write_report
from labelsmooth.study import load_study, plan_study, run_study
from labelsmooth.study.tasks import TASKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two arms of three seeds."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("characters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "characters", "characters")
        recipe = characters.Recipe(eps=(0.0, 0.3), seeds=3, epochs=2, learning_rate=5.0)
        run_study(recipe, out, jobs=1)
        yield out


def test_the_page_has_what_the_task_has(folder):
    report = write_report(folder)
    html = report.path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    (section,) = json.loads(data)["sections"]
    assert list(section["figures"]) == ["scores", "curves"]
    assert sorted(re.findall(r'data-figure="(\w+)"', html)) == [
        "curves",
        "gradient",
        "loss",
        "scores",
        "target",
    ]
    metrics = section["figures"]["scores"]["constants"]["metrics"]
    assert [metric["name"] for metric in metrics] == ["accuracy", "nll"]
    assert [metric["repairs"] for metric in metrics] == [[""], [""]]
    sizes = load_study(folder).data.pairs
    assert "{:,} training, 1,000 validation and 1,000 test characters".format(*sizes) in html
    for absent in ("ECE", "p-norm", "temperature", "Class by class", "two-way", "test rows would", "nan"):
        assert absent not in html.partition('<section id="explorer"')[0].partition("<main")[2], absent
    assert "t-intervals over these; differences are paired by seed." in html


def test_the_verdict_goes_by_the_test_nll(folder):
    """Hard labels have the lower one on a text so small: ε = 0.3 is far from what its characters ask for."""
    found = write_report(folder).verdict
    assert [arm.name for arm in found.arms] == ["hard", "smoothed ε = 0.3"]
    assert list(found.scores) == ["accuracy", "nll"]
    assert found.repairs == ("",)
    hard, smoothed = (arm.scores["nll"].mean for arm in found.arms)
    assert hard < smoothed
    assert found.recommended.name == "hard"
    assert found.headline.startswith("Train with hard labels: the test NLL is ")
    *scores, cut_short = found.sentences
    assert [sentence.split(" is ")[0] for sentence in scores] == ["Test NLL", "Test accuracy"]
    assert cut_short.startswith("The validation NLL of hard and smoothed ε = 0.3 was still falling")
    assert cut_short.endswith(": train longer, for more than 2 epochs.")


def test_a_study_of_hard_labels_alone_has_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "characters", "characters")
    recipe = characters.Recipe(eps=(0.0,), seeds=2, epochs=1)
    assert plan_study(recipe).trials == recipe.trials(characters.TASK.load(recipe).summary.sha256)
    run_study(recipe, tmp_path, jobs=1)
    found = write_report(tmp_path).verdict
    assert found.headline.startswith("Hard labels alone leave nothing to compare")
    assert [sentence.split(" is ")[0] for sentence in found.sentences] == ["Test NLL", "Test accuracy"]


def test_a_task_that_mixes_no_inputs_refuses_mixup():
    for also in ("mixup:0.2", "uniform:0.1+mixup:0.2"):
        with pytest.raises(InputError, match=re.escape(f"of characters must mix no inputs, got {also}")):
            characters.Recipe(also=(also,))
    assert "mixup" not in characters.Recipe.__dataclass_fields__["also"].metadata["help"]
