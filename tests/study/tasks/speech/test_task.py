"""Speech as a task of a study: training, and its numbers beside those of transformers and jiwer."""

import re
from dataclasses import replace

import jiwer
import pytest
import torch
from recordings import FILE
from tiny_studies import stored_bytes

from labelsmooth.cli import main
from labelsmooth.errors import InputError
from labelsmooth.study import load_study, run_study
from labelsmooth.study.store import load_weights
from labelsmooth.study.tasks.speech import TASK, Recipe
from labelsmooth.study.training import load_network
from labelsmooth.study.trial import TrainedNetwork

pytestmark = pytest.mark.usefixtures("tiny")

RECIPE = Recipe(
    data=f"manifest:{FILE}", sample_rate=8_000, eps=(0.0,), also=("temporal:0.1",), seeds=1, epochs=2, batch_size=60,
    learning_rate=0.01, decode=6, beams=(1, 3), decode_temperatures=(0.8, 1.0),
)  # fmt: skip


def test_numbers_are_those_of_transformers(folder, trial, data):
    weights = load_weights(folder, trial.config)
    network = load_network(TrainedNetwork(config=trial.config, weights=weights), data.summary)
    for part in ("test", "validation"):
        utterances, losses = getattr(data, part), []
        for row in range(len(utterances)):
            batch = utterances.batch([row])
            with torch.no_grad():
                output = network.body(**batch.inputs, labels=batch.labels)
            losses.append(float(output.loss) * batch.labels.shape[1])
        assert trial.metrics[part]["nll"] == pytest.approx(sum(losses) / utterances.rows, abs=1e-5)


def test_error_rates_are_those_of_jiwer_on_what_is_stored(trial, data):
    arrays = trial.arrays
    assert len(arrays.decoded) == 6
    references = [data.test.targets[row] for row in arrays.decoded]
    searches = [part for part in trial.metrics if re.fullmatch("test_beams_[0-9]+", part)]
    assert searches == ["test_beams_1", "test_beams_3"]
    for part in ("beams_1", "beams_3"):
        recognised = data.vocabulary.decode(arrays.hypotheses_of(part).best())
        metrics = trial.metrics[f"test_{part}"]
        assert list(metrics) == ["wer", "cer"] + ["sentence_risk"] * (part == "beams_3")
        for name, rate in (("wer", jiwer.wer), ("cer", jiwer.cer)):
            assert metrics[name] == pytest.approx(100 * rate(references, recognised), rel=1e-6)
        words = jiwer.process_words(references, recognised)
        counts = [words.substitutions, words.deletions, words.insertions, words.hits]
        assert arrays.wer[part].sum(0).tolist() == counts
    moved = TASK.influences(trial.config, arrays, trial.metrics)
    for name in ("wer", "cer"):
        assert moved[f"test_beams_3.{name}"]["decoded"].mean() == pytest.approx(metrics[name])
    risks = [min(jiwer.wer(*pair), 1) for pair in zip(references, recognised, strict=True)]
    assert metrics["sentence_risk"] == pytest.approx(sum(risks) / 6, rel=1e-6)
    texts = data.vocabulary.decode(arrays.hypotheses_of("beams_3").all())
    best = [
        min(texts[3 * n : 3 * n + 3], key=lambda text: min(jiwer.wer(reference, text), 1))
        for n, reference in enumerate(references)
    ]
    expected = 100 * jiwer.wer(references, best)
    assert trial.metrics["test_best_of_3"]["wer"] == pytest.approx(expected, rel=1e-6)
    (curve,) = (one for one in TASK.series(arrays)["temperatures"] if one.quantity == "wer")
    assert dict(zip(curve.at, curve.values, strict=True))[1.0] == pytest.approx(metrics["wer"])
    texts = TASK.texts(data.summary, arrays)
    # as they are written: a letter that no text to train on has is the unknown token, and an error all the same
    assert (texts.references, texts.outputs, texts.sources) == (references, recognised, ())
    known = data.vocabulary.decode([data.test.target_tokens[row] for row in arrays.decoded])
    assert "se\ufffdond" in known


