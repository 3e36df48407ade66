"""Translation as a task of a study: training, and its numbers beside those of transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from translations import FILE, TINY

from labelsmooth.errors import InputError
from labelsmooth.measure import Calibration
from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study import load_study, run_study
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.store import load_weights
from labelsmooth.study.tasks import load_data
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED, make_batch
from labelsmooth.study.tasks.translation import TASK, Recipe
from labelsmooth.study.tasks.translation.models import MODELS
from labelsmooth.study.training import load_network
from labelsmooth.study.trial import TrainedNetwork

RECIPE = Recipe(
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
            batch = make_batch(sentences, [row], data.summary.pad)
            with torch.no_grad():
                output = network.body(input_ids=batch.sources, labels=batch.labels)
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


class Half(Placement):
    """One of two processes that train together."""

    processes = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


@pytest.mark.parametrize("objective", ["hard", "uniform:0.1", "unigram:0.2", "confidence_penalty:0.1"])
def test_the_mean_loss_of_two_processes_is_that_of_the_batch(data, objective):
    config = replace(RECIPE.trials(data.summary.sha256)[0], objective=objective)
    network = TASK.new_network(config, data.summary).eval()  # dropout differs between processes
    losses = []
    for placement in (Placement(), Half(0), Half(1)):
        session = TASK.begin(config, data, network, placement)
        criterion = Objective.parse(objective).criterion(
            TrainingFacts(class_counts=session.class_counts, steps=session.steps)
        )
        batch = next(iter(session.batches()))
        assert len(batch.labels) > 1
        loss, rows = session.loss(network, batch, criterion, None)
        assert rows == int((batch.labels != UNCOUNTED).sum()) <= 500
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
        ({"also": ("mixup:0.2",)}, "objectives of translation must not mix inputs, got mixup:0.2"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1"),
        ({"vocabulary": 100}, "vocabulary must be a whole number of at least 258, got 100"),
        ({"max_tokens": 1}, "max_tokens must be a whole number of at least 2, got 1"),
        ({"model": "large"}, "model must be one of small, base, hf:FOLDER, or module:factory"),
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
