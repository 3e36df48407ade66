"""What is measured of a network that predicts tokens, and the arrays that it is computed from.

A row is a token of a target sentence, predicted from the tokens before it (teacher forcing). Sentences are
drawn as a whole, so it is they that influences are of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.evaluation import Numbers, Scores, exactly
from labelsmooth.measure.arrays import State
from labelsmooth.measure.influence import NUM_BINS
from labelsmooth.measure.nce import nce_influence, normalised_cross_entropy
from labelsmooth.measure.protocol import Table
from labelsmooth.measure.rows import numbers_from_stats
from labelsmooth.row_stats import RowStats
from labelsmooth.study.tasks.base import Influence, Metrics
from labelsmooth.study.tasks.classifier import constant_guess, plain_values
from labelsmooth.study.tasks.influences import influences_beside, influences_on_scores
from labelsmooth.study.tasks.shown import Floats

STATISTICS = ("log_sum", "label_logit", "log_sum_sq", "mean_logit")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenArrays:
    """What the numbers and pictures of one trained network are computed from: K tokens in the vocabulary.

    Logits are too many to store; there are the row statistics of them (`RowStats`), from which all measures
    of probabilities follow: log_sum, label_logit (at_index of the label), log_sum_sq, mean_logit, (N,) each.
    """

    class_counts: NDArray[np.int64]  # (K,) of each token among the targets of the training pairs
    test_lengths: NDArray[np.int32]  # (S,) tokens of each sentence, N in all
    test_labels: NDArray[np.int32]  # (N,)
    test_predictions: NDArray[np.int32]  # (N,) the most probable tokens
    test: State  # statistics of the test tokens
    validation_lengths: NDArray[np.int32]
    validation_labels: NDArray[np.int32]
    validation_predictions: NDArray[np.int32]
    validation: State
    temperatures: NDArray[np.float64]  # (G,) of a curve
    nll_at_temperatures: NDArray[np.float32]  # (S, G) sums over the tokens of each test sentence
    ece_at_temperatures: NDArray[np.float32]  # (S, G) likewise, so that all of them over N are the ECE
    # of the temperature that was fitted on the validation tokens; empty where they could not tell one
    fitted: State = field(default_factory=dict)  # temperature (), influence on its logarithm (S,), step ()
    test_with_temperature: State = field(default_factory=dict)
    validation_with_temperature: State = field(default_factory=dict)
    test_below: State = field(default_factory=dict)  # at the temperature · exp(−step)
    test_above: State = field(default_factory=dict)  # at the temperature · exp(step)

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        classes = len(self.class_counts)
        for part in ("test", "validation"):
            lengths: NDArray[Any] = getattr(self, f"{part}_lengths")
            if lengths.dtype.kind != "i" or lengths.ndim != 1 or not len(lengths) or lengths.min() < 1:
                raise InputError(f"{part}_lengths must hold whole numbers of at least 1")
            rows = (int(lengths.sum()),)
            for name in (f"{part}_labels", f"{part}_predictions"):
                tokens: NDArray[Any] = getattr(self, name)
                if (
                    tokens.dtype.kind != "i"
                    or tokens.shape != rows
                    or not 0 <= tokens.min() <= tokens.max() < classes
                ):
                    raise InputError(f"{name} must hold {rows[0]:,} whole numbers in 0..{classes - 1}")
            _check_floats(part, getattr(self, part), dict.fromkeys(STATISTICS, rows))
            if self.fitted:
                name = f"{part}_with_temperature"
                _check_floats(name, getattr(self, name), dict.fromkeys(STATISTICS, rows))
        curve = (len(self.test_lengths), len(self.temperatures))
        names = ("temperatures", "nll_at_temperatures", "ece_at_temperatures")
        shapes = dict(zip(names, (curve[1:], curve, curve), strict=True))
        _check_floats("the curve", {name: getattr(self, name) for name in names}, shapes)
        if self.fitted:
            for name in ("test_below", "test_above"):
                _check_floats(name, getattr(self, name), dict.fromkeys(STATISTICS, (len(self.test_labels),)))
            _check_floats(
                "fitted",
                self.fitted,
                {"temperature": (), "influence": (len(self.validation_lengths),), "step": ()},
            )

    @property
    def temperature(self) -> float | None:
        """The fitted temperature; None where the validation tokens could not tell one."""
        return float(self.fitted["temperature"]) if self.fitted else None

    def statistics(self, part: str) -> RowStats:
        """Give the row statistics of the tokens of a part of these arrays, as in test_with_temperature."""
        rows, state = part.partition("_")[0], getattr(self, part)
        return assembled(
            torch.from_numpy(getattr(self, f"{rows}_labels")).long(),
            torch.from_numpy(getattr(self, f"{rows}_predictions")).long(),
            {name: torch.from_numpy(state[name]).double() for name in STATISTICS},
        )

    def scores(self, part: str) -> Scores:
        """Count the tokens of a part of these arrays in every measure of probabilities."""
        scores = Scores(len(self.class_counts), NUM_BINS)
        scores.update_stats(self.statistics(part), None)
        return scores


def assembled(labels: Tensor, predictions: Tensor, columns: Mapping[str, Tensor]) -> RowStats:  # (N,) each
    """Make row statistics of the columns that are stored; the maximum, which no measure needs, is 0."""
    return RowStats(
        max=torch.zeros_like(columns["log_sum"]),
        argmax=predictions,
        log_sum=columns["log_sum"],
        index=labels[:, None],
        at_index=columns["label_logit"][:, None],
        log_sum_sq=columns["log_sum_sq"],
        mean_logit=columns["mean_logit"],
    )


def _check_floats(name: str, arrays: State, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays that are not finite floats of these shapes by these names."""
    for part, shape in shapes.items():
        array = arrays.get(part)
        if array is None or array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
            raise InputError(f"{name} must hold finite floats {part} of the shape {shape}")