def test_an_influence_is_what_an_utterance_more_changes(trial):
    counts = trial.arrays.wer["beams_3"].astype(float)
    moved = TASK.influences(trial.config, trial.arrays, trial.metrics)["test_beams_3.wer"]["decoded"]

    def rate(sums):
        return 100 * sums[:3].sum() / (sums[0] + sums[1] + sums[3])

    for row, influence in enumerate(moved):
        step = 1e-6 * counts[row]  # a little more of the utterance
        slope = (rate(counts.sum(0) + step) - rate(counts.sum(0) - step)) / 2e-6
        assert influence == pytest.approx(rate(counts.sum(0)) + len(counts) * slope, rel=1e-4)


def test_arms_begin_alike_and_learn(folder):
    hard, temporal = load_study(folder).trials
    assert [trial.config.objective for trial in (hard, temporal)] == ["hard", "temporal:0.1"]
    assert hard.metrics["test"]["nll"] != temporal.metrics["test"]["nll"]
    for trial in (hard, temporal):
        assert trial.curves.validation_nll[1] < trial.curves.validation_nll[0]
        assert trial.metrics["test"]["nce"] < 1


def test_a_study_that_goes_on_gives_the_same_bytes(folder, tmp_path):
    """One arm first, then the same study with both."""
    run_study(replace(RECIPE, also=()), tmp_path / "again", jobs=1)
    run_study(RECIPE, tmp_path / "again", jobs=1)
    assert stored_bytes(tmp_path / "again") == stored_bytes(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: {"decoded": a.decoded + 100}, "decoded must hold numbers of the 8 test sentences"),
        (lambda a: {"hypotheses": {}}, "hypotheses must hold those of 6 sentences by beams_1"),
        (lambda a: {"cer": {}}, r"cer must hold counts of the shape \(6, 4\) by beams_1"),
    ],
)
def test_damaged_arrays_are_refused(trial, change, says):
    with pytest.raises(InputError, match=says):
        replace(trial.arrays, **change(trial.arrays)).check()


def test_words_for_people(data):
    words = " ".join(TASK.data_words(data.summary))
    assert "30 training, 10 validation and 8 test utterances" in words
    assert f"{data.summary.test_rows} tokens" in words
    assert TASK.unit_words(data.summary) == "utterances"
    found = TASK.methods(RECIPE, data.summary)
    assert found["Vocabulary"][0].endswith("tokens for the characters of the texts to train on")
    assert "at 8,000 Hz" in found["Features"][1]
    subwords = TASK.methods(replace(RECIPE, vocabulary=300), data.summary)
    assert "byte-pair encoding" in subwords["Vocabulary"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"also": ("mixup:0.2",)}, "the objectives of speech must mix no inputs, got mixup:0.2"),
        ({"vocabulary": 100}, "vocabulary must be a whole number of at least 258, got 100"),
        ({"sample_rate": 100}, r"sample_rate must lie in 4000..384000, got 100"),
        ({"max_seconds": 0.0}, r"max_seconds must lie in \(0, 3600\], got 0"),
        ({"model": "large"}, "model must be one of small, base, hf:FOLDER, or module:factory"),
    ],
)
def test_settings_that_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        replace(RECIPE, **change)


def test_the_recipe_is_one_of_the_prompts():
    recipe = TASK.recipes["speech-prompts"]
    assert recipe.data.startswith("prompts:")
    assert {"unigram:0.1", "temporal:0.1"} <= set(recipe.also)


def test_the_command_line_trains_and_reports(tmp_path, capsys):
    out = tmp_path / "study"
    words = ["study", "speech", "--data", f"manifest:{FILE}", "--sample-rate", "8000", "--eps", "0"]
    words += ["--also", "temporal:0.1", "--epochs", "1", "--batch-size", "60", "--decode", "2"]
    words += ["--beams", "2", "--seeds", "1", "--jobs", "1", "--out", str(out)]
    assert main([*words, "--dry-run"]) == 0
    assert "30 training, 10 validation and 8 test utterances" in capsys.readouterr().out
    assert not out.exists()
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "report.html")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "The rows are tokens, drawn by whole utterances." in page
    for title in ("WER", "CER", "NCE", "temporal ε = 0.1"):
        assert f">{title}</th>" in page
    assert main([*words, "--data", "manifest:none.tsv"]) == 2
    assert "none.tsv" in capsys.readouterr().err
