"""`labelsmooth audit` on real predictions: its numbers against float64 arithmetic, its report, and what it refuses."""

import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from scipy.optimize import minimize_scalar
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from labelsmooth.audit import Settings, run_audit
from labelsmooth.cli import main
from labelsmooth.evaluation.split import SPLIT_SEED
from labelsmooth.measure.compare import Comparison
from labelsmooth.measure.format import show
from labelsmooth.study import Recipe, run_study

ROOT = Path(__file__).parents[2]
REQUIRED = {
    "all": (
        *("accuracy", "nll", "brier", "ece", "ece_l2", "mce", "smece", "debiased_l2"),
        *("aurc", "augrc", "coverage_at_1pct_risk"),
    ),
    "held_out": ("nll", "ece", "aurc"),
    "with_pnorm": ("aurc",),
    "fitted": ("temperature", "pnorm"),
}


@pytest.fixture(scope="module")
def letters():
    """Logits of a linear classifier and probabilities of a forest, on letters that neither was fitted on."""
    stored = np.load(ROOT / "tests" / "fixtures" / "letters.npz")
    x, y = stored["x"] / 15, stored["y"].astype(np.int64)
    linear = LogisticRegression(max_iter=60, tol=1e-2).fit(x[:4000], y[:4000])
    forest = RandomForestClassifier(20, random_state=0).fit(x[:4000], y[:4000])
    parts = {"validation": slice(4000, 6000), "test": slice(6000, 12000)}
    return {
        **{f"linear {part}": (linear.decision_function(x[rows]), y[rows]) for part, rows in parts.items()},
        **{f"forest {part}": (forest.predict_proba(x[rows]), y[rows]) for part, rows in parts.items()},
    }


@pytest.fixture(scope="module")
def audited(letters, tmp_path_factory):
    """Both models, with validation rows in files of their own, of three kinds."""
    folder = tmp_path_factory.mktemp("letters")
    for part in ("validation", "test"):
        logits, labels = letters[f"linear {part}"]
        tensors = {"logits": torch.from_numpy(logits), "labels": torch.from_numpy(labels)}
        save_file(tensors, folder / f"linear-{part}.safetensors")
        probs, labels = letters[f"forest {part}"]
        pq.write_table(pa.table({"probs": list(probs), "labels": labels}), folder / f"forest-{part}.parquet")
    arguments = [
        *("audit", folder / "linear-test.safetensors", folder / "forest-test.parquet"),
        *("--validation", folder / "linear-validation.safetensors", folder / "forest-validation.parquet"),
        *("--out", folder / "out"),
    ]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def metrics(audited):
    return json.loads((audited / "out" / "metrics.json").read_text())


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def nll(logits, labels, temperature=1.0):
    z = logits / temperature
    z = z - z.max(-1, keepdims=True)
    return float((np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), labels]).mean())


def curve(confidence, wrong):
    """Errors and rows accepted at every distinct confidence, and the rows that have it."""
    thresholds, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    errors = np.cumsum(np.bincount(group, wrong, len(thresholds)))
    return errors, np.cumsum(count), count


def expected(probs, labels):
    """By the definitions, in float64."""
    confidence, wrong = probs.max(-1), probs.argmax(-1) != labels
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)  # (lo, hi]
    count = np.bincount(bins, minlength=15)
    filled = count > 0
    right, sure = np.bincount(bins, ~wrong, 15)[filled], np.bincount(bins, confidence, 15)[filled]
    share, n = count[filled] / len(labels), count[filled]
    gap = right / n - sure / n
    several = n > 1
    debiased = (share * (gap**2 - (right / n) * (1 - right / n) / np.maximum(n - 1, 1)))[several].sum()
    errors, accepted, rows = curve(confidence, wrong)
    steps = np.append(0, accepted) / len(labels), np.append(0, errors) / len(labels)
    return {
        "accuracy": 1 - wrong.mean(),
        "brier": ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(-1).mean(),
        "over_confidence": confidence.mean() - (1 - wrong.mean()),
        "ece": (share * abs(gap)).sum(),
        "ece_l2": np.sqrt((share * gap**2).sum()),
        "mce": abs(gap).max(),
        "debiased_l2": np.sqrt(max(0, debiased)),
        "aurc": (rows * errors / accepted).sum() / len(labels),
        "augrc": (np.diff(steps[0]) * (steps[1][1:] + steps[1][:-1]) / 2).sum(),
        "coverage_at_1pct_risk": max(accepted[errors * 100 <= accepted], default=0) / len(labels),
    }


