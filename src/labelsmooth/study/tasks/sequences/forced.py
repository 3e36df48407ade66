"""The row statistics of target tokens, each predicted from those before it, whose logits never all exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.evaluation import statistics
from labelsmooth.measure import PNorm, TemperatureScaling
from labelsmooth.measure.arrays import State
from labelsmooth.measure.influence import influences
from labelsmooth.measure.rows import numbers_from_stats
from labelsmooth.objectives import CHUNK_ROWS, LinearOutput
from labelsmooth.predictions import Batch
from labelsmooth.row_stats import RowStats, row_stats
from labelsmooth.study.tasks.sequences.sentences import Sentences
from labelsmooth.study.tasks.sequences.tokens import STATISTICS, TokenArrays, assembled, sums_by_sentence
from labelsmooth.study.tasks.shown import Floats

TEMPERATURES = tuple(np.linspace(0.6, 1.6, 11).round(1).tolist())  # of the curves
CONFIDENCES = ("tokens", "log_probability", "log_probability_with_temperature", "pnorm")  # of a sentence
_SIDE = 0.01  # of the logarithm of the temperature, for the slope of the NLL's own slope


class ForcedTokens:
    """Predictions of the tokens of some sentences: a `Source`, whose logits exist 512 rows at a time.

    Args:
        output: the linear layer that makes the logits, with the states of N rows.
        labels: (N,).
        name: what messages call the predictions.
    """

    are_probs = False

    def __init__(self, output: LinearOutput, labels: Tensor, name: str) -> None:
        self._output, self._labels, self.name = output, labels, name
        self.num_classes = len(output.weight)

    def batches(self) -> Iterator[Batch]:
        """Iterate over the tokens, with logits in float64 on the CPU."""
        states, weight, bias = self._output
        for rows in torch.split(torch.arange(len(self._labels)), CHUNK_ROWS):
            logits = F.linear(states[rows], weight, bias)
            yield Batch(scores=logits.cpu().double(), labels=self._labels[rows])

    def classifier(self) -> None:
        """Give no classifier: its features are not among what is measured."""

    def at(self, temperatures: Sequence[float]) -> list[RowStats]:
        """Give the row statistics at each of some temperatures, from one pass over the logits."""
        predictions = torch.empty_like(self._labels)
        # made before the pass: kept from within, they would lie between the logits that are freed, and the
        # memory of these could not be used again
        found = torch.empty(len(temperatures), len(STATISTICS), len(self._labels), dtype=torch.float64)
        start = 0
        for batch in self.batches():
            rows = slice(start, start + len(batch.labels))
            start = rows.stop
            scaled = torch.empty_like(batch.scores)
            for columns, temperature in zip(found, temperatures, strict=True):
                torch.div(batch.scores, temperature, out=scaled)
                stats = statistics(scaled, batch.labels)
                for column, values in zip(columns, _columns(stats).values(), strict=True):
                    column[rows] = values
            predictions[rows] = batch.scores.argmax(-1)
        return [
            assembled(self._labels, predictions, dict(zip(STATISTICS, columns, strict=True)))
            for columns in found
        ]


def _columns(stats: RowStats) -> dict[str, Tensor]:
    """The columns of row statistics that are stored, (N,) each."""
    assert stats.at_index is not None
    assert stats.log_sum_sq is not None
    assert stats.mean_logit is not None
    columns = (stats.log_sum, stats.at_index[:, 0], stats.log_sum_sq, stats.mean_logit)
    return dict(zip(STATISTICS, columns, strict=True))


def fit_temperature(validation: ForcedTokens) -> float | None:
    """Fit a temperature on the validation tokens; None where they cannot tell one.

    Cost: four to nine passes over the logits.
    """
    scaling = TemperatureScaling().fit_batches(_Batches(validation))
    return None if scaling.at_boundary else scaling.temperature


def fit_pnorm(validation: ForcedTokens) -> PNorm:
    """Choose the p-norm that best puts the validation tokens that are right before those that are wrong.

    Cost: ten times row statistics in float64.
    """
    return PNorm().fit_batches(_Batches(validation))


def sentence_confidences(
    tokens: ForcedTokens, lengths: NDArray[np.int32], temperature: float, pnorm: PNorm
) -> NDArray[np.float32]:
    """Give how sure a network is of whole sentences, by the tokens that they are made of.

    Args:
        tokens: of S sentences, each predicted from those before it.
        lengths: (S,) of these.
        temperature: to divide the logits by.
        pnorm: a confidence of a token.

    Returns:
        (S, 4) by `CONFIDENCES`: the number of tokens, the log-probability of the sentence, the same at the
        temperature, and the mean over its tokens of the p-norm.
    """
    columns = []
    for batch in tokens.batches():
        label = batch.labels.unsqueeze(-1)
        at = [row_stats(batch.scores / t, label).log_probability for t in (1.0, temperature)]
        columns.append(torch.stack([*at, pnorm.confidence(batch.scores)]))
    plain, scaled, confidence = (sums_by_sentence(row, lengths) for row in torch.cat(columns, 1).numpy())
    return np.stack([lengths, plain, scaled, confidence / lengths], axis=1).astype(np.float32)


class _Batches:
    """The logits and labels of tokens, which can be gone through again."""

    def __init__(self, tokens: ForcedTokens) -> None:
        self._tokens = tokens

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((batch.scores, batch.labels) for batch in self._tokens.batches())


def token_arrays(
    test: LinearOutput,
    validation: LinearOutput,
    test_sentences: Sentences,
    validation_sentences: Sentences,
    class_counts: Tensor,  # (K,)
) -> TokenArrays:
    """Keep of a network's predictions what its numbers and pictures are computed from.

    Args:
        test: the layer that makes the logits, with the decoder's states for each token of the test sentences.
        validation: likewise.
        test_sentences, validation_sentences: whose tokens these are.
        class_counts: tokens of each kind among the training targets.

    Cost: about 25 times row statistics in float64, half of them of the test tokens.
    """
    tested = ForcedTokens(test, test_sentences.labels, "the test tokens")
    validated = ForcedTokens(validation, validation_sentences.labels, "the validation tokens")
    test_lengths, validation_lengths = (
        sentences.lengths.numpy().astype(np.int32) for sentences in (test_sentences, validation_sentences)
    )
    temperature = fit_temperature(validated)
    fitted: dict[str, State] = {}
    if temperature is None:
        (plain,) = validated.at((1.0,))
        (test_plain, *curve) = tested.at((1.0, *TEMPERATURES))
    else:
        sides = (temperature * np.exp(-_SIDE), temperature * np.exp(_SIDE))
        plain, scaled, *beside = validated.at((1.0, temperature, *sides))
        on_log = _influence_on_log_temperature(scaled, beside[0], beside[1], validation_lengths)
        step = float(on_log.std() / np.sqrt(len(on_log)))
        near = (temperature * np.exp(-step), temperature * np.exp(step))
        test_plain, test_scaled, below, above, *curve = tested.at((1.0, temperature, *near, *TEMPERATURES))
        fitted = {
            "fitted": {
                "temperature": np.array(temperature),
                "influence": on_log.astype(np.float32),
                "step": np.array(step),
            },
            "test_with_temperature": _state(test_scaled),
            "validation_with_temperature": _state(scaled),
            "test_below": _state(below),
            "test_above": _state(above),
        }
    moved = [influences(rows).of(rows) for rows in map(numbers_from_stats, curve)]
    by_temperature = {
        name: np.stack([sums_by_sentence(each[name], test_lengths) for each in moved], axis=1)
        for name in ("nll", "ece")
    }
    return TokenArrays(
        class_counts=class_counts.numpy(),
        test_lengths=test_lengths,
        test_labels=test_sentences.labels.numpy().astype(np.int32),
        test_predictions=test_plain.argmax.numpy().astype(np.int32),
        test=_state(test_plain),
        validation_lengths=validation_lengths,
        validation_labels=validation_sentences.labels.numpy().astype(np.int32),
        validation_predictions=plain.argmax.numpy().astype(np.int32),
        validation=_state(plain),
        temperatures=np.array(TEMPERATURES),
        nll_at_temperatures=by_temperature["nll"].astype(np.float32),
        ece_at_temperatures=by_temperature["ece"].astype(np.float32),
        **fitted,
    )


def plain_state(tokens: ForcedTokens) -> State:
    """Keep the statistics of tokens at the temperature 1 with the most probable ones, `predictions`."""
    (stats,) = tokens.at((1.0,))
    return {**_state(stats), "predictions": stats.argmax.numpy().astype(np.int32)}


def _state(stats: RowStats) -> State:
    return {name: column.float().numpy() for name, column in _columns(stats).items()}


def _influence_on_log_temperature(
    scaled: RowStats, below: RowStats, above: RowStats, lengths: NDArray[np.int32]
) -> Floats:
    """The influence of each sentence on the logarithm of a fitted temperature, of mean 0.

    With s = E_p(z/T) − z_y/T, whose mean is the slope of the NLL along log 1/T, a token has φ = (s − mean s)
    over the slope of the mean s, which the statistics on both sides of T tell; `log_temperature_influence` is
    the same from logits.
    """

    def slopes(stats: RowStats) -> Floats:
        columns = _columns(stats)
        slope: Floats = (columns["mean_logit"] - columns["label_logit"]).numpy()
        return slope

    of_token = slopes(scaled)
    curvature = (slopes(below).mean() - slopes(above).mean()) / (2 * _SIDE)
    sums = sums_by_sentence(of_token - of_token.mean(), lengths)
    on_log: Floats = sums * len(lengths) / (lengths.sum() * curvature)
    return on_log
