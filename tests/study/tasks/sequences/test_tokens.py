"""Numbers of tokens from their row statistics, beside the same from full logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from labelsmooth.errors import InputError
from labelsmooth.measure import Calibration, Selective, TemperatureScaling
from labelsmooth.measure.influence import log_temperature_influence
from labelsmooth.objectives.criterion import LinearOutput
from labelsmooth.study.tasks.sequences.forced import TEMPERATURES, ForcedTokens, fit_temperature, token_arrays
from labelsmooth.study.tasks.sequences.sentences import SentencePairs
from labelsmooth.study.tasks.sequences.tokens import (
    by_sentence,
    measure_tokens,
    token_constant_guess,
    token_influences,
    token_tables,
)

K, WIDTH = 30, 8
WEIGHT, BIAS = (
    torch.randn(*shape, generator=torch.Generator().manual_seed(9)) for shape in ((K, WIDTH), (K,))
)


def predicted(seed: int, number: int = 60) -> tuple[LinearOutput, SentencePairs]:
    """Sentences of 1 to 25 tokens, which an over-confident layer knows with noise."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 26, (number,), generator=generator).tolist()
    states = torch.randn(sum(lengths), WIDTH, generator=generator)
    noise = -torch.empty(len(states), K).exponential_(generator=generator).log()
    labels = (0.6 * F.linear(states, WEIGHT, BIAS) + noise).argmax(-1).tolist()
    tokens, rest = [], iter(labels)
    for length in lengths:
        tokens.append(tuple(next(rest) for _ in range(length)))
    texts = ("",) * number
    sentences = SentencePairs(
        sources=texts, targets=texts, source_tokens=((1,),) * number, target_tokens=tuple(tokens), pad=0
    )
    return LinearOutput(states, WEIGHT, BIAS), sentences


TEST, VALIDATION = predicted(0), predicted(1)
COUNTS = torch.arange(K) * 40


def logits_of(part) -> tuple[torch.Tensor, torch.Tensor]:
    output, sentences = part
    return F.linear(*output).double(), sentences.labels


@pytest.fixture(scope="module")
def arrays():
    found = token_arrays(TEST[0], VALIDATION[0], TEST[1], VALIDATION[1], COUNTS)
    found.check()
    return found


def test_numbers_are_those_of_the_full_logits(arrays):
    metrics = measure_tokens(arrays)
    (logits, labels), validation = logits_of(TEST), logits_of(VALIDATION)
    scaling = TemperatureScaling().fit(*validation)
    assert metrics["fitted"] == {
        "rows": len(validation[1]),
        "temperature": pytest.approx(scaling.temperature),
    }
    assert scaling.temperature > 1.3
    for part, scores, target in (
        ("test", logits, labels),
        ("test_with_temperature", logits / scaling.temperature, labels),
        ("validation", *validation),
        ("validation_with_temperature", validation[0] / scaling.temperature, validation[1]),
    ):
        calibration, selective = Calibration(), Selective()
        calibration.update(scores, target)
        selective.update(scores, target)
        expected = {**calibration.values(), **selective.values()}
        assert metrics[part]["perplexity"] == pytest.approx(np.exp(F.cross_entropy(scores, target).item()))
        assert {name: metrics[part][name] for name in expected} == pytest.approx(expected, abs=2e-6)


def test_logits_exist_some_hundred_rows_at_a_time():
    tokens = ForcedTokens(*(TEST[0], TEST[1].labels, "the test"))
    batches = list(tokens.batches())
    assert max(len(batch.labels) for batch in batches) <= 512 < len(TEST[1].labels)
    torch.testing.assert_close(
        torch.cat([batch.scores for batch in batches]), logits_of(TEST)[0], rtol=1e-6, atol=1e-6
    )


def test_the_curve_is_that_of_the_scaled_logits(arrays):
    logits, labels = logits_of(TEST)
    curve = token_tables(arrays)["test"]["temperatures"]
    assert curve["temperature"].tolist() == list(TEMPERATURES)
    assert curve["temperature"][[0, 4, -1]].tolist() == [0.6, 1.0, 1.6]
    for temperature, nll, ece in zip(*curve.values(), strict=True):
        calibration = Calibration()
        calibration.update(logits / temperature, labels)
        assert (nll, ece) == pytest.approx((calibration.compute().nll, calibration.compute().ece), abs=1e-5)


def test_the_influence_of_a_sentence_on_a_mean_is_what_leaving_it_out_does():
    lengths = TEST[1].lengths.numpy().astype(np.int32)
    values = np.random.default_rng(0).exponential(size=lengths.sum())
    influence = by_sentence(values, lengths)
    assert influence.mean() == pytest.approx(values.mean())
    ends = np.cumsum(lengths)
    for sentence in (0, 7, 59):
        inside = slice(ends[sentence] - lengths[sentence], ends[sentence])
        without = np.delete(values, inside).mean()
        exactly = (values.mean() - without) * (len(values) - lengths[sentence]) * len(lengths) / len(values)
        assert influence[sentence] - values.mean() == pytest.approx(exactly)


