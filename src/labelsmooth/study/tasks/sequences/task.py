"""What tasks whose rows are the tokens of sentences do alike: batches, losses, measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.protocol import Table
from labelsmooth.objectives import CHUNK_ROWS, Criterion, LinearOutput, Loss
from labelsmooth.row_stats import row_stats
from labelsmooth.study.tasks.base import Curves, Influence, Metrics, Session, Share, Task
from labelsmooth.study.tasks.sequences.decoded import DecodedArrays, Statistics, decoded_fields, decodings
from labelsmooth.study.tasks.sequences.forced import ForcedTokens, fit_pnorm, token_arrays
from labelsmooth.study.tasks.sequences.measuring import (
    decoded_headlines,
    decoded_influences,
    decoded_series,
    decoded_texts,
    measure_decoded,
    part_words,
)
from labelsmooth.study.tasks.sequences.network import EncoderDecoder, TokenNetwork, own_modules
from labelsmooth.study.tasks.sequences.sentences import (
    UNCOUNTED,
    Batch,
    Sentences,
    batches_by_length,
    shuffled_batches,
)
from labelsmooth.study.tasks.sequences.settings import SequenceSettings
from labelsmooth.study.tasks.sequences.tokens import TokenArrays, token_constant_guess, token_tables
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary
from labelsmooth.study.tasks.shown import Floats, Headline, Series, Texts
from labelsmooth.study.trial import TrialConfig

_FEW = 64  # sentences whose time tells that of others


class SequenceData(Protocol):
    """Sentences in three parts."""

    @property
    def train(self) -> Sentences: ...
    @property
    def validation(self) -> Sentences: ...
    @property
    def test(self) -> Sentences: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def summary(self) -> Any: ...


D = TypeVar("D", bound=SequenceData)
N = TypeVar("N", bound=TokenNetwork)


class TokenTask(Task):
    """Networks that predict tokens."""

    curves = Curves
    class_words = "tokens in the vocabulary"
    row_words = "tokens"
    accuracy = replace(QUANTITIES["accuracy"], title="teacher-forced token accuracy")
    fewest_steps = 1000

    def result_words(self, metrics: Metrics) -> str:
        return f"test NLL {metrics['test']['nll']:.3f} a token"

    def own_modules(self, model: str) -> list[str]:
        return own_modules(model)


class SequenceTask(TokenTask):
    """Encoders with decoders that predict sentences token by token, and are asked for whole ones."""

    def rows_measured(self, config: TrialConfig, summary: Any) -> int:
        """Count the validation tokens after every epoch, all that are not trained on at the end, and those of
        the beams of every search.
        """
        settings = sequence_settings(config)
        beams = sum(way.beams for way in decodings(settings).values())
        searched = beams * min(1.0, settings.decode / summary.test_sentences)
        rows: float = (settings.epochs + 1) * summary.validation_rows + (1 + searched) * summary.test_rows
        return round(rows)

    def measure(self, config: TrialConfig, arrays: DecodedArrays) -> Metrics:  # noqa: ARG002
        return measure_decoded(arrays)

    def influences(
        self,
        config: TrialConfig,  # noqa: ARG002
        arrays: DecodedArrays,
        metrics: Metrics,
    ) -> Mapping[str, Influence]:
        return decoded_influences(arrays, metrics)

    def constant_guess(self, arrays: DecodedArrays) -> Mapping[str, Floats]:
        return token_constant_guess(arrays)

    def headlines(self, metrics: Metrics) -> Sequence[Headline]:
        return decoded_headlines(metrics, self.arrays.shown)

    def tables(self, arrays: DecodedArrays) -> Mapping[str, Mapping[str, Table]]:
        return token_tables(arrays)

    def series(self, arrays: DecodedArrays) -> Mapping[str, Sequence[Series]]:
        return decoded_series(arrays)

    def texts(self, summary: Any, arrays: DecodedArrays) -> Texts | None:
        return decoded_texts(arrays, Vocabulary(summary.vocabulary))

    def part_words(self, metrics: Metrics) -> dict[str, str]:
        return {part: words for part in metrics if (words := part_words(part))}


class TokenSession(Session, Generic[D, N]):
    """One training of a network that predicts the tokens of sentences.

    Args:
        config: of the trial.
        data: that the config was made for.
        network: that is trained.
        share: of this process in every batch, which it takes by sentences.
    """

    def __init__(self, config: TrialConfig, data: D, network: N, share: Share) -> None:
        self.data = data
        self.network = network
        self._share = share
        self._tokens = data.train.sizes
        self._sizes = batches_by_length(self._tokens, config.settings.batch_size)
        self.steps = len(self._sizes)
        self.class_counts = torch.bincount(data.train.labels, minlength=data.summary.num_classes)
        self._chance = torch.Generator().manual_seed(config.seed)  # of the order of the batches

    def batches(self) -> Iterator[Batch]:
        for numbers in shuffled_batches(self._tokens, self._sizes, self._chance):
            yield self.data.train.batch(numbers)

    def loss(
        self,
        network: nn.Module,
        batch: Batch,
        criterion: Criterion,
        teacher: nn.Module | None,  # noqa: ARG002
    ) -> tuple[Loss, int]:
        inputs = {name: self._share.portion(value) for name, value in batch.inputs.items()}
        labels = self._share.portion(batch.labels)
        if not len(labels):  # a process whose share of a batch is empty takes the step all the same
            inputs = {name: value[:1].to(labels.device) for name, value in batch.inputs.items()}
            labels = torch.full_like(batch.labels[:1], UNCOUNTED, device=labels.device)
        loss = criterion(
            network(inputs, labels),
            labels[labels != UNCOUNTED],
            denominator=batch.rows / self._share.processes,
            target=criterion.sequence_target(labels),
        )
        return loss, batch.rows

    @torch.no_grad()
    def validate(self, epoch: int) -> tuple[float, float] | None:  # noqa: ARG002
        nll, correct = self._nll_and_correct(self.data.validation)
        if not nll.isfinite().all():
            return None
        return float(nll.mean()), float(correct.double().mean())

    @torch.no_grad()
    def evaluate_some(self) -> int:
        few = self.data.validation.select(range(min(_FEW, len(self.data.validation))))
        self._nll_and_correct(few)
        return few.rows

    def curves(self, curves: Curves) -> Curves:
        return curves

    def token_arrays(self, validation: LinearOutput) -> TokenArrays:
        """Give what is kept of the network's predictions of tokens.

        Args:
            validation: what it predicts of the validation sentences.
        """
        data = self.data
        test = self.network.predict(data.test)
        return token_arrays(test, validation, data.test, data.validation, self.class_counts)

    def _nll_and_correct(self, sentences: Sentences) -> tuple[Tensor, Tensor]:
        """Measure the NLL of each token of some sentences, and whether it was the most probable."""
        features, weight, bias = self.network.predict(sentences)
        labels = sentences.labels.to(features.device)
        parts = [
            row_stats(F.linear(features[rows], weight, bias).double(), index=labels[rows].unsqueeze(-1))
            for rows in torch.split(torch.arange(len(labels)), CHUNK_ROWS)
        ]
        return torch.cat([part.nll for part in parts]), torch.cat([part.correct for part in parts])


class SequenceSession(TokenSession[D, EncoderDecoder]):
    """One training of a network that is asked for whole sentences too."""

    def __init__(self, config: TrialConfig, data: D, network: EncoderDecoder, share: Share) -> None:
        super().__init__(config, data, network, share)
        self.settings = sequence_settings(config)

    def decoded_fields(self, kind: type[DecodedArrays], statistics: Statistics) -> dict[str, Any]:
        """Give the fields of arrays that every network that decodes has, and those of its scores.

        Args:
            kind: of the arrays.
            statistics: that the scores are made of.
        """
        data = self.data
        validation = self.network.predict(data.validation)
        tokens = self.token_arrays(validation)
        decoded = decoded_fields(
            kind,
            self.network,
            data.test,
            data.vocabulary,
            data.summary,
            self.settings,
            statistics=statistics,
            temperature=tokens.temperature or 1.0,
            pnorm=fit_pnorm(ForcedTokens(validation, data.validation.labels, "the validation tokens")),
        )
        return {**vars(tokens), **decoded}


def sequence_settings(config: TrialConfig) -> SequenceSettings:
    """Give the settings of a trial of a task of sentences."""
    assert isinstance(config.settings, SequenceSettings)
    return config.settings
