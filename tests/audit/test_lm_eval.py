"""`labelsmooth audit --lm-eval` on logs that the harness wrote: numbers against float64 arithmetic and its own."""

import json
import math
import re
import shutil
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from labelsmooth.cli import main
from labelsmooth.evaluation.split import SPLIT_SEED
from labelsmooth.measure.compare import Comparison

LOGS = Path(__file__).parents[1] / "fixtures" / "lm_eval"
RESULTS = json.loads((LOGS / "results.json").read_text())
MODELS = ("base", "sft", "sft-smoothed")
TASKS = ("cloze_english", "cloze_german")


def read(model, per_character=False):
    """Log-likelihoods and right options of each task, straight from the lines."""
    found = {}
    for task in TASKS:
        (path,) = (LOGS / model).glob(f"samples_{task}_*.jsonl")
        scores, labels = np.full((24, 5), -np.inf), np.zeros(24, int)
        for row, line in enumerate(map(json.loads, path.read_text().splitlines())):
            choices = line["doc"]["choices"]
            for option, (value, _) in enumerate(line["filtered_resps"]):
                scores[row, option] = float(value) / (len(choices[option]) if per_character else 1)
            answer = line["doc"]["answer"]
            labels[row] = answer if isinstance(answer, int) else choices.index(answer)
        found[task] = scores, labels
    return found


def nll_by_row(scores, labels):
    highest = scores.max(-1)
    return (
        np.log(np.exp(scores - highest[:, None]).sum(-1)) + highest - scores[np.arange(len(labels)), labels]
    )


