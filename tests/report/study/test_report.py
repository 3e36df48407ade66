"""The report of a real, small study."""

import base64
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version
from itertools import cycle

import numpy as np
import pytest
import torch
from scipy import stats

from labelsmooth.cli import main
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.objectives import OBJECTIVES
from labelsmooth.report import scores_table, verdict, write_report
from labelsmooth.report.study.estimate import Estimate, estimate, show
from labelsmooth.report.study.figures import figures, gap, risk_coverage
from labelsmooth.report.study.methods import facts, paragraph, study_names
from labelsmooth.study import Objective, Recipe, load_study, run_study
from labelsmooth.study.store import write_results
from labelsmooth.study.tasks.images import TASK


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
    """The tags, the addresses, the words and the scripts of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.words, self.scripts, self.policy = [], [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"]

    def handle_data(self, data):
        if self.tags[-1:] == ["script"] and self.cdata_elem:
            self.scripts.append(data)
        elif not self.cdata_elem:
            self.words.append(data)


def page_of(folder):
    return Page(write_report(folder).path.read_text(encoding="utf-8"))


def test_the_page_is_whole_and_names_all_that_may_run(folder):
    report = write_report(folder)
    html = report.path.read_text(encoding="utf-8")
    page = Page(html)
    assert report.path == folder / "report.html"
    assert page.addresses == ["data:,"]  # the icon that browsers would ask for
    assert page.tags.count("script") == len(page.scripts) == 2
    assert "default-src 'none'" in page.policy
    code = hashlib.sha256(page.scripts[1].encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(code).decode()}'" in page.policy
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert (
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        in page.policy
    )
    words = " ".join(page.words).replace("\N{NO-BREAK SPACE}", " ")
    assert report.verdict.headline in words
    assert all(sentence in words for sentence in report.verdict.sentences)
    # an arm's accuracy is in the table as it is in the text
    arm = report.verdict.arms[0]
    cell = show(arm.estimate("accuracy"), "accuracy", unit=False)
    assert cell in words
    assert cell in report.text


def test_the_same_study_gives_the_same_page(folder):
    first = write_report(folder).path.read_bytes()
    assert write_report(folder).path.read_bytes() == first


def test_a_study_without_its_metrics_gives_the_same_page(study, folder):
    page, results = write_report(folder).path.read_bytes(), (folder / "results.jsonl").read_bytes()
    for trial in study.trials:
        (folder / "trials" / trial.config.id / "metrics.json").unlink()
    assert write_report(folder).path.read_bytes() == page
    write_results(folder)
    assert (folder / "results.jsonl").read_bytes() == results


def test_names_from_data_are_text(folder):
    stored = json.loads((folder / "study.json").read_text())
    names = ["<script>alert(1)</script>", "$\\frac$", "</script><!-- <b>"]
    stored["data"]["class_names"][:3] = names
    (folder / "study.json").write_text(json.dumps(stored))
    page = page_of(folder)
    assert page.tags.count("script") == 2
    assert "b" not in page.tags
    assert ", ".join(names) in " ".join(page.words)
    data = json.loads(page.scripts[0])
    assert data["sections"][0]["figures"]["projection"]["constants"]["classes"] == names


def test_the_projection_keeps_distances_in_the_plane(study):
    trial = study.trials[0]
    arrays = trial.arrays
    projection = TASK.planes(arrays)["train"]
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


def test_figures_are_those_that_the_study_has_numbers_for(study):
    made = {figure.name: figure for figure in figures(study, verdict(study), classes=None)}
    assert list(made) == ["scores", "reliability", "risk_coverage", "projection", "gap", "curves"]
    for figure in made.values():
        assert len({len(column) for column in figure.columns.values()}) == 1
        assert set(figure.columns["arm"]) == {0, 1}
        assert set(figure.columns["seed"]) == {0, 1}
    two = replace(study.trials[0].arrays, feature_classes=np.arange(2))
    assert TASK.planes(two) == {}


def test_the_curve_of_the_gap_is_that_of_the_theory(study):
    made = gap(study)
    for eps, optimum in made.constants["curve"][::20]:
        assert optimum == pytest.approx(math.log(1 + 10 * (1 - eps) / eps), rel=1e-5)
    of = dict(
        zip(
            zip(*(made.columns[name] for name in ("arm", "seed", "rows")), strict=True),
            made.columns["gap"],
            strict=True,
        )
    )
    assert of[1, 0, "validation"] == pytest.approx(
        study.trials[2].metrics["validation"]["logit_gap"], rel=1e-6
    )


def test_risk_and_coverage_end_at_the_error_rate(study):
    made = risk_coverage(study)
    rows = list(
        zip(*(made.columns[name] for name in ("arm", "seed", "with_p_norm", "coverage", "risk")), strict=True)
    )
    for arm, trials in enumerate(study.arms().values()):
        for trial in trials:
            for repaired in (0, 1):
                own = [row for row in rows if row[:3] == (arm, trial.config.seed, repaired)]
                assert own[-1][3:] == pytest.approx((1, 1 - trial.metrics["test"]["accuracy"]), rel=1e-6)
    areas = {(one["arm"], one["seed"], one["with_p_norm"]): one["aurc"] for one in made.constants["areas"]}
    assert areas[0, 1, 0] == pytest.approx(study.trials[1].metrics["test"]["aurc"], rel=1e-6)
    assert areas[0, 1, 1] == pytest.approx(study.trials[1].metrics["test_with_pnorm"]["aurc"], rel=1e-6)


def test_the_methods_say_what_was_done(study):
    recipe = replace(study.recipe, label_noise=0.2, student="mlp800", plain_student=True, shift=2)
    trials = [replace(t, versions=replace(t.versions, commit="abc123", threads=2)) for t in study.trials]
    words = paragraph(replace(study, recipe=recipe, trials=tuple(trials)))
    for said in (
        "1,079 training, 359 validation and 359 test rows; 10 classes",
        study.data.sha256[:16],
        "with hard labels and label smoothing, ε = 0.2",
        "wrong with probability 0.2",
        "2 epochs of SGD, batch size 128, learning rate 0.1",
        "at random moved by up to 2 pixels",
        "Students were mlp800, trained in the same way, on images that were not shifted or mirrored",
        "2 seeds 0 to 1",
        f"labelsmooth {version('labelsmooth')} (commit abc123), PyTorch {torch.__version__}",
        "2 threads a network",
    ):
        assert said in words
    machine = replace(trials[0].versions, device="cuda:0", processes=4)
    trained = replace(
        study, recipe=replace(recipe, precision="bf16"), trials=(replace(trials[0], versions=machine),)
    )
    assert "in the mixed precision bf16" in paragraph(trained)
    assert facts(trained)["Machine"].endswith("cuda:0, 4 processes of 2 threads a network")
    # trials of two versions are said to be so
    mixed = replace(trials[0], versions=replace(trials[0].versions, commit=None))
    assert "; in part " in facts(replace(study, trials=(mixed, *trials[1:])))["Versions"]
    assert "Students" not in facts(study)


def test_studies_have_names_that_tell_them_apart(study):
    def changed(**changes):
        return replace(study, recipe=replace(study.recipe, **changes))

    assert study_names([study, changed(model="mlp")]) == ["cnn on digits", "mlp on digits"]
    three = [study, changed(label_noise=0.6, eps=(0.0, 0.3)), changed(shift=1), changed(model="mlp")]
    assert study_names(three) == [
        "cnn on digits, label noise 0, shift 0",
        "cnn on digits, label noise 0.6",
        "cnn on digits, label noise 0, shift 1",
        "mlp on digits",
    ]
    assert study_names([study, changed(eps=(0.0,))]) == ["cnn on digits, eps 0 0.2", "cnn on digits, eps 0"]
    other = replace(study, folder=study.folder / "copy")
    assert study_names([study, other]) == [f"cnn on digits ({one.folder})" for one in (study, other)]


def test_the_table_for_a_paper(study):
    found = verdict(study)
    assert found.recommended is None  # of two seeds
    found = replace(found, recommended=found.arms[1])
    markdown = scores_table([(study, found)], "markdown").splitlines()
    assert markdown[0].startswith("| arm | accuracy (%) | NLL (nats) |")
    assert len(markdown) == 2 + len(found.arms)
    assert all(line.count("|") == markdown[0].count("|") for line in markdown)
    (bold,) = (line for line in markdown if "**" in line)
    assert bold.startswith(f"| **{found.recommended.name}** |")

    latex = scores_table([(study, found)], "latex")
    assert latex.splitlines()[0] == r"\begin{tabular}{lrrrrrrr}"
    assert [latex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert all(line.count("&") == 7 for line in rows)
    assert r"smoothed $\varepsilon$ = 0.2 & " in latex
    assert r" $\pm$ " in latex
    kinds = (
        "others:0.1",
        "unigram:0.1",
        "temporal:0.1",
        "class_conditional:0.1",
        "generalised:-0.4",
        "confidence_penalty:0.1",
        "max_suppression:0.1",
        "margin_smoothing:0.1",
        "brier_penalty:0.5",
        "sigmoids:0.1",
        "uniform:0.1+mixup:0.2",
    )
    named = [replace(arm, objective=Objective.parse(kind)) for arm, kind in zip(cycle(found.arms), kinds)]
    assert {objective.kind for objective in (arm.objective for arm in named)} == set(OBJECTIVES) - {
        "hard",
        "distillation",
        "mixup",
    }
    assert scores_table([(study, replace(found, arms=tuple(named)))], "latex").isascii()

    named = replace(study, recipe=replace(study.recipe, data="npz:a_b&c|$x$#{}~^\\%.npz"))
    both = scores_table([(named, found), (study, found)], "latex")
    assert (
        r"\multicolumn{8}{l}{\textit{cnn on npz:a\_b\&c\textbar{}\$x\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\%.npz}} \\"
        in both
    )
    both = scores_table([(named, found), (study, found)], "markdown")
    assert both.startswith("| study | arm |")
    assert r"| cnn on npz:a\_b&amp;c\|$x$" in both
    with pytest.raises(ValueError, match="a table must be one of markdown, latex, got 'html'"):
        scores_table([(study, found)], "html")


def test_the_command_rebuilds_joins_and_prints(folder, tmp_path, capsys):
    (folder / "report.html").unlink(missing_ok=True)
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.html")
    other = shutil.copytree(folder, tmp_path / "other")
    assert main(["report", str(folder), str(other), "--out", str(tmp_path / "joined")]) == 0
    out = capsys.readouterr().out
    for name in (f"cnn on digits ({folder})", f"cnn on digits ({other})"):  # the same but for the folder
        assert f"{name}\n{'=' * len(name)}\n" in out
    page = Page((tmp_path / "joined" / "report.html").read_text(encoding="utf-8"))
    assert len(json.loads(page.scripts[0])["sections"]) == 3  # of each study, and of both together
    assert "What label smoothing did in 2 studies" in " ".join(page.words)

    assert main(["report", str(folder), "--table", "latex"]) == 0
    study = load_study(folder)
    assert capsys.readouterr().out == scores_table([(study, verdict(study))], "latex")
    assert main(["report", str(folder), str(other), "--table", "markdown", "--out", str(tmp_path / "t")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 't' / 'scores.md'}\n"
    assert (tmp_path / "t" / "scores.md").read_text(encoding="utf-8").startswith("| study | arm |")
    named = tmp_path / "new" / "table.tex"
    for _ in range(2):  # it may replace itself
        assert main(["report", str(folder), "--table", "latex", "--out", str(named)]) == 0
        assert capsys.readouterr().out == f"{named}\n"
    assert named.read_text(encoding="utf-8") == scores_table([(study, verdict(study))], "latex")


def test_what_a_report_would_replace_is_refused(folder, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "metrics.json").touch()
    (tmp_path / "file").touch()
    for arguments, sentence in (
        ([folder, other], "a report of 2 studies must be told where to go: give a folder as out (--out DIR)"),
        ([folder, "--out", other], f"{other} holds a study, whose report this would replace"),
        ([folder, other, "--out", folder], f"{folder} holds a study, whose report this would replace"),
        ([folder, "--out", tmp_path / "audit"], f"{tmp_path / 'audit'} holds an audit, whose report this"),
        ([folder, "--out", tmp_path / "file"], f"--out must be a folder, got the file {tmp_path / 'file'}"),
        ([folder, folder, "--out", tmp_path / "o"], f"a study must not be named twice, got {folder} again"),
        ([folder, folder, "--table", "latex"], f"a study must not be named twice, got {folder} again"),
        ([folder, "--table", "latex", "--out", tmp_path / "file"], "--out must be a folder, got the file"),
        ([tmp_path], f"{tmp_path} holds no study"),
        ([tmp_path, "--table", "latex"], f"{tmp_path} holds no study"),
    ):
        assert main(["report", *map(str, arguments)]) == 2
        assert capsys.readouterr().err.startswith(f"labelsmooth: error: {sentence}")
    assert not (other / "report.html").exists()
    assert main(["report", str(folder), "--out", str(folder)]) == 0


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
    assert show(found, "accuracy") == "26 ± 20 %"
    assert show(estimate([0.5]), "nll") == "0.5000 nats"
    assert show(estimate([3e20, 3e20]), "nll") == "3.00e+20 nats"
    assert show(estimate([21.0, 21.2]), "logit_gap", unit=False) == "21.1 ± 1.3"
    assert show(estimate([4.5221, 4.5223]), "logit_gap") == "4.5222 ± 0.0013 nats"
    # longer than all that an MCE can be; not so of a difference, and of what has no bounds
    assert show(Estimate(mean=0.15, half_width=1.11), "mce") == "15 % (0 to 100)"
    assert show(Estimate(mean=0.15, half_width=1.11), QUANTITIES["mce"].difference) == "15 ± 111 points"
    assert show(Estimate(mean=0.15, half_width=1.11), "nll") == "0.1 ± 1.1 nats"


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
    assert any("does not change it" in sentence for sentence in alone.sentences)


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
    assert "2 seeds and 359 test rows cannot tell" in done.stdout
    assert done.stdout.splitlines()[-1] == str(folder / "report.html")