def best_temperature(logits, labels):
    found = minimize_scalar(
        lambda t: nll(logits, labels, np.exp(t)), bounds=(-4, 4), method="bounded", options={"xatol": 1e-10}
    )
    return float(np.exp(found.x))  # fmt: skip


def pnorm(logits, p):
    x = logits - logits.mean(-1, keepdims=True)
    return x.max(-1) / (abs(x) ** p).sum(-1) ** (1 / p)


def aurc_of(confidence, wrong):
    errors, accepted, rows = curve(confidence, wrong)
    return (rows * errors / accepted).sum() / len(wrong)


def test_every_number_has_a_value_within_its_interval(metrics):
    assert list(metrics["models"]) == ["linear-test", "forest-test"]
    for model in metrics["models"].values():
        for part, names in REQUIRED.items():
            assert set(names) <= set(model["numbers"][part]), part
        for part, numbers in model["numbers"].items():
            for name, interval in numbers.items():
                assert list(interval) == ["value", "low", "high"], name
                if None not in interval.values():
                    assert interval["low"] <= interval["value"] <= interval["high"], (part, name)
        for part in ("all", "held_out"):
            for name in set(REQUIRED[part]) - {"nll"}:
                assert None not in model["numbers"][part][name].values(), (part, name)
    assert {"nll", "ece"} <= set(metrics["models"]["linear-test"]["numbers"]["with_temperature"])


@pytest.mark.parametrize("model", ["linear", "forest"])
def test_the_numbers_are_those_of_the_definitions(letters, metrics, model):
    scores, labels = letters[f"{model} test"]
    found = metrics["models"][f"{model}-test"]["numbers"]["all"]
    probs = scores if model == "forest" else softmax(scores)
    for metric, value in expected(probs, labels).items():
        assert found[metric]["value"] == pytest.approx(value, rel=1e-9, abs=1e-12), metric
    assert found["rows"]["value"] == len(labels)


def test_the_nll_of_logits_and_an_infinite_one(letters, metrics):
    scores, labels = letters["linear test"]
    found = metrics["models"]["linear-test"]["numbers"]["all"]
    assert found["nll"]["value"] == pytest.approx(log_loss(labels, softmax(scores)), rel=1e-9)
    assert found["infinite_nll_rows"]["value"] == 0
    probs, labels = letters["forest test"]
    zeros = int((probs[np.arange(len(labels)), labels] == 0).sum())
    assert zeros > 0
    found = metrics["models"]["forest-test"]["numbers"]["all"]
    assert found["infinite_nll_rows"]["value"] == zeros
    assert found["nll"] == {"value": None, "low": None, "high": None}
    assert any(
        f"infinite: {zeros} of 6,000 rows" in note for note in metrics["models"]["forest-test"]["notes"]
    )