def measure_tokens(arrays: TokenArrays) -> Metrics:
    """Measure a network that predicts tokens.

    Returns:
        The numbers by the names of the catalogue, of

        - test, validation: all tokens of these sentences as given
        - test_with_temperature, validation_with_temperature: the same tokens at the temperature that was
          fitted on the validation tokens; missing where they could not tell one
        - fitted: the number of validation tokens, and the temperature

    Cost: 1 s for 100,000 tokens.
    """
    parts = ["test", "validation"]
    if arrays.fitted:
        parts += ["test_with_temperature", "validation_with_temperature"]
    numbers = {part: _numbers(arrays, part) for part in parts}
    numbers["fitted"] = {"rows": exactly(len(arrays.validation_labels))}
    if arrays.temperature is not None:
        numbers["fitted"] = {**numbers["fitted"], "temperature": exactly(arrays.temperature)}
    return {part: plain_values(found) for part, found in numbers.items()}


def _numbers(arrays: TokenArrays, part: str) -> Numbers:
    numbers = dict(arrays.scores(part).numbers(intervals=False))
    numbers["perplexity"] = exactly(math.exp(min(numbers["nll"].value, 700.0)))
    rows = numbers_from_stats(arrays.statistics(part))
    nce = normalised_cross_entropy(rows.confidence, rows.correct)
    return numbers if math.isnan(nce) else {**numbers, "nce": exactly(nce)}


def token_influences(arrays: TokenArrays, metrics: Metrics) -> dict[str, Influence]:
    """The influence of each sentence on the numbers of `measure_tokens`, by part and name as in test.nll.

    Test sentences count in what is measured of them, and validation sentences in what depends on the
    temperature that was fitted on them.
    """
    known: dict[str, Influence] = {
        f"test.{name}": {"test": moved} for name, moved in _score_influences(arrays, "test", metrics).items()
    }
    if not arrays.fitted:
        plain = {name.partition(".")[2]: moved for name, moved in known.items()}
        return {**known, **{f"test_with_temperature.{name}": moved for name, moved in plain.items()}}
    on_log = arrays.fitted["influence"].astype(np.float64)
    known["fitted.temperature"] = {"validation": metrics["fitted"]["temperature"] * on_log}
    below, at, above = (
        _score_influences(arrays, part, metrics)
        for part in ("test_below", "test_with_temperature", "test_above")
    )
    scaled = influences_beside(below, at, above, float(arrays.fitted["step"]), on_log)
    return {**known, **{f"test_with_temperature.{name}": moved for name, moved in scaled.items()}}


def _score_influences(arrays: TokenArrays, part: str, metrics: Metrics) -> dict[str, Floats]:
    """The influence of each test sentence on each of the scores at a temperature."""
    measured = metrics["test" if part == "test" else "test_with_temperature"]
    rows = numbers_from_stats(arrays.statistics(part))
    tokens = influences_on_scores(rows, measured["smece"])
    if "nce" in measured:
        tokens["nce"] = nce_influence(rows.confidence, rows.correct)
    perplexity = np.exp(tokens["nll"].mean())
    tokens["perplexity"] = perplexity * (1 + tokens["nll"] - tokens["nll"].mean())
    return {name: by_sentence(moved, arrays.test_lengths) for name, moved in tokens.items()}


def by_sentence(
    values: Floats,  # (N,)
    lengths: NDArray[np.int32],  # (S,)
) -> Floats:
    """Give the influence of each sentence on the mean over tokens of a number of each token.

    Of a number that tokens move by φ, the same holds with φ in place of values.
    """
    return influence_of_sums(sums_by_sentence(values, lengths), lengths)


def influence_of_sums(
    sums: Floats,  # (S,)
    counts: NDArray[np.integer[Any]],  # (S,)
) -> Floats:
    """Give the influence of each sentence on a mean over tokens, of the sums over those of each sentence.

    The mean is a ratio, Σ sums/Σ counts, which a sentence moves by (sum − mean·count)·S/N; the influences
    have the mean as their own.
    """
    mean = sums.sum() / counts.sum()
    influence: Floats = (sums - mean * counts) * len(counts) / counts.sum() + mean
    return influence


def sums_by_sentence(
    values: Floats,  # (N,)
    lengths: NDArray[np.int32],  # (S,)
) -> Floats:
    """Add up a number of each token over each sentence, (S,)."""
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(sentence, values, len(lengths)).astype(np.float64)


def token_constant_guess(arrays: TokenArrays) -> dict[str, Floats]:
    """Give accuracy and nll by test sentence (S,) where all tokens are given the shares of the vocabulary."""
    guess = constant_guess(arrays.test_labels.astype(np.int64))
    return {name: by_sentence(values, arrays.test_lengths) for name, values in guess.items()}


def token_tables(arrays: TokenArrays) -> dict[str, dict[str, Table]]:
    """Give the tables for pictures of the test tokens, by part of the metrics."""
    parts = ("test", "test_with_temperature") if arrays.fitted else ("test",)
    return {part: dict(arrays.scores(part).figures()) for part in parts}
