"""Translation as a task of a study: training, and its numbers beside those of transformers."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_studies import stored_bytes
from token_networks import losses_of_halves
from translations import FILE
from trials import changed

from labelsmooth.cli import main
from labelsmooth.errors import InputError
from labelsmooth.measure import Calibration, PNorm
from labelsmooth.study import load_study, run_study
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.store import load_weights
from labelsmooth.study.tasks import load_data
from labelsmooth.study.tasks.sequences.decoded import decoded_fields, packed
from labelsmooth.study.tasks.sequences.quality import sentence_statistics
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED
from labelsmooth.study.tasks.translation import TASK, Recipe
from labelsmooth.study.tasks.translation.arrays import TranslationArrays
from labelsmooth.study.training import load_network
from labelsmooth.study.trial import TrainedNetwork

pytestmark = pytest.mark.usefixtures("tiny")

RECIPE = Recipe(
    decode=6, beams=(1, 2), rectify=0.1, decode_temperatures=(0.8, 1.0),
    data=f"tsv:{FILE}", vocabulary=400, max_tokens=200, eps=(0.0, 0.1), seeds=1, epochs=2, batch_size=500,
    learning_rate=0.02,
)  # fmt: skip


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


@pytest.mark.long
def test_the_same_study_gives_the_same_bytes(folder, tmp_path):
    run_study(RECIPE, tmp_path / "again", jobs=1)
    assert stored_bytes(tmp_path / "again") == stored_bytes(folder)


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
    parts = ("beams_1", "beams_2", "rectified_beams_1", "rectified_beams_2")
    searches = [part for part in trial.metrics if re.fullmatch("test_(rectified_)?beams_[0-9]+", part)]
    assert searches == [f"test_{part}" for part in parts]
    for part in parts:
        best = data.vocabulary.decode(arrays.hypotheses_of(part).best())
        metrics = trial.metrics[f"test_{part}"]
        for name, peer in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
            expected = peer.corpus_score(best, [references])
            assert metrics[name] == pytest.approx(expected.score, rel=1e-6)
            assert arrays.signatures[name].tobytes().decode() == peer.get_signature().format()
    moved = TASK.influences(trial.config, arrays, trial.metrics)["test_beams_2.chrf"]
    assert moved["decoded"].mean() == pytest.approx(trial.metrics["test_beams_2"]["chrf"])


def test_series_go_along_temperatures_and_beams(trial, data):
    series = TASK.series(trial.arrays)
    assert list(series) == ["temperatures", "positions", "frequencies", "beams", "coverage"]
    nll, ece, bleu = series["temperatures"]
    assert (nll.quantity, ece.quantity, bleu.quantity) == ("nll", "ece", "bleu")
    assert bleu.at.tolist() == [0.8, 1.0]
    # at the temperature 1 the curve has the score of the widest search
    assert bleu.values[1] == pytest.approx(trial.metrics["test_beams_2"]["bleu"])
    # at the temperature 1 alone there is nothing to go along
    alone = {
        name: found for name, found in trial.arrays.hypotheses.items() if name != trial.arrays.curve[0.8]
    }
    one = TASK.series(replace(trial.arrays, hypotheses=alone))["temperatures"]
    assert [each.quantity for each in one] == ["nll", "ece"]
    names = ["bleu", "chrf", "length_ratio"]
    assert [one.quantity for one in series["beams"]] == 2 * names
    for one in series["beams"]:
        assert list(one.words) == ["1", "2"]
        how = "rectified_" if one.title.endswith(", rectified") else ""
        expected = [trial.metrics[f"test_{how}beams_{beams}"][one.quantity] for beams in (1, 2)]
        assert one.values == pytest.approx(expected)
    assert len(series["coverage"]) == 5
    for one in series["coverage"]:
        assert one.values[-1] == pytest.approx(trial.metrics["test_beams_2"]["sentence_risk"])
    assert [one.title for one in series["coverage"][:2]] == [
        "by the product of probabilities",
        "by the mean log-probability",
    ]


def test_texts_are_those_of_the_data(trial, data):
    texts = TASK.texts(data.summary, trial.arrays)
    assert texts.way == "beam search of 2"
    assert list(texts.sources) == [data.test.sources[row] for row in trial.arrays.decoded]
    assert list(texts.references) == [data.test.targets[row] for row in trial.arrays.decoded]
    assert list(texts.outputs) == data.vocabulary.decode(trial.arrays.hypotheses_of("beams_2").best())
    assert len(texts.scores) == 6


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


def test_confidences_are_those_of_transformers(folder, trial, data):
    weights = load_weights(folder, trial.config)
    network = load_network(TrainedNetwork(config=trial.config, weights=weights), data.summary)
    arrays, pad, end = trial.arrays, data.summary.pad, data.summary.end
    temperature = arrays.temperature or 1.0
    pnorm = PNorm()
    pnorm.p = int(arrays.pnorm) or None
    for name, confidences in arrays.confidences.items():
        for row, best, stored in zip(
            arrays.decoded, arrays.hypotheses_of(name).best(), confidences, strict=True
        ):
            labels = torch.tensor([[*best, end][: data.summary.max_tokens]])
            with torch.no_grad():
                output = network.body(input_ids=torch.tensor([data.test.source_tokens[row]]), labels=labels)
            logits = output.logits[0].double()
            number = labels.numel()
            assert stored[0] == number
            assert stored[1] == pytest.approx(-number * float(output.loss), abs=1e-5 * number)
            scaled = torch.nn.functional.cross_entropy(logits / temperature, labels[0], reduction="sum")
            assert stored[2] == pytest.approx(-float(scaled), abs=1e-5 * number)
            assert stored[3] == pytest.approx(float(pnorm.confidence(logits).mean()), abs=1e-5)
    assert pad not in arrays.hypotheses["beams_2"]


def test_the_pnorm_is_that_of_full_logits(folder, trial, data):
    weights = load_weights(folder, trial.config)
    network = load_network(TrainedNetwork(config=trial.config, weights=weights), data.summary)
    features, weight, bias = network.predict(data.validation)
    logits = torch.nn.functional.linear(features, weight, bias).double()
    assert int(trial.arrays.pnorm) == (PNorm().fit(logits, data.validation.labels).p or 0)


def test_log_probabilities_are_the_scores_of_generate(folder, trial, data):
    weights = load_weights(folder, trial.config)
    network = load_network(TrainedNetwork(config=trial.config, weights=weights), data.summary)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():  # so that sentences differ, and some end
        for parameter in network.body.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                parameter.normal_(0, 0.5, generator=chance)
        network.body.final_logits_bias[0, data.summary.end] = 5.0
    data = replace(data, summary=replace(data.summary, max_tokens=6))
    settings = replace(trial.config.settings, beams=(4,), rectify=0.0, decode_temperatures=())
    with torch.no_grad():
        found = decoded_fields(
            TranslationArrays, network, data.test, data.vocabulary, data.summary, settings,
            statistics=sentence_statistics, temperature=1.0, pnorm=PNorm().fit(torch.eye(3), torch.arange(3)),
        )  # fmt: skip
    lengths = found["hypothesis_lengths"]["beams_4"][:, 0]
    assert lengths.min() < lengths.max() == 6  # the longest have no end
    for row, stored in zip(found["decoded"], found["confidences"]["beams_4"], strict=True):
        made = network.body.generate(
            torch.tensor([data.test.source_tokens[row]]), num_beams=4, length_penalty=1.0,
            max_new_tokens=data.summary.max_tokens, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        assert stored[1] / stored[0] == pytest.approx(float(made.sequences_scores[0]), abs=1e-5)


def test_all_translations_of_the_widest_search_are_counted(trial, data):
    arrays = trial.arrays
    assert arrays.widest == "beams_2"
    texts = data.vocabulary.decode(arrays.hypotheses_of("beams_2").all())
    assert len(texts) == 12
    for number, row in enumerate(arrays.decoded):
        for place in range(2):
            expected = sentence_statistics([texts[2 * number + place]], [data.test.targets[row]])
            for score in ("bleu", "chrf"):
                np.testing.assert_array_equal(arrays.nbest[score][number, place], expected[score][0])


def test_the_best_of_several_and_the_order_of_sentences_are_measured(trial, data):
    import sacrebleu

    arrays = trial.arrays
    references = [data.test.targets[row] for row in arrays.decoded]
    texts = data.vocabulary.decode(arrays.hypotheses_of("beams_2").all())
    scores = [sacrebleu.sentence_chrf(text, [references[n // 2]]).score for n, text in enumerate(texts)]
    best = [texts[2 * n + int(scores[2 * n + 1] > scores[2 * n])] for n in range(6)]
    found = trial.metrics["test_best_of_2"]
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(best, [references]).score, rel=1e-6)
    assert found["chrf"] >= trial.metrics["test_beams_2"]["chrf"]
    risk = 1 - np.array(scores[::2]) / 100
    tokens, log_probs = arrays.confidences["beams_2"][:, :2].T
    for order, confidence in (("product", log_probs), ("mean", log_probs / tokens)):
        expected = np.mean([risk[confidence >= one].mean() for one in confidence])
        part = f"test_beams_2_by_{order}"
        assert trial.metrics[part]["sentence_aurc"] == pytest.approx(expected)
        moved = TASK.influences(trial.config, arrays, trial.metrics)[f"{part}.sentence_aurc"]["decoded"]
        assert moved.mean() == pytest.approx(expected)
    words = TASK.part_words(trial.metrics)
    assert words["test_best_of_2"] == "best of 2 hypotheses"
    assert len([part for part in words if "_by_" in part]) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: {"decoded": a.decoded + 100}, "decoded must hold numbers of the 10 test sentences"),
        (lambda a: {"sources": packed(["one"])}, "sources must hold 6 texts"),
        (lambda a: {"sources": a.sources[1:]}, "sources must hold texts, it is damaged"),
        (lambda a: {"references": packed([1] * 6)}, "references must hold 6 texts"),
        (lambda a: {"hypotheses": {}}, "hypotheses must hold those of 6 sentences by beams_1"),
        (lambda a: {"hypothesis_lengths": {}}, "hypotheses must hold those of 6 sentences by beams_1"),
        (
            lambda a: {"hypotheses": {name: tokens + 400 for name, tokens in a.hypotheses.items()}},
            r"hypotheses must hold [0-9,]+ tokens in 0..399 by beams_1",
        ),
        (lambda a: {"ter": {}}, r"ter must hold counts of the shape \(6, 2\) by beams_1"),
        (lambda a: {"chrf": {name: -1 - counts for name, counts in a.chrf.items()}}, "chrf must hold counts"),
        (lambda a: {"confidences": {}}, "confidences must hold the number of tokens, two"),
        (
            lambda a: {"confidences": {n: each * [1, -1, 1, 1] for n, each in a.confidences.items()}},
            "two log-probabilities of at most 0 and a p-norm in 0..1 of each of 6 sentences by beams_1",
        ),
        (lambda a: {"pnorm": np.array(11)}, "pnorm must be a whole number in 0..10"),
        (lambda a: {"nbest": {}}, r"nbest must hold counts of the shape \(6, 2, 10\) for bleu"),
        (
            lambda a: {"nbest": {score: counts + 1 for score, counts in a.nbest.items()}},
            "nbest must begin with the counts that bleu has of beams_2",
        ),
    ],
)
def test_damaged_translations_are_refused(trial, change, says):
    with pytest.raises(InputError, match=says):
        replace(trial.arrays, **change(trial.arrays)).check()


def test_a_study_without_translations(tmp_path):
    (trial,) = run_study(replace(RECIPE, decode=0, eps=(0.0,), epochs=1), tmp_path / "study", jobs=1).trials
    assert not any("beams" in part for part in trial.metrics)
    assert trial.arrays.hypotheses == {}
    series = TASK.series(trial.arrays)
    assert (series["beams"], series["coverage"], len(series["temperatures"])) == ([], [], 2)
    assert TASK.texts(load_data(RECIPE).summary, trial.arrays) is None


@pytest.mark.parametrize("most", [500, 1])  # tokens of a batch; with 1 it has one sentence
@pytest.mark.parametrize(
    "objective", ["hard", "uniform:0.1", "unigram:0.2", "temporal:0.1", "confidence_penalty:0.1"]
)
def test_the_mean_loss_of_two_processes_is_that_of_the_batch(data, objective, most):
    config = changed(RECIPE.trials(data.summary.sha256)[0], objective=objective, batch_size=most)
    batch = next(
        iter(TASK.begin(config, data, TASK.new_network(config, data.summary), Placement()).batches())
    )
    assert (len(batch.labels) > 1) == (most == 500)
    losses = losses_of_halves(TASK, config, data, batch)
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
    for option in ("--student", "--temperatures", "--beta", "--momentum", "--drops"):  # none is in use
        assert f"\n{option} " not in planned
    # 44 pairs make a few steps
    steps = int(re.search(r"^steps +(\d+) a trial of small", planned, re.MULTILINE)[1])
    assert (
        f"hardly anything is learned from nothing: 1,000 would take --epochs {-(-1000 // steps)}" in planned
    )
    assert main([*words, "--dry-run", "--decode", "0"]) == 0
    assert "--beams" not in capsys.readouterr().out
    assert "44 training, 10 validation and 10 test sentence pairs" in planned
    assert not out.exists()
    for complete in (0, 1):
        assert main(words) == 0
        told = capsys.readouterr()
        assert f"1 trials, {complete} of them complete" in told.err
        assert told.out.splitlines()[-1] == str(out / "report.html")
    assert '"test_beams_2": {"bleu": ' in (out / "results.jsonl").read_text()
    page = (out / "report.html").read_text(encoding="utf-8")
    for title in ("BLEU", "chrF", "Beam search of 2", "TER", "perplexity"):
        assert f">{title}</th>" in page
    assert main([*words, "--data", "tsv:none.tsv"]) == 2
    assert "none.tsv" in capsys.readouterr().err