def test_temperature_and_repair_are_those_of_the_validation_rows(letters, metrics):
    scores, labels = letters["linear test"]
    fit_scores, fit_labels = letters["linear validation"]
    found = values_of(metrics["models"]["linear-test"])
    t = best_temperature(fit_scores, fit_labels)
    assert found["fitted"]["temperature"] == pytest.approx(t, rel=1e-6)
    assert found["held_out"]["nll"] == found["all"]["nll"]
    assert found["with_temperature"]["nll"] == pytest.approx(nll(scores, labels, t), rel=1e-8)
    after = expected(softmax(scores / t), labels)
    assert found["with_temperature"]["ece"] == pytest.approx(after["ece"], rel=1e-5)
    assert found["change_by_temperature"]["nll"] == pytest.approx(
        nll(scores, labels, t) - nll(scores, labels), rel=1e-5
    )
    wrong, fit_wrong = scores.argmax(-1) != labels, fit_scores.argmax(-1) != fit_labels
    by_p = [aurc_of(pnorm(fit_scores, p), fit_wrong) for p in range(1, 11)]
    before = aurc_of(softmax(fit_scores).max(-1), fit_wrong)
    best = int(np.argmin(by_p))
    if by_p[best] < before:
        assert found["fitted"]["pnorm"] == best + 1
        assert found["with_pnorm"]["aurc"] == pytest.approx(aurc_of(pnorm(scores, best + 1), wrong), rel=1e-9)
    else:
        assert found["fitted"]["pnorm"] == 0
        assert found["with_pnorm"]["aurc"] == found["all"]["aurc"]


def test_a_temperature_that_no_row_can_tell(metrics):
    """Some rows that the forest is fitted on give their label the probability 0."""
    found = metrics["models"]["forest-test"]
    assert found["numbers"]["fitted"]["temperature"] == {"value": None, "low": None, "high": None}
    assert not {"with_temperature", "change_by_temperature"} & set(found["numbers"])
    assert found["untold"].startswith("No temperature can be told")
    assert found["untold"] in found["notes"]
    assert found["numbers"]["fitted"]["pnorm"]["value"] in range(11)


def values_of(model):
    return {
        part: {name: interval["value"] for name, interval in numbers.items()}
        for part, numbers in model["numbers"].items()
    }


def write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_a_share_is_fitted_on_and_the_rest_measured(letters, tmp_path):
    scores, labels = letters["linear test"]
    path = write(tmp_path / "m.npz", logits=scores.astype(np.float32), labels=labels)
    assert main(["audit", path, "--out", str(tmp_path / "out")]) == 0
    found = values_of(json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]["m"])
    drawn = np.random.default_rng(SPLIT_SEED).random(len(labels)) < 0.2
    assert 0.18 < drawn.mean() < 0.22
    scores = scores.astype(np.float32).astype(np.float64)
    t = best_temperature(scores[drawn], labels[drawn])
    assert found["fitted"]["temperature"] == pytest.approx(t, rel=1e-6)
    assert found["fitted"]["rows"] == drawn.sum()
    assert found["held_out"]["rows"] == (~drawn).sum()
    assert found["all"]["nll"] == pytest.approx(nll(scores, labels), rel=1e-9)
    assert found["held_out"]["nll"] == pytest.approx(nll(scores[~drawn], labels[~drawn]), rel=1e-9)
    assert found["with_temperature"]["nll"] == pytest.approx(nll(scores[~drawn], labels[~drawn], t), rel=1e-7)
    assert found["held_out"]["aurc"] == pytest.approx(
        expected(softmax(scores[~drawn]), labels[~drawn])["aurc"], rel=1e-9
    )
    assert found["all"]["aurc"] == pytest.approx(expected(softmax(scores), labels)["aurc"], rel=1e-9)


