"""Translation as a task of a study: training, and its numbers beside those of transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from translations import FILE, TINY
from trials import changed

from labelsmooth.cli import main
from labelsmooth.errors import InputError
from labelsmooth.measure import Calibration
from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study import load_study, run_study
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.store import load_weights
from labelsmooth.study.tasks import load_data
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED
from labelsmooth.study.tasks.translation import TASK, Recipe
from labelsmooth.study.tasks.translation.models import MODELS
from labelsmooth.study.training import load_network
from labelsmooth.study.trial import TrainedNetwork

RECIPE = Recipe(
    decode=6, beams=(1, 2), rectify=0.1, decode_temperatures=(0.8, 1.0),
    data=f"tsv:{FILE}", vocabulary=400, max_tokens=200, eps=(0.0, 0.1), seeds=1, epochs=2, batch_size=500,
    learning_rate=0.02,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "small", TINY)
        yield


@pytest.fixture(scope="module")
def data():
    return load_data(RECIPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("translation") / "study"
    run_study(RECIPE, out, jobs=1)
    return out


@pytest.fixture(scope="module")
def trial(folder):
    return load_study(folder).trials[0]


def test_numbers_are_those_of_transformers_and_of_full_logits(folder, trial, data):
    weights = load_weights(folder, trial.config)
    network = load_network(TrainedNetwork(config=trial.config, weights=weights), data.summary)
    for part in ("test", "validation"):
        sentences, losses, calibration = getattr(data, part), [], Calibration()
        for row in range(len(sentences)):
            batch = sentences.batch([row])
            with torch.no_grad():
                output = network.body(**batch.inputs, labels=batch.labels)
            losses.append(float(output.loss) * batch.labels.shape[1])
            calibration.update(output.logits[0].double(), batch.labels[0])
        result = calibration.compute()
        assert trial.metrics[part]["nll"] == pytest.approx(sum(losses) / sentences.rows, abs=1e-5)
        assert trial.metrics[part]["ece"] == pytest.approx(result.ece, abs=1e-5)
        assert trial.metrics[part]["accuracy"] == result.accuracy
    # after the last epoch, and never smoothed
    for stored in load_study(folder).trials:
        assert stored.curves.validation_nll[-1] == pytest.approx(
            stored.metrics["validation"]["nll"], abs=1e-5
        )


def test_arms_begin_alike_and_learn(folder):
    hard, smoothed = load_study(folder).trials
    assert smoothed.curves.train_loss[0] == pytest.approx(hard.curves.train_loss[0], rel=0.05)
    assert smoothed.metrics["test"]["nll"] != hard.metrics["test"]["nll"]
    for trial in (hard, smoothed):
        assert trial.curves.validation_nll[1] < trial.curves.validation_nll[0]


def test_the_same_study_gives_the_same_bytes(folder, tmp_path):
    run_study(RECIPE, tmp_path / "again", jobs=1)
    assert (tmp_path / "again" / "results.jsonl").read_bytes() == (folder / "results.jsonl").read_bytes()
    for trial in load_study(folder).trials:
        again = tmp_path / "again" / "trials" / trial.config.id / "arrays.npz"
        assert again.read_bytes() == (trial.folder / "arrays.npz").read_bytes()


def test_the_stored_summary_brings_text_back(folder, trial):
    from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary

    vocabulary = Vocabulary(load_study(folder).data.vocabulary)
    lengths = trial.arrays.test_lengths.tolist()
    first = vocabulary.decode([trial.arrays.test_labels[: lengths[0]].tolist()])
    assert first == [load_data(RECIPE).test.targets[0]]
    assert sum(lengths) == load_study(folder).data.test_rows


def test_scores_are_those_of_sacrebleu_on_the_stored_translations(folder, trial, data):
    from sacrebleu.metrics import BLEU, CHRF, TER

    arrays = trial.arrays
    assert len(arrays.decoded) == 6
    references = [data.test.targets[row] for row in arrays.decoded]
    assert arrays.source_tokens.tolist() == [
        token for row in arrays.decoded for token in data.test.source_tokens[row]
    ]
    parts = ("beams_1", "beams_2", "rectified_beams_1", "rectified_beams_2")
    assert [part for part in trial.metrics if "beams" in part] == [f"test_{part}" for part in parts]
    for part in parts:
        best = data.vocabulary.decode(arrays.hypotheses_of(part).best())
        metrics = trial.metrics[f"test_{part}"]
        for name, peer in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
            expected = peer.corpus_score(best, [references])
            assert metrics[name] == pytest.approx(expected.score, rel=1e-6)
            assert arrays.signatures[name].tobytes().decode() == peer.get_signature().format()
    moved = TASK.influences(trial.config, arrays, trial.metrics)["test_beams_2.chrf"]
    assert moved["decoded"].mean() == pytest.approx(trial.metrics["test_beams_2"]["chrf"])
    # at the temperature 1 the curve has the scores of the widest search
    curve = TASK.tables(arrays)["test"]["decoding_temperatures"]
    assert curve["temperature"].tolist() == [0.8, 1.0]
    for name, value in trial.metrics["test_beams_2"].items():
        assert curve[name][1] == value


def test_translations_are_those_of_generate(folder, trial, data):
    weights = load_weights(folder, trial.config)
    network = load_network(TrainedNetwork(config=trial.config, weights=weights), data.summary)
    row = trial.arrays.decoded[3]
    made = network.body.generate(
        torch.tensor([data.test.source_tokens[row]]), num_beams=2, num_return_sequences=2, max_new_tokens=200
    )
    stored = trial.arrays.hypotheses_of("beams_2")
    start = stored.lengths[:3].sum()
    for tokens, length in zip(made[:, 1:].tolist(), stored.lengths[3], strict=True):
        expected = [token for token in tokens if token not in (0, 1)]
        assert stored.tokens[start : start + length].tolist() == expected
        start += length


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: {"decoded": a.decoded + 100}, "decoded must hold numbers of the 10 test sentences"),
        (
            lambda a: {"source_tokens": a.source_tokens[1:]},
            "source_lengths must hold the lengths of 6 sentences",
        ),
        (lambda a: {"hypotheses": {}}, "hypotheses must hold those of 6 sentences by beams_1"),
        (lambda a: {"ter": {}}, "ter must hold 2 counts of 6 sentences by beams_1"),
    ],
)
def test_damaged_translations_are_refused(trial, change, says):
    with pytest.raises(InputError, match=says):
        replace(trial.arrays, **change(trial.arrays)).check()


def test_a_study_without_translations(tmp_path):
    (trial,) = run_study(replace(RECIPE, decode=0, eps=(0.0,), epochs=1), tmp_path / "study", jobs=1).trials
    assert not any("beams" in part for part in trial.metrics)
    assert trial.arrays.hypotheses == {}
    assert "decoding_temperatures" not in TASK.tables(trial.arrays)["test"]


class Half(Placement):
    """One of two processes that train together."""

    processes = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


@pytest.mark.parametrize("most", [500, 1])  # tokens of a batch; with 1 it has one sentence
@pytest.mark.parametrize("objective", ["hard", "uniform:0.1", "unigram:0.2", "confidence_penalty:0.1"])
def test_the_mean_loss_of_two_processes_is_that_of_the_batch(data, objective, most):
    config = changed(RECIPE.trials(data.summary.sha256)[0], objective=objective, batch_size=most)
    network = TASK.new_network(config, data.summary).eval()  # dropout differs between processes
    losses = []
    for placement in (Placement(), Half(0), Half(1)):
        session = TASK.begin(config, data, network, placement)
        criterion = Objective.parse(objective).criterion(
            TrainingFacts(class_counts=session.class_counts, steps=session.steps)
        )
        batch = next(iter(session.batches()))
        assert (len(batch.labels) > 1) == (most == 500)
        loss, rows = session.loss(network, batch, criterion, None)
        assert rows == int((batch.labels != UNCOUNTED).sum())
        loss.value.backward()
        losses.append(float(loss.value.detach()))
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2, rel=1e-5)


def test_an_epoch_counts_every_training_token_once(data):
    config = RECIPE.trials(data.summary.sha256)[0]
    session = TASK.begin(config, data, TASK.new_network(config, data.summary), Placement())
    batches = list(session.batches())
    assert len(batches) == session.steps
    assert sum(batch.rows for batch in batches) == data.summary.train_rows == int(session.class_counts.sum())
    labels = torch.cat([batch.labels[batch.labels != UNCOUNTED] for batch in batches])
    assert torch.equal(torch.bincount(labels, minlength=400), session.class_counts)


def test_a_training_that_breaks_down_is_stored_as_that(tmp_path):
    study = run_study(replace(RECIPE, learning_rate=1e30, epochs=1, clip=0.0), tmp_path / "study", jobs=1)
    assert len(study.diverged) == 2
    assert "most likely the learning rate 1e+30 is too large" in study.diverged[0].reason


def test_words_for_people(data):
    words = " ".join(TASK.data_words(data.summary))
    assert f"{data.summary.train_pairs} training" in words
    assert f"{data.summary.test_rows} target tokens" in words
    found = TASK.methods(RECIPE, data.summary)
    assert found["Vocabulary"][0].startswith("400 tokens of byte-pair encoding")
    assert TASK.result_words({"test": {"nll": 2.5}}) == "test NLL 2.500 a token"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"student": "small"}, "the student of a study of translation must be none, got small"),
        ({"also": ("mixup:0.2",)}, "the objectives of translation must mix no inputs, got mixup:0.2"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1"),
        ({"vocabulary": 100}, "vocabulary must be a whole number of at least 258, got 100"),
        ({"max_tokens": 1}, "max_tokens must be a whole number of at least 2, got 1"),
        ({"model": "large"}, "model must be one of small, base, hf:FOLDER, or module:factory"),
        ({"beams": (1, 0)}, "beams must be a whole number of at least 1, got 0"),
        ({"beams": (4, 4)}, "beams must not name a value twice, got 4, 4"),
        ({"beams": ()}, "beams must name at least one value, got none"),
        ({"rectify": 1.0}, r"rectify must lie in \[0, 1\), got 1"),
        ({"decode_temperatures": (0.0,)}, r"decode_temperatures must lie in \[0.01, 100\], got 0"),
        ({"decode": -1}, "decode must be a whole number of at least 0, got -1"),
        ({"length_penalty": float("inf")}, "length_penalty must be finite, got inf"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_that_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        replace(RECIPE, **change)


def test_a_name_depends_on_settings_that_differ_from_their_defaults():
    plain = Recipe().trials("0" * 64)[0]
    assert replace(plain, settings=replace(plain.settings, dropout=0.2)).id != plain.id
    assert np.all([trial.settings.schedule == "inverse_sqrt" for trial in Recipe().trials("0" * 64)])


def test_the_command_line_trains_goes_on_and_names_the_numbers(tmp_path, capsys):
    out = tmp_path / "study"
    words = ["study", "translation", "--data", f"tsv:{FILE}", "--vocabulary", "400", "--max-tokens", "200"]
    words += ["--eps", "0", "--epochs", "1", "--batch-size", "500", "--decode", "2", "--beams", "2"]
    words += ["--seeds", "1", "--jobs", "1", "--out", str(out)]
    assert main([*words, "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "--decode-temperatures" in planned
    assert "44 training, 10 validation and 10 test sentence pairs" in planned
    assert not out.exists()
    for complete in (0, 1):
        assert main(words) == 0
        told = capsys.readouterr()
        assert f"1 trials, {complete} of them complete" in told.err
        assert told.out.splitlines()[-1] == str(out / "report.html")
    assert '"test_beams_2": {"bleu": ' in (out / "results.jsonl").read_text()
    page = (out / "report.html").read_text(encoding="utf-8")
    for row in ("BLEU, beam search of 2", "chrF, beam search of 2", "perplexity, test rows"):
        assert row in page
    assert main([*words, "--data", "tsv:none.tsv"]) == 2
    assert "none.tsv" in capsys.readouterr().err
