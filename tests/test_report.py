"""The report of a real, small study; and the words of a verdict for scores that leave no doubt."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from scipy import stats

from labelsmooth.report import verdict, write_report
from labelsmooth.report.verdict import estimate, show, show_number
from labelsmooth.study import Recipe, load_study, run_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two arms, two seeds, on the real digits."""
    torch.set_num_threads(1)
    recipe = Recipe(data="digits", model="cnn", eps=(0.0, 0.2), seeds=2, epochs=2)
    return run_study(recipe, tmp_path_factory.mktemp("study"))


@pytest.fixture
def folder(study, tmp_path):
    return shutil.copytree(study.folder, tmp_path / "copy")


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_asks_for_nothing(folder):
    report = write_report(folder)
    html = report.path.read_text(encoding="utf-8")
    page = Page(html)
    assert report.path == folder / "report.html"
    assert page.tags.count("img") == 4
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"@import|url\(", html)
    words = " ".join(page.words)
    assert report.verdict.headline in words
    assert all(sentence in words for sentence in report.verdict.sentences)
    for address in page.addresses:
        kind, _, content = address.partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(content)
        assert ET.fromstring(svg).tag.endswith("svg")
        assert b"<script" not in svg
    # the recommended arm's accuracy is in the table as it is in the text
    arm = report.verdict.arms[0]
    cell = show(arm.estimate("accuracy"), "accuracy", unit=False)
    assert cell in words
    assert cell in report.text


def test_the_same_study_gives_the_same_page(folder):
    first = write_report(folder).path.read_bytes()
    assert write_report(folder).path.read_bytes() == first


def test_names_from_data_are_text(folder):
    stored = json.loads((folder / "study.json").read_text())
    names = stored["data"]["class_names"]
    names[0], names[1] = "<script>alert(1)</script>", "$\\frac$"
    (folder / "study.json").write_text(json.dumps(stored))
    page = Page(write_report(folder).path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in " ".join(page.words)


def test_the_pictures_show_the_stored_numbers(study):
    from labelsmooth.report.figures import projection_of, reliability_svg

    trial = study.trials[0]
    arrays = trial.arrays
    projection = projection_of(trial, "train")
    w, b = arrays.classifier_weight[:3].astype(float), arrays.classifier_bias[:3].astype(float)
    t = np.hstack([w, b[:, None]])
    x = np.hstack([arrays.train_features, np.ones((len(arrays.train_features), 1))])
    # distances between projected rows are those within span(t_b − t_a, t_c − t_a)
    basis = np.linalg.svd(t[1:] - t[0], full_matrices=False)[2]
    expected = (x - x[0]) @ basis.T
    found = projection.points - projection.points[0]
    np.testing.assert_allclose(
        np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1), rtol=1e-5, atol=1e-5
    )
    assert "<svg" in reliability_svg(study, ["hard"])


def test_an_unfinished_study_is_refused(folder):
    shutil.rmtree(folder / "trials" / load_study(folder).plan[-1])
    with pytest.raises(ValueError, match="not finished: 1 trials are missing"):
        write_report(folder)
    with pytest.raises(ValueError, match="holds no study"):
        write_report(folder / "trials")


def test_estimates_are_t_intervals():
    values = [0.3, 0.1, 0.25, 0.4]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert found.mean - found.half_width == pytest.approx(low, rel=1e-12)
    assert found.mean + found.half_width == pytest.approx(high, rel=1e-12)
    assert np.isnan(estimate([0.3]).half_width)
    assert estimate([0.3]).within_noise
    assert show(found, "accuracy") == "26.25 ± 19.89 %"
    assert show(estimate([0.5]), "nll") == "0.5000"
    assert show_number(estimate([21.0, 21.2])) == "21.1 ± 1.3"
    assert show_number(estimate([4.5221, 4.5223])) == "4.522 ± 0.001"


def with_scores(study, **by_arm):
    """The study with other test NLLs, ECEs and accuracies: (ε, temperature) -> one triple per seed."""
    trials = []
    for trial in study.trials:
        kind = "hard" if trial.config.objective == "hard" else "smoothed"
        changes = {}
        for part, arm in (("test", kind), ("test_with_temperature", f"{kind}_temperature")):
            nll, ece, accuracy = by_arm[arm][trial.config.seed]
            changes[part] = replace(getattr(trial.metrics, part), nll=nll, ece=ece, accuracy=accuracy)
        trials.append(replace(trial, metrics=replace(trial.metrics, **changes)))
    return replace(study, trials=tuple(trials))


def seeds(nll, ece, accuracy, step=1e-3):
    """Two seeds that differ by `step` in the same direction in every arm, so paired differences are exact."""
    return [(nll, ece, accuracy), (nll + step, ece + step, accuracy - step)]