def expected(scores, labels):
    """By the definitions, in float64."""
    probs = np.exp(scores - scores.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    confidence, right = probs.max(-1), probs.argmax(-1) == labels
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)  # (lo, hi]
    gap = np.bincount(bins, confidence - right, 15) / len(labels)
    share = np.bincount(bins, minlength=15) / len(labels)
    return {
        "rows": len(labels),
        "accuracy": right.mean(),
        "nll": -np.log(probs[np.arange(len(labels)), labels]).mean(),
        "ece": np.abs(gap).sum(),
        "ece_l2": np.sqrt((gap[share > 0] ** 2 / share[share > 0]).sum()),
    }


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    assert main(["audit", "--lm-eval", *(str(LOGS / model) for model in MODELS), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def metrics(audited):
    return json.loads((audited / "metrics.json").read_text())


def check(numbers, scores, labels):
    for name, value in expected(scores, labels).items():
        if name in numbers:
            assert numbers[name]["value"] == pytest.approx(value, rel=1e-12, abs=1e-12), name
            if name != "rows":
                assert numbers[name]["low"] <= value <= numbers[name]["high"]


@pytest.mark.parametrize("model", MODELS)
def test_the_numbers_of_each_task_and_of_all(metrics, model):
    rows = read(model)
    found = metrics["models"][model]
    check(found["numbers"]["all"], *(np.concatenate(parts) for parts in zip(*rows.values(), strict=True)))
    assert tuple(found["groups"]) == TASKS
    for task in TASKS:
        check(found["groups"][task], *rows[task])
        assert found["groups"][task]["accuracy"]["value"] == RESULTS[model][task]["acc,none"]


def test_models_are_compared_document_by_document(metrics):
    """As `measure.Comparison` has them, whose own tests hold them against others."""
    assert [(pair["of"], pair["minus"]) for pair in metrics["differences"]] == [
        ("sft", "base"),
        ("sft-smoothed", "base"),
        ("sft-smoothed", "sft"),
    ]
    level = 1 - 0.05 / 3  # so that all three hold at 95 % (Bonferroni)
    for pair in metrics["differences"]:
        (first, labels), (second, _) = (
            map(np.concatenate, zip(*read(pair[model]).values(), strict=True)) for model in ("of", "minus")
        )
        comparison = Comparison()
        comparison.update(*map(torch.from_numpy, (first, second, labels)))
        held = comparison.compute(level)
        assert pair["level"] == pytest.approx(level, abs=1e-15)
        for metric in ("accuracy", "nll", "ece"):
            for end in ("value", "low", "high"):
                found = pair["numbers"]["all"][metric][end]
                assert found == pytest.approx(getattr(held[metric], end), rel=1e-9, abs=1e-12), (metric, end)
        by_row = nll_by_row(first, labels) - nll_by_row(second, labels)
        half = NormalDist().inv_cdf((1 + level) / 2) * by_row.std() / math.sqrt(len(by_row))
        nll = pair["numbers"]["all"]["nll"]
        assert nll["value"] == pytest.approx(by_row.mean(), rel=1e-9)
        assert (nll["low"], nll["high"]) == pytest.approx(
            (by_row.mean() - half, by_row.mean() + half), rel=1e-9
        )


def test_the_reference_is_named_and_each_step_is_compared(audited):
    page = (audited / "report.html").read_text()
    words = (
        "base, named first, is the reference: every other model is compared with it, and with the one named "
        "before it. So that the intervals of a number in all 3 comparisons hold at once in 95 % of cases, each "
        "is one of 98.3 %."
    )
    assert page.count(words) == 2  # in the verdict and over the tables
    assert "of sft-smoothed is" in page
    assert "sft-smoothed minus sft, on the same rows" in page


def test_nothing_is_said_of_the_smoothing_of_options(audited, metrics):
    """A language model is smoothed over its words."""
    page = (audited / "report.html").read_text()
    for model in MODELS:
        assert metrics["models"][model]["recovered"] is None
        assert not {"teacher", "smoothing"} & metrics["models"][model]["numbers"].keys()
        assert metrics["models"][model]["notes"][0] == (
            "Its probabilities are the softmax of the log-likelihoods of the 2 to 5 options of a question."
        )
    for question in ("Was it trained with label smoothing?", "Would it be a poor teacher?", "Logit gaps"):
        assert question not in page
    assert "groups of sft-smoothed" in page


def test_likelihoods_per_character(tmp_path, capsys):
    files = [str(path) for path in sorted((LOGS / "sft").glob("*.jsonl"))]
    assert main(["audit", "--lm-eval", *files, "--per-character", "--out", str(tmp_path)]) == 0
    assert "log-likelihoods per character" in " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "metrics.json").read_text())["models"]["sft"]
    rows = read("sft", per_character=True)
    check(found["numbers"]["all"], *(np.concatenate(parts) for parts in zip(*rows.values(), strict=True)))
    for task in TASKS:
        check(found["groups"][task], *rows[task])
        assert found["groups"][task]["accuracy"]["value"] == RESULTS["sft"][task]["acc_norm,none"]


def test_what_is_left_out_of_the_output_of_the_harness_is_said(tmp_path, capsys):
    """A task that generates text, and an older run, in the folder of the model within its --output_path."""
    folder = shutil.copytree(LOGS / "sft", tmp_path / "tuned" / "my__model")
    shutil.copy(next((LOGS / "other").glob("*gen*")), folder)
    older = next((LOGS / "base").glob("*english*"))  # 21:34, and that of sft 21:36
    shutil.copy(older, folder)
    assert main(["audit", "--lm-eval", str(tmp_path / "tuned"), "--out", str(tmp_path / "out")]) == 0
    model = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]["tuned"]
    check(model["numbers"]["all"], *map(np.concatenate, zip(*read("sft").values(), strict=True)))
    said = (" ".join(capsys.readouterr().out.split()), (tmp_path / "out" / "report.html").read_text())
    for note in (
        "Of several runs of a task the newest is taken: cloze_english of 2026-11-29T21-36-23.533889.",
        "Left out, as they ask for no choice of the one right option: gen_english.",
    ):
        assert note in model["notes"]
        assert all(note in text for text in said)


def test_one_document_is_too_few(tmp_path, capsys):
    """The remedy is one that logs have: they take no --validation."""
    log = next((LOGS / "sft").glob("*english*"))
    (tmp_path / log.name).write_text(log.read_text().splitlines()[0])
    assert main(["audit", "--lm-eval", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("got 1: give more rows")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--lm-eval", LOGS / "sft", "--labels", "y"], "lm_eval knows its own format and takes no labels, got 'y'"),
        (["--lm-eval", LOGS / "sft", "--validation", LOGS / "base"], "lm_eval knows its own format and takes no validation"),
        ([LOGS / "sft", "--per-character"], "per_character needs lm_eval"),
        (["--lm-eval", next((LOGS / "other").glob("*gen*"))], "got none: .*samples_gen_english_.* must hold two options or more in filtered_resps"),
        (["--lm-eval", LOGS / "sft", next((LOGS / "base").glob("*german*"))], "base must hold the documents of .*sft, got document 0 of cloze_english in .*sft alone"),
        (["--lm-eval", LOGS / "results.json"], "results.json line 1 is no JSON"),
        (["--lm-eval", LOGS], "lm_eval must hold the logs of one model, got folders of several, .*: .*base, .*other, .*sft, .*sft-smoothed"),
        (["--lm-eval", LOGS.parent / "prompts"], "must hold logs samples_TASK_TIME.jsonl of lm-evaluation-harness, or a folder of them, got none"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_sentence(tmp_path, capsys, arguments, sentence):
    assert main(["audit", *map(str, arguments), "--out", str(tmp_path / "out")]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert re.search(sentence, stderr)
    assert stderr.startswith("labelsmooth: error: ")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_how_rows_to_fit_on_were_drawn_is_said(audited):
    """15 of 48 is no share of 0.2: each row has that chance."""
    drawn = int((np.random.default_rng(SPLIT_SEED).random(48) < 0.2).sum())
    words = f"rows drawn at random, each with a chance of 0.2 ({drawn} rows)"
    assert words in (audited / "report.html").read_text()


def test_what_a_precision_leaves_to_answer(metrics, audited):
    """The number of a threshold that holds, and of one that does not on other rows."""
    page = (audited / "report.html").read_text()
    assert page.count("How much can it answer with 95 % of the answers right?") == len(MODELS)
    for model in MODELS:
        numbers = metrics["models"][model]["numbers"]
        threshold, above = numbers["fitted"]["threshold"]["value"], numbers["above_threshold"]
        assert f"a confidence of {threshold:.6g} or more reaches it" in page
        assert above["rows"]["value"] == round(
            above["coverage"]["value"] * numbers["held_out"]["rows"]["value"]
        )
        share = round(100 * above["coverage"]["value"])
        assert (f"about {share} % of its rows" in page) == (above["accuracy"]["high"] >= 0.95)
    assert "nothing, as far as these rows can tell" in page