def test_influences_have_the_numbers_as_their_means(arrays):
    metrics = measure_tokens(arrays)
    for name, moved in token_influences(arrays, metrics).items():
        part, _, quantity = name.partition(".")
        if "test" in moved:
            assert len(moved["test"]) == 60
            assert moved["test"].mean() == pytest.approx(metrics[part][quantity], rel=1e-4), name
        if "validation" in moved:
            assert len(moved["validation"]) == 60
            assert moved["validation"].mean() == pytest.approx(0, abs=1e-6), name


def test_the_influence_on_the_temperature_is_that_of_the_logits_and_of_refitting(arrays):
    logits, labels = logits_of(VALIDATION)
    lengths = VALIDATION[1].lengths.numpy()
    temperature = arrays.temperature
    of_token = log_temperature_influence(logits.numpy(), labels.numpy(), temperature)
    expected = by_sentence(of_token, lengths)
    np.testing.assert_allclose(arrays.fitted["influence"], expected, rtol=2e-3, atol=2e-3)
    sentence = int(np.abs(expected).argmax())
    weights = np.repeat(1 + 0.1 * (np.arange(60) == sentence), lengths)
    again = TemperatureScaling().fit(logits, labels, weights).temperature
    assert np.log(again / temperature) == pytest.approx(0.1 * expected[sentence] / 60, rel=0.05)


def test_what_the_temperature_does_to_other_numbers(arrays):
    moved = token_influences(arrays, measure_tokens(arrays))["test_with_temperature.mean_confidence"][
        "validation"
    ]
    logits, _ = logits_of(TEST)

    def mean_confidence(temperature):
        return (logits / temperature).softmax(-1).max(-1).values.mean().item()

    step = 1e-4
    slope = (
        mean_confidence(arrays.temperature * np.exp(step))
        - mean_confidence(arrays.temperature * np.exp(-step))
    ) / (2 * step)
    np.testing.assert_allclose(moved, slope * arrays.fitted["influence"], rtol=0.02, atol=1e-6)


def test_tables_by_position_and_by_frequency_of_the_label(arrays):
    logits, labels = logits_of(TEST)
    lengths = TEST[1].lengths.tolist()
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    for name, of_token, least, most in (
        ("positions", position, 5, 8),
        ("frequencies", COUNTS[labels].numpy(), 100, 999),
    ):
        table = token_tables(arrays)["test_with_temperature"][name]
        assert table["rows"].sum() == len(labels)
        (row,) = np.flatnonzero(table["least"] == least)
        inside = torch.from_numpy((of_token >= least) & (of_token <= most))
        calibration = Calibration()
        calibration.update(logits[inside] / arrays.temperature, labels[inside])
        result = calibration.compute()
        expected = {name: getattr(result, name) for name in ("accuracy", "mean_confidence", "nll", "ece")}
        assert {name: table[name][row] for name in expected} == pytest.approx(expected, abs=1e-5)
        assert table["most"][row] <= most


def test_a_constant_guess_is_that_of_the_shares():
    found = token_arrays(TEST[0], VALIDATION[0], TEST[1], VALIDATION[1], COUNTS)
    _, labels = logits_of(TEST)
    shares = torch.bincount(labels, minlength=K) / len(labels)
    guess = token_constant_guess(found)
    assert guess["accuracy"].mean() == pytest.approx(shares.max().item())
    assert guess["nll"].mean() == pytest.approx(
        -(shares[shares > 0] * shares[shares > 0].log()).sum().item(), rel=1e-5
    )
    assert len(guess["nll"]) == 60


def test_tokens_that_tell_no_temperature():
    output, sentences = VALIDATION
    known = LinearOutput(output.features, 50 * WEIGHT, 50 * BIAS)
    labels = F.linear(*known).argmax(-1)
    assert fit_temperature(ForcedTokens(known, labels, "v")) is None
    tokens, rest = [], iter(labels.tolist())
    for length in sentences.lengths.tolist():
        tokens.append(tuple(next(rest) for _ in range(length)))
    found = token_arrays(TEST[0], known, TEST[1], replace(sentences, target_tokens=tuple(tokens)), COUNTS)
    found.check()
    metrics = measure_tokens(found)
    assert list(metrics) == ["test", "validation", "fitted"]
    assert "temperature" not in metrics["fitted"]
    influences = token_influences(found, metrics)
    assert influences["test_with_temperature.nll"]["test"].mean() == pytest.approx(metrics["test"]["nll"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: {"test_lengths": a.test_lengths[:-1]}, "test_labels must hold"),
        (lambda a: {"test_labels": a.test_labels + K}, "test_labels must hold .* whole numbers in 0..29"),
        (
            lambda a: {"test": {**a.test, "log_sum": a.test["log_sum"][:-1]}},
            "test must hold finite floats log_sum",
        ),
        (
            lambda a: {"validation_with_temperature": {}},
            "validation_with_temperature must hold finite floats",
        ),
        (
            lambda a: {"nll_at_temperatures": a.nll_at_temperatures * np.nan},
            "the curve must hold finite floats",
        ),
    ],
)
def test_damaged_arrays_are_refused(arrays, change, says):
    with pytest.raises(InputError, match=says):
        replace(arrays, **change(arrays)).check()