@pytest.mark.parametrize(
    ("nlls", "recommended", "says"),
    [
        ((0.3, 0.3, 0.4, 0.35), "hard", "hard labels: nothing tried here has a lower test NLL"),
        (
            (0.5, 0.3, 0.4, 0.35),
            "hard + temperature",
            "hard labels and fit a temperature: this has the lowest",
        ),
        ((0.5, 0.4, 0.3, 0.3), "smoothed ε = 0.2", "label smoothing, ε = 0.2: this has the lowest"),
        (
            (0.5, 0.4, 0.35, 0.3),
            "smoothed ε = 0.2 + temperature",
            "ε = 0.2, and fit a temperature: this has the lowest",
        ),
    ],
)
def test_the_simplest_arm_that_nothing_beats_is_recommended(study, nlls, recommended, says):
    arms = ("hard", "hard_temperature", "smoothed", "smoothed_temperature")
    found = verdict(with_scores(study, **{a: seeds(n, 0.1, 0.9) for a, n in zip(arms, nlls, strict=True)}))
    assert found.recommended.name == recommended
    assert says in found.headline
    assert "within noise" in found.sentences[2]  # equal accuracies


def test_differences_smaller_than_the_scatter_are_called_noise(study):
    hard = [(0.30, 0.10, 0.90), (0.40, 0.20, 0.95)]
    smoothed = [(0.35, 0.15, 0.93), (0.33, 0.13, 0.91)]  # better by 0.01 on average, from −0.05 to +0.07
    found = verdict(
        with_scores(study, hard=hard, hard_temperature=hard, smoothed=smoothed, smoothed_temperature=smoothed)
    )
    assert found.recommended.name == "hard"
    assert "the lowest test NLL, of smoothed ε = 0.2, is lower by no more than noise" in found.headline
    assert found.sentences[0].startswith("Test NLL is lowest for smoothed ε = 0.2, 0.3400")
    assert "the difference to" in found.sentences[0]
    assert "within noise" in found.sentences[0]


def test_differences_beyond_the_scatter_are_given_with_their_interval(study):
    found = verdict(
        with_scores(
            study,
            hard=seeds(0.5, 0.2, 0.90),
            hard_temperature=seeds(0.4, 0.1, 0.90),
            smoothed=seeds(0.6, 0.3, 0.95),
            smoothed_temperature=seeds(0.3, 0.1, 0.95),
        )
    )
    nll, ece, accuracy = found.sentences
    assert "hard is higher by 0.2000 ± 0.0000" in nll
    assert "smoothed ε = 0.2 is higher by 20.00 ± 0.00 %" in ece
    assert "hard is lower by 5.00 ± 0.00 %" in accuracy
    assert "temperature" not in accuracy


def test_an_arm_is_not_recommended_because_its_scatter_hides_what_is_better(study):
    """smoothed scatters so much that none beats it; but hard + temperature, which is simpler, is the better."""
    found = verdict(
        with_scores(
            study,
            hard=[(0.5, 0.1, 0.9)] * 2,
            hard_temperature=[(0.20, 0.1, 0.9), (0.20, 0.1, 0.9)],
            smoothed=[(0.10, 0.1, 0.9), (0.36, 0.1, 0.9)],
            smoothed_temperature=[(0.19, 0.1, 0.9), (0.22, 0.1, 0.9)],
        )
    )
    assert found.recommended.name == "hard + temperature"


def test_one_seed_and_one_arm(study):
    one = replace(
        study, recipe=replace(study.recipe, seeds=1), plan=study.plan[::2], trials=study.trials[::2]
    )
    found = verdict(one)
    assert found.recommended is None
    assert "One seed" in found.headline
    assert "no interval" in found.sentences[0]
    hard = replace(
        study, recipe=replace(study.recipe, eps=(0.0,)), plan=study.plan[:2], trials=study.trials[:2]
    )
    alone = verdict(hard)
    assert alone.chosen is None
    assert [arm.name for arm in alone.arms] == ["hard", "hard + temperature", "hard + p-norm"]
    assert "does not change it" in alone.sentences[2]


def test_a_terminal_without_the_signs_still_gets_the_verdict(folder, tmp_path):
    recipe = load_study(folder).recipe
    arguments = [
        "--data",
        recipe.data,
        "--model",
        recipe.model,
        "--eps",
        "0",
        "0.2",
        "--seeds",
        "2",
        "--epochs",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "labelsmooth", "study", *arguments, "--out", str(folder)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Train with" in done.stdout
    assert done.stdout.splitlines()[-1] == str(folder / "report.html")
