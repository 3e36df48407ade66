"""Language models as a task of a study: training, and its numbers beside those of transformers."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from texts import write_prose, write_questions
from tiny_studies import stored_bytes
from token_networks import losses_of_halves, save_network
from trials import changed

from labelsmooth.cli import main
from labelsmooth.errors import InputError
from labelsmooth.measure import Calibration
from labelsmooth.report import verdict, write_report
from labelsmooth.study import run_study
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.store import load_weights
from labelsmooth.study.tasks import load_data
from labelsmooth.study.tasks.language_model import TASK, Recipe
from labelsmooth.study.tasks.language_model.measuring import of_documents
from labelsmooth.study.tasks.language_model.recipes import RECIPES
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED
from labelsmooth.study.tasks.sequences.tokens import by_sentence
from labelsmooth.study.training import load_network
from labelsmooth.study.trial import TrainedNetwork

pytestmark = pytest.mark.usefixtures("tiny")

SETTINGS = {
    "vocabulary": 400, "max_tokens": 60, "eps": (0.0, 0.1), "seeds": 1, "epochs": 2, "batch_size": 500,
    "learning_rate": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def prose(texts):
    """A study of documents that are cut into pieces."""
    recipe = Recipe(data=write_prose(texts), **{**SETTINGS, "max_tokens": 20})
    return run_study(recipe, texts / "prose", jobs=1)


@pytest.fixture(scope="module")
def choices(texts):
    """A study of multiple choice that trains a saved network further."""
    recipe = Recipe(data=write_questions(texts), **SETTINGS)
    data = load_data(recipe)
    first = recipe.trials(data.summary.sha256)[0]
    network = TASK.new_network(replace(first, seed=7), data.summary)
    model = save_network(network, data.vocabulary, texts / "model")
    return run_study(replace(recipe, model=model), texts / "choices", jobs=1)


def bodies(study):
    """The network of the first trial, before and after its training, and its data."""
    data, (trial, _) = load_data(study.recipe), study.trials
    weights = load_weights(study.folder, trial.config)
    trained = load_network(TrainedNetwork(config=trial.config, weights=weights), data.summary)
    return TASK.new_network(trial.config, data.summary).eval().body, trained.body, data


@pytest.mark.parametrize("name", ["prose", "choices"])
def test_numbers_of_tokens_are_those_of_transformers_and_of_full_logits(name, request):
    study = request.getfixturevalue(name)
    before, after, data = bodies(study)
    metrics = study.trials[0].metrics
    for part, body, sentences in (
        ("test", after, data.test),
        ("validation", after, data.validation),
        ("test_before", before, data.test),
    ):
        if part not in metrics:
            assert name == "prose"
            continue
        losses, calibration = [], Calibration()
        for row in range(len(sentences)):
            batch = sentences.batch([row])
            with torch.no_grad():
                output = body(**batch.inputs, labels=batch.labels)
            counted = batch.labels[0] != UNCOUNTED
            losses.append(float(output.loss) * int(counted.sum()))
            calibration.update(output.logits[0, :-1][counted[1:]].double(), batch.labels[0][counted])
        result = calibration.compute()
        assert metrics[part]["nll"] == pytest.approx(sum(losses) / sentences.rows, abs=1e-5)
        assert metrics[part]["ece"] == pytest.approx(result.ece, abs=1e-5)
        assert metrics[part]["accuracy"] == result.accuracy


def test_arms_begin_alike_and_learn(prose):
    hard, smoothed = prose.trials
    assert smoothed.curves.train_loss[0] == pytest.approx(hard.curves.train_loss[0], rel=0.05)
    assert smoothed.metrics["test"]["nll"] != hard.metrics["test"]["nll"]
    for trial in (hard, smoothed):
        assert trial.curves.validation_nll[1] < trial.curves.validation_nll[0]
        assert trial.curves.validation_nll[1] == pytest.approx(trial.metrics["validation"]["nll"], abs=1e-5)


def test_choices_stand_beside_the_nll(choices):
    found = verdict(choices)
    names = ["test_choice.accuracy", "test_choice.ece"]
    assert list(found.scores)[:3] == [*names, "accuracy"]
    assert [found.scores[name].quantity.label for name in names] == [
        "accuracy of choices (%)",
        "ECE of choices (%)",
    ]
    metrics = choices.trials[0].metrics
    for arm, part in zip(found.arms[:2], ("test_choice", "test_choice_with_temperature"), strict=True):
        for name in names:
            assert arm.scores[name].mean == metrics[part][name.rpartition(".")[2]]


def test_choices_are_a_softmax_over_the_options(choices):
    trial, (before, after, data) = choices.trials[0], bodies(choices)
    for part, name, body in (
        ("test", "log_probs", after),
        ("test_before", "log_probs_before", before),
        ("validation", "log_probs", after),
    ):
        rows, scored = part.partition("_")[0], []
        options, answers = data.choices[rows].options, data.choices[rows].answers
        for row in range(len(options)):
            prompt, target = options.prompt_tokens[row], options.target_tokens[row]
            with torch.no_grad():
                logits = body(torch.tensor([[*prompt, *target]])).logits[0, len(prompt) - 1 : -1].double()
            scored.append(logits.log_softmax(-1)[torch.arange(len(target)), list(target)])
        np.testing.assert_allclose(
            getattr(trial.arrays, f"{rows}_choices")[name], [float(each.sum()) for each in scored], atol=1e-5
        )
        for way, reduce in (("choice", torch.sum), ("choice_by_mean", torch.mean)):
            calibration, start = Calibration(), 0
            nll = []
            for count, answer in zip(options.pieces.tolist(), answers, strict=True):
                own = torch.stack([reduce(each) for each in scored[start : start + count]])
                start += count
                calibration.update(own[None], torch.tensor([answer]))
                nll.append(-float(own.log_softmax(0)[answer]))
            result, metrics = calibration.compute(), trial.metrics[f"{part}_{way}"]
            assert metrics["accuracy"] == result.accuracy
            for name, expected in (("ece", result.ece), ("ece_l2", result.ece_l2), ("nll", np.mean(nll))):
                assert metrics[name] == pytest.approx(expected, abs=1e-5)


def ragged(state, way):
    """The log-probabilities of the options of each question, and the number of the right one."""
    values = state["log_probs"] / (state["lengths"] if way == "choice_by_mean" else 1)
    return list(zip(np.split(values, np.cumsum(state["counts"])[:-1]), state["answers"], strict=True))


def nll_at(questions, temperature):
    return np.mean([logsumexp(z / temperature) - z[right] / temperature for z, right in questions])


@pytest.mark.parametrize("way", ["choice", "choice_by_mean"])
def test_the_temperature_of_choices_is_that_of_the_validation_questions(choices, way):
    assert "temperature" in choices.trials[0].metrics["fitted_choice_by_mean"]
    for trial in choices.trials:
        asked, tested = (
            ragged(getattr(trial.arrays, f"{part}_choices"), way) for part in ("validation", "test")
        )
        fitted, metrics = trial.metrics[f"fitted_{way}"], trial.metrics[f"test_{way}_with_temperature"]
        assert fitted["rows"] == choices.data.validation_documents
        temperature = fitted.get("temperature", 1.0)
        if "temperature" in fitted:
            lowest = minimize_scalar(partial(nll_at, asked), bounds=(1e-3, 1e3), method="bounded")
            assert fitted["temperature"] == pytest.approx(lowest.x, rel=1e-3)
        calibration = Calibration()
        for z, right in tested:
            calibration.update(torch.from_numpy(z / temperature)[None], torch.tensor([right]))
        result = calibration.compute()
        assert metrics["nll"] == pytest.approx(nll_at(tested, temperature), rel=1e-9)
        assert (metrics["ece"], metrics["ece_l2"]) == pytest.approx((result.ece, result.ece_l2), rel=1e-9)
        assert metrics["accuracy"] == trial.metrics[f"test_{way}"]["accuracy"]


def test_validation_questions_move_what_depends_on_their_temperature(choices):
    trial = choices.trials[0]
    known = TASK.influences(trial.config, trial.arrays, trial.metrics)
    temperature = trial.metrics["fitted_choice_by_mean"]["temperature"]
    on_log = known["fitted_choice_by_mean.temperature"]["validation"] / temperature
    assert on_log.mean() == pytest.approx(0, abs=1e-9)
    tested, step = ragged(trial.arrays.test_choices, "choice_by_mean"), on_log.std() / np.sqrt(len(on_log))
    above, below = (nll_at(tested, temperature * np.exp(way)) for way in (step, -step))
    np.testing.assert_allclose(
        known["test_choice_by_mean_with_temperature.nll"]["validation"],
        (above - below) / (2 * step) * on_log,
        rtol=1e-6,
    )


def test_questions_that_tell_no_temperature_leave_it_at_1(choices):
    trial = choices.trials[0]
    state = trial.arrays.validation_choices
    starts = np.cumsum(state["counts"]) - state["counts"]
    sure = np.full_like(state["log_probs"], -9.0)
    sure[starts + state["answers"]] = -1.0  # all are right, so that no confidence is too high
    arrays = replace(trial.arrays, validation_choices={**state, "log_probs": sure})
    metrics = TASK.measure(trial.config, arrays)
    assert metrics["fitted_choice"] == {"rows": len(state["counts"])}
    assert metrics["test_choice_with_temperature"] == metrics["test_choice"]
    known = TASK.influences(trial.config, arrays, metrics)
    assert not known["test_choice_with_temperature.ece"]["validation"].any()


@pytest.mark.parametrize("name", ["prose", "choices"])
def test_the_mean_of_the_influences_is_the_number(name, request):
    study = request.getfixturevalue(name)
    for trial in study.trials:
        known = TASK.influences(trial.config, trial.arrays, trial.metrics)
        for field, influence in known.items():
            part, _, number = field.partition(".")
            if "test" in influence and part in trial.metrics:
                assert len(influence["test"]) == study.data.test_documents
                value = trial.metrics[part][number]
                # bins that rows leave beside them move the calibration errors by more than rounding
                assert influence["test"].mean() == pytest.approx(value, rel=1e-4, abs=1e-6), field
        for found in TASK.series(trial.arrays).values():
            assert {series.influences["test"].shape[1] for series in found} == {study.data.test_documents}
        guess = TASK.constant_guess(trial.arrays)
        assert {len(values) for values in guess.values()} == {study.data.test_documents}
    if name == "choices":
        assert {"test_choice.ece", "test_before_choice_by_mean.nll", "test_before.ece_l2"} <= set(known)


def test_the_influence_of_a_document_is_that_of_its_tokens_together():
    values = np.random.default_rng(0).normal(2, 1, 40)
    lengths, pieces = np.array([7, 9, 4, 6, 10, 4], np.int32), np.array([2, 1, 3], np.int32)
    whole = by_sentence(values, np.array([16, 4, 20], np.int32))
    np.testing.assert_allclose(of_documents(by_sentence(values, lengths), pieces), whole, rtol=1e-12)


def test_a_study_goes_on_with_the_same_bytes(prose, tmp_path):
    run_study(replace(prose.recipe, eps=(0.0,)), tmp_path / "again", jobs=1)
    run_study(prose.recipe, tmp_path / "again", jobs=1)
    assert stored_bytes(tmp_path / "again") == stored_bytes(prose.folder)


def test_the_report_has_the_numbers_of_choices(choices, prose):
    page = write_report(choices.folder).path.read_text(encoding="utf-8")
    for section, rows in {
        "Test rows: texts": ["perplexity"],
        "Test rows": ["NLL (nats), before training"],
        "Choice by log-likelihood": ["accuracy (%), before training"],
        "Choice by mean log-likelihood of a token": [
            "ECE, L2 (%), before training",
            "temperature",
            "ECE, L2 (%), at the temperature fitted on choices",
        ],
    }.items():
        told = page.partition(f">{section}</th>")[2].partition('<tr class="section">')[0]
        for row in rows:
            assert f'<th scope="row">{row}' in told, (section, row)
    page = write_report(prose.folder).path.read_text(encoding="utf-8")
    assert "choice by" not in page
    assert "test documents" in page


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: {"test_pieces": a.test_pieces[1:]}, "test_pieces must hold how many of"),
        (
            lambda a: {"test_choices": {**a.test_choices, "answers": a.test_choices["answers"] + 9}},
            "test_choices must hold counts",
        ),
        (
            lambda a: {"test_choices": {"counts": a.test_choices["counts"]}},
            "test_choices must hold counts and answers",
        ),
        (lambda a: {"validation_choices": {}}, "validation_choices must hold counts and answers"),
        (
            lambda a: {"test_choices": {**a.test_choices, "log_probs": a.test_choices["log_probs"][1:]}},
            "test_choices must hold finite log_probs of",
        ),
    ],
)
def test_damaged_arrays_are_refused(choices, change, says):
    arrays = choices.trials[0].arrays
    arrays.check()
    with pytest.raises(InputError, match=says):
        replace(arrays, **change(arrays)).check()


def test_an_epoch_counts_every_training_token_once(choices):
    data, config = load_data(choices.recipe), choices.trials[0].config
    session = TASK.begin(config, data, TASK.new_network(config, data.summary), Placement())
    batches = list(session.batches())
    assert len(batches) == session.steps
    assert sum(batch.rows for batch in batches) == data.summary.train_rows == int(session.class_counts.sum())
    # prompts count in the size of a batch
    assert all(int(batch.inputs["attention_mask"].sum()) <= 500 for batch in batches)


@pytest.mark.parametrize("sentences", [10, 1])  # of a batch
@pytest.mark.parametrize("objective", ["uniform:0.1", "confidence_penalty:0.1"])
def test_the_mean_loss_of_two_processes_is_that_of_the_batch(choices, objective, sentences):
    data = load_data(choices.recipe)
    config = changed(choices.trials[0].config, objective=objective)
    losses = losses_of_halves(TASK, config, data, data.train.batch(range(sentences)))
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2, rel=1e-5)


def test_words_for_people(choices, prose):
    words = " ".join(TASK.data_words(choices.data))
    assert f"{choices.data.train_documents} training" in words
    assert f"{choices.data.test_options} options of test questions" in words
    assert (TASK.unit_words(choices.data), TASK.unit_words(prose.data)) == ("questions", "documents")
    found = TASK.methods(choices.recipe, choices.data)
    assert found["Rows"][0] == "tokens of answers, with the end of each"
    assert found["Vocabulary"][0] == "400 tokens"
    found = TASK.methods(prose.recipe, prose.data)
    assert found["Vocabulary"][0].startswith("400 tokens of byte-pair encoding")
    assert "Texts" not in found  # none was left out
    repeated = TASK.methods(prose.recipe, replace(prose.data, repeated=2))
    assert "2 paragraphs that are among the validation or test" in repeated["Texts"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1"),
        ({"vocabulary": 100}, "vocabulary must be a whole number of at least 258, got 100"),
        ({"max_tokens": 1}, "max_tokens must be a whole number of at least 2, got 1"),
        ({"model": "large"}, "model must be one of small, base, hf:FOLDER, or module:factory"),
    ],
)
def test_settings_that_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        Recipe(**change)


def test_the_recipe_of_prose_is_of_three_seeds_and_both_arms():
    recipe = RECIPES["lm-prose"]
    assert (recipe.data, recipe.eps, recipe.seeds) == ("verses:k", (0.0, 0.1), 3)


def test_the_command_line_plans_and_refuses_in_one_sentence(texts, tmp_path, capsys):
    out = tmp_path / "study"
    words = ["study", "language-model", "--recipe", "lm-prose", "--vocabulary", "400", "--out", str(out)]
    assert main([*words, "--data", write_prose(texts), "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "44 training, 10 validation and 10 test documents" in planned
    assert "--decode" not in planned
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "Is it day?"}\n')
    assert main([*words, "--data", f"jsonl:{bad}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("labelsmooth: error: line 1 of ")
    assert told.count("\n") == 1
    assert not out.exists()