def test_weights_and_groups(letters, tmp_path):
    scores, labels = (part[:3000] for part in letters["linear test"])
    weights, vowel = (labels % 3).astype(float), np.isin(labels, [0, 4, 8, 14, 20])
    path = write(
        tmp_path / "m.npz",
        logits=scores,
        labels=labels,
        weights=weights,
        groups=np.where(vowel, "<vowels>", "others"),
    )
    assert main(["audit", path, "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    right = scores.argmax(-1) == labels
    assert found["models"]["m"]["numbers"]["all"]["accuracy"]["value"] == pytest.approx(
        np.average(right, weights=weights), rel=1e-9
    )
    groups = found["models"]["m"]["groups"]
    assert list(groups) == ["<vowels>", "others"]
    for group, rows in zip(groups.values(), (vowel, ~vowel), strict=True):
        assert group["accuracy"]["value"] == pytest.approx(
            np.average(right[rows], weights=weights[rows]), rel=1e-9
        )
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;vowels&gt;" in page
    assert "<vowels>" not in page


def of_models(out):
    models = json.loads((out / "metrics.json").read_text())["models"].values()
    return [values_of(model) for model in models]


def test_rows_of_weight_0_change_no_number(digits, tmp_path):
    scores, labels = digits
    filler = np.random.default_rng(3).normal(size=scores.shape) * 9
    for name, padded in (("plain", False), ("padded", True)):
        write(
            tmp_path / f"{name}.npz",
            logits=np.r_[scores[:150], filler, scores[150:]] if padded else scores,
            labels=np.r_[labels[:150], filler.argmin(1), labels[150:]] if padded else labels,
            weights=np.r_[np.ones(150), np.zeros(400), np.ones(250)] if padded else np.ones(400),
        )
    files = [str(tmp_path / f"{name}.npz") for name in ("plain", "padded")]
    assert main(["audit", *files, "--out", str(tmp_path / "out")]) == 0
    plain, padded = of_models(tmp_path / "out")
    assert plain == padded
    assert plain["all"]["rows"] == 400
    audit = run_audit(Settings(files=tuple(map(Path, files))))
    one, other = (model.evaluation for model in audit.models)
    assert one.recovered == other.recovered
    assert one.numbers["teacher"] == other.numbers["teacher"]


def test_integer_weights_are_rows_that_many_times(digits, tmp_path):
    scores, labels = digits
    weights = np.arange(400) % 3
    many = [np.repeat(part, weights, axis=0) for part in (scores, labels)]
    files = [
        write(tmp_path / "weighted.npz", logits=scores, labels=labels, weights=weights),
        write(tmp_path / "repeated.npz", logits=many[0], labels=many[1]),
    ]
    validation = [write(tmp_path / f"{k}.npz", logits=scores, labels=labels) for k in "vw"]
    arguments = ["audit", *files, "--validation", *validation, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    weighted, repeated = of_models(tmp_path / "out")
    for name in ("accuracy", "nll", "ece", "aurc", "augrc", "coverage_at_1pct_risk"):
        assert weighted["all"][name] == pytest.approx(repeated["all"][name], rel=1e-9), name
    assert weighted["with_pnorm"]["aurc"] == pytest.approx(repeated["with_pnorm"]["aurc"], rel=1e-9)
    for name, value in weighted["teacher"].items():
        assert value == pytest.approx(repeated["teacher"][name], rel=1e-9), name


def said_of(tmp_path, capsys, probs, labels):
    path = write(tmp_path / "m.npz", probs=probs, labels=labels)
    assert main(["audit", path, "--out", str(tmp_path / "out")]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_an_error_that_cancels_on_the_whole_is_told(tmp_path, capsys):
    """Half of the rows 95 % sure, half 55 %, all right in 75 %: an ECE of 20 % with a mean gap of 0."""
    confidence = np.where(np.arange(4000) % 2 == 0, 0.95, 0.55)
    labels = (np.random.default_rng(7).random(4000) > 0.75).astype(int)
    said = said_of(tmp_path, capsys, np.stack([confidence, 1 - confidence], 1), labels)
    assert "Is it as sure as it is right? Over-confident on some rows and under-confident on others" in said
    assert "neither over- nor" not in said


def test_accuracy_by_chance_is_told(tmp_path, capsys):
    rng = np.random.default_rng(5)
    probs, labels = rng.dirichlet(np.ones(4), 2000), rng.integers(4, size=2000)
    said = said_of(tmp_path, capsys, probs, labels)
    assert said.count("no more than one and the same answer for all rows could be (") >= 2
    assert "Would it be a poor teacher? Probably. It is right on" in said


def test_a_group_without_weight_is_left_out(digits, tmp_path):
    scores, labels = digits
    weighted = labels != 7
    path = write(
        tmp_path / "m.npz", logits=scores, labels=labels, weights=weighted.astype(float), groups=labels
    )
    assert main(["audit", path, "--out", str(tmp_path / "out")]) == 0
    groups = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]["m"]["groups"]
    assert list(groups) == [str(label) for label in range(10) if label != 7]


def test_what_is_said_of_rows_that_are_all_right_or_all_wrong(digits, tmp_path, capsys):
    scores = digits[0]
    right = scores.argmax(-1)
    files = [
        write(tmp_path / "right.npz", logits=scores, labels=right),
        write(tmp_path / "wrong.npz", logits=scores, labels=(right + 1) % 10),
    ]
    assert main(["audit", *files, "--out", str(tmp_path / "out")]) == 0
    of_right, of_wrong = re.search(r"\nright: (.*)\nwrong: (.*?)\n\n", capsys.readouterr().out, re.S).groups()
    of_right, of_wrong = (" ".join(text.split()) for text in (of_right, of_wrong))
    assert of_right.count("No temperature can be told") == 1
    assert (
        "falls at 0.0001, the lowest that is tried, as it does where every label has the largest" in of_right
    )
    assert "Fewer than 20 of its rows are wrong" in of_right
    assert "falls at 10000, the highest that is tried" in of_wrong
    assert "Only 0 rows are classified correctly, and 100 are needed" in of_wrong
    assert "Fewer than 20" not in of_wrong


def test_differences_are_those_of_rows_held_in_memory(letters, metrics):
    """As `measure.Comparison` has them, whose own tests hold them against others."""
    (pair,) = metrics["differences"]
    assert (pair["of"], pair["minus"]) == ("forest-test", "linear-test")
    comparison = Comparison()
    probs, labels = letters["forest test"]
    logits, _ = letters["linear test"]
    comparison.update_probs(probs, softmax(logits), labels)
    held = comparison.compute()
    for metric in ("accuracy", "brier", "mean_confidence", "over_confidence", "entropy", "ece", "aurc"):
        found = pair["numbers"]["all"][metric]
        for end in ("value", "low", "high"):
            assert found[end] == pytest.approx(getattr(held[metric], end), rel=1e-6, abs=1e-9), (metric, end)
    assert pair["numbers"]["all"]["nll"] == {"value": None, "low": None, "high": None}
    # Agresti & Min 2005: half a row more in each cell of the two-by-two table
    mine, its = probs.argmax(-1) == labels, logits.argmax(-1) == labels
    n, b, c = len(labels) + 2, (mine & ~its).sum() + 0.5, (its & ~mine).sum() + 0.5
    half = 1.959963984540054 * np.sqrt((b + c) / n - ((b - c) / n) ** 2) / np.sqrt(n)
    assert pair["numbers"]["all"]["accuracy"]["low"] == pytest.approx((b - c) / n - half, rel=1e-9)


def test_weighted_differences_are_those_of_rows_that_many_times(letters, tmp_path):
    """But for the intervals: repeated rows are not rows of their own."""
    (probs, labels), (logits, _) = letters["forest test"], letters["linear test"]
    probs, logits, labels = probs[:2000], softmax(logits[:2000]), labels[:2000]
    weights = labels % 3
    for name, p in (("forest", probs), ("linear", logits)):
        write(tmp_path / f"{name}.npz", probs=p, labels=labels, weights=weights.astype(float))
    files = [str(tmp_path / f"{name}.npz") for name in ("linear", "forest")]
    assert main(["audit", *files, "--out", str(tmp_path / "out")]) == 0
    (pair,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["differences"]
    repeated = Comparison()
    repeated.update_probs(*(np.repeat(part, weights, axis=0) for part in (probs, logits, labels)))
    held = repeated.compute()
    for metric in ("accuracy", "brier", "mean_confidence", "over_confidence", "entropy", "ece", "aurc"):
        assert pair["numbers"]["all"][metric]["value"] == pytest.approx(held[metric].value, rel=1e-9), metric
    moved = (probs.argmax(-1) == labels).astype(float) - (logits.argmax(-1) == labels)
    mean = np.average(moved, weights=weights)
    half = 1.959963984540054 * np.sqrt((weights**2 * (moved - mean) ** 2).sum()) / weights.sum()
    assert pair["numbers"]["all"]["accuracy"]["low"] == pytest.approx(mean - half, rel=1e-9)


def test_features_and_the_last_layer(tmp_path):
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=100).fit(x[800:] / 16, y[800:])
    features, labels = x[:400] / 16, y[:400]
    path = write(
        tmp_path / "m.npz",
        logits=model.decision_function(features),
        labels=labels,
        features=features.astype(np.float32),
        classifier_weight=model.coef_,
        classifier_bias=model.intercept_,
    )
    assert main(["audit", path, "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]["m"]["numbers"]["layer"]
    means = np.stack([features[labels == k].mean(0) for k in range(10)])
    within = np.mean([((features[labels == k] - means[k]) ** 2).sum(-1).mean() for k in range(10)])
    between = ((means - means.mean(0)) ** 2).sum(-1).mean()
    assert found["spread"]["value"] == pytest.approx(within / between, rel=1e-5)
    assert {"class_separation", "nc1", "nc2", "nc3", "spread_in_span"} <= set(found)
    assert Page((tmp_path / "out" / "report.html").read_text()).figures == [
        *("reliability", "risk_coverage", "logit_gaps", "projection"),
    ]


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.addresses, self.words, self.figures, self.scripts = [], [], [], [], []
        self.policy = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [given[name] for name in ("src", "href") if name in given]
        self.figures += [given["data-figure"]] if "data-figure" in given else []
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.append(data)
        elif not self.cdata_elem:
            self.words.append(data)


def test_the_page_is_whole_and_asks_for_nothing(audited):
    html = (audited / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.figures == ["reliability", "risk_coverage", "logit_gaps"]
    assert page.addresses == ["data:,"]  # the icon that browsers would ask for
    assert not {"img", "iframe"} & set(page.tags)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"@import|url\(", style)
    assert page.tags.count("script") == len(page.scripts) == 2
    assert "default-src 'none'" in page.policy
    code = hashlib.sha256(page.scripts[1].encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(code).decode()}'" in page.policy
    words = " ".join(" ".join(page.words).split())
    for question in (
        "Is it as sure as it is right?",
        "Does a temperature help?",
        "Would it be a poor teacher?",
    ):
        assert words.count(question) == 2
    assert html.count("No temperature can be told") >= 1
    assert sorted(path.name for path in (audited / "out").iterdir()) == ["metrics.json", "report.html"]


def test_the_same_files_give_the_same_bytes(digits, digits_file, tmp_path, capsys):
    accuracy = (digits[0].argmax(-1) == digits[1]).mean()
    for name in "ab":
        assert main(["audit", digits_file, "--out", str(tmp_path / name)]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[-1] == str(tmp_path / name / "report.html")
        assert err == f"model 1 of 1: digits, 400 rows, 10 classes, accuracy {accuracy:.2%}\n"
    for file in ("metrics.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=100).fit(x[800:] / 16, y[800:])
    return model.decision_function(x[:400] / 16), y[:400]


@pytest.fixture(scope="module")
def digits_file(digits, tmp_path_factory):
    return write(tmp_path_factory.mktemp("digits") / "digits.npz", logits=digits[0], labels=digits[1])


def test_the_trials_of_a_study(tmp_path):
    torch.set_num_threads(1)
    study = run_study(
        Recipe(data="digits", model="mlp", eps=(0.0, 0.2), seeds=1, epochs=3), tmp_path / "study"
    )
    files = [trial.folder / "arrays.npz" for trial in study.trials]
    assert main(["audit", *map(str, files), "--out", str(tmp_path / "out")]) == 0
    models = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]
    assert list(models) == [f"{trial.folder.name}/arrays" for trial in study.trials]
    named = {
        "test": ("all", "accuracy", "nll", "ece", "smece", "aurc"),
        "test_with_temperature": ("with_temperature", "nll", "ece"),
        "test_with_pnorm": ("with_pnorm", "aurc"),
        "fitted": ("fitted", "temperature", "pnorm"),
    }
    for found, trial in zip(map(values_of, models.values()), study.trials, strict=True):
        for part, (audited, *names) in named.items():
            measured = trial.metrics[part]
            assert set(names) <= set(measured) & set(found[audited])
            for name in set(measured) & set(found[audited]):
                assert show(name, found[audited][name]) == show(name, measured[name]), (part, name)
                assert found[audited][name] == pytest.approx(measured[name], rel=1e-9), (part, name)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "the validation rows that its file holds" in page


def refused(arguments, sentence, capsys, out):
    assert main(arguments) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert re.search(sentence, stderr)
    assert stderr.startswith("labelsmooth: error: ")
    assert stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda z, y: {"logits": softmax(z), "labels": y}, "probabilities in logits, .* name them with --probs logits"),
        (lambda z, y: {"logits": z, "labels": y + 1}, r"labels in 0\.\.9 in labels, got 10 in row"),
        (lambda z, y: {"logits": z[:0], "labels": y[:0]}, "holds no rows in logits"),
        (lambda z, y: {"logits": z * np.nan, "labels": y}, "without NaN"),
        (lambda z, y: {"logits": z, "labels": y[1:]}, "as many rows in labels as in logits, got 399 and 400"),
        (lambda z, y: {"logits": z, "labels": y, "x": np.array([{}])}, "Python objects in x.npy, which are never read"),
        (lambda z, y: {"logits": z, "labels": y, "weights": 0.0 * y}, "must hold a weight above 0 in weights, got none"),
        (lambda z, y: {"logits": z[:40], "labels": y[:40], "weights": np.eye(40)[0]}, "too few rows to"),
        (lambda z, y: {"logits": z[:1], "labels": y[:1]}, "too few rows to"),
    ],
)  # fmt: skip
def test_files_that_are_refused(digits, tmp_path, capsys, change, sentence):
    path = write(tmp_path / "wrong.npz", **change(*digits))
    refused(["audit", path, "--out", str(tmp_path / "out")], sentence, capsys, tmp_path / "out")


def test_a_wrong_file_among_right_ones_is_found_before_anything_is_measured(
    digits_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("labelsmooth.audit.runner.evaluate", None)
    wrong = tmp_path / "wrong.npz"
    wrong.write_bytes(Path(digits_file).read_bytes()[:-30])
    out = tmp_path / "out"
    refused(
        ["audit", digits_file, str(wrong), "--out", str(out)], "wrong.npz is no .npz archive", capsys, out
    )
    refused(
        ["audit", digits_file, "--validation", str(wrong), "--out", str(out)], "wrong.npz is no", capsys, out
    )


def test_validation_rows_of_another_kind(digits, digits_file, tmp_path, capsys):
    out = tmp_path / "out"
    for arrays, sentence in (
        ({"probs": softmax(digits[0]), "y": digits[1]}, "v.npz must have the kind of scores of .*, got probabilities and logits"),
        ({"logits": digits[0][:, :9], "y": digits[1] % 9}, "v.npz must have the classes of .*, got 9 and 10"),
    ):  # fmt: skip
        path = write(tmp_path / "v.npz", **arrays)
        refused(["audit", digits_file, "--validation", path, "--out", str(out)], sentence, capsys, out)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["audit"], "FILE is missing; it goes before the options"),
        (["audit", "a.npz", "a.npz"], "each file must be named once, got a.npz several times"),
        (["audit", "a.npz", "--validation", "b.npz", "c.npz"], "validation must name a file for each of the 1 files, got 2"),
        (["audit", "a.npz", "--bins", "0"], "bins must be at least 1, got 0"),
        (["audit", "a.npz", "--files", "b"], "there is no option --files"),
        (["audit", "nowhere.npz"], "there is no file nowhere.npz"),
        (["audit", "a.npz", "--out", __file__], "out must be a folder, got the file"),
        (["audit", "a.npz", "--out", f"{__file__}/sub"], "out must be a folder that can be written to, got"),
        (["audit", "a.npz", "--validation", "./a.npz"], "other rows than those measured, got a.npz for both"),
    ],
)  # fmt: skip
def test_command_lines_that_are_refused(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    refused(arguments, sentence, capsys, tmp_path / "runs")


def test_the_folder_of_a_study_is_left_alone(digits_file, tmp_path, capsys):
    (tmp_path / "study.json").write_text("{}")
    (tmp_path / "report.html").write_text("a study's")
    assert main(["audit", digits_file, "--out", str(tmp_path)]) == 2
    assert "holds a study, whose report this would replace" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "a study's"


def test_a_report_that_cannot_be_written_leaves_the_old_one(digits_file, tmp_path, monkeypatch, capsys):
    for name in ("report.html", "metrics.json"):
        (tmp_path / name).write_text("old")
    written = []

    def fill_the_disk(descriptor):
        written.append(descriptor)
        if len(written) == 2:  # of the two files
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_the_disk)
    assert main(["audit", digits_file, "--out", str(tmp_path)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.undo()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "report.html": "old",
        "metrics.json": "old",
    }


def test_an_interrupt_leaves_nothing(tmp_path):
    rows = 100_000
    z = np.random.default_rng(0).standard_normal((rows, 20)).astype(np.float32)
    path = write(tmp_path / "m.npz", logits=z, labels=z.argmax(-1))
    process = subprocess.Popen(
        [sys.executable, "-m", "labelsmooth", "audit", path, "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while "m.npz" not in opened_files(process.pid):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"labelsmooth: interrupted\n")
    assert not (tmp_path / "out").exists()


def opened_files(pid):
    with contextlib.suppress(FileNotFoundError):
        return {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
    return set()


def test_models_that_cannot_be_paired(digits, tmp_path):
    files = [
        write(tmp_path / "a.npz", logits=digits[0], labels=digits[1]),
        write(tmp_path / "b.npz", logits=digits[0][:-1], labels=digits[1][:-1]),
        write(tmp_path / "c.npz", logits=digits[0], labels=np.roll(digits[1], 1)),
    ]
    audit = run_audit(Settings(files=tuple(map(Path, files))))
    assert audit.pairs == ()
    assert audit.notes == (
        "b and a cannot be compared row by row: they have 399 and 400 rows.",
        "c and a cannot be compared row by row: their labels differ.",
        "c and b cannot be compared row by row: they have 400 and 399 rows.",
    )


def test_mutated_files_end_in_a_sentence_or_are_read(tmp_path):
    """A few hundred; `benchmarks/fuzz_audit.py` does ten thousand, in processes that may not take more memory."""
    spec = importlib.util.spec_from_file_location("fuzz_audit", ROOT / "benchmarks" / "fuzz_audit.py")
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    (tmp_path / "seeds").mkdir()
    seeds = fuzz.seed_files(tmp_path / "seeds")
    outcomes = set()
    for turn in range(400):
        seed = seeds[turn % len(seeds)]
        path = tmp_path / seed.name
        path.write_bytes(fuzz.mutate(seed.read_bytes(), seed.suffix, np.random.default_rng(turn)))
        outcomes.add(fuzz.audit(path, tmp_path / "out", whole=turn % 200 == 0))
    assert {"refused", "accepted"} <= outcomes <= {"refused", "accepted", "reported"}
