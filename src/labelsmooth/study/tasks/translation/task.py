"""Translation as a task of a study: batches of sentence pairs, and what is measured of their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelsmooth.measure.protocol import Table
from labelsmooth.objectives import CHUNK_ROWS, Criterion, Loss
from labelsmooth.row_stats import row_stats
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.tasks.base import (
    Curves,
    Floats,
    Influence,
    Metrics,
    Series,
    Session,
    Share,
    Task,
    Texts,
)
from labelsmooth.study.tasks.sequences.forced import ForcedTokens, fit_pnorm, token_arrays
from labelsmooth.study.tasks.sequences.sentences import (
    UNCOUNTED,
    Batch,
    Sentences,
    batches_by_length,
    make_batch,
    shuffled_batches,
)
from labelsmooth.study.tasks.sequences.tokens import token_constant_guess, token_tables
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary
from labelsmooth.study.tasks.translation.arrays import TranslationArrays, decodings, translated
from labelsmooth.study.tasks.translation.data import TranslationData, TranslationSummary, load_translation
from labelsmooth.study.tasks.translation.measuring import (
    measure_translation,
    part_words,
    translation_influences,
    translation_series,
    translation_texts,
)
from labelsmooth.study.tasks.translation.methods import data_words, methods
from labelsmooth.study.tasks.translation.models import (
    Translator,
    build_translator,
    check_sha256,
    own_modules,
    own_vocabulary,
)
from labelsmooth.study.tasks.translation.recipes import RECIPES
from labelsmooth.study.tasks.translation.settings import Recipe, TranslationSettings
from labelsmooth.study.trial import TrialConfig

_FEW = 64  # sentences whose time tells that of others


class TranslationTask(Task):
    """Encoders and decoders that translate sentences."""

    recipe = Recipe
    recipes: Mapping[str, BaseRecipe] = RECIPES
    summary = TranslationSummary
    curves = Curves
    arrays = TranslationArrays
    help = "train translation with and without label smoothing, and measure its tokens and its sentences"
    description = (
        "Train a network to translate real sentences with several amounts of label smoothing, from the same "
        "initial weights and over several seeds, and measure accuracy, likelihood and calibration of its "
        "tokens, and BLEU, chrF and TER of its translations. Run the same command again to go on with a "
        "study that was interrupted."
    )

    def load(self, recipe: BaseRecipe) -> TranslationData:
        assert isinstance(recipe, Recipe)
        return load_translation(
            recipe.data,
            vocabulary_size=recipe.vocabulary,
            max_tokens=recipe.max_tokens,
            vocabulary=own_vocabulary(recipe.model),
        )

    def new_network(self, config: TrialConfig, summary: TranslationSummary) -> Translator:
        check_sha256(config.model, config.model_sha256)
        return build_translator(config.model, summary, config.seed, translation_settings(config).dropout)

    def begin(
        self, config: TrialConfig, data: TranslationData, network: nn.Module, share: Share
    ) -> TranslationSession:
        assert isinstance(network, Translator)
        return TranslationSession(config, data, network, share)

    def data_words(self, summary: TranslationSummary) -> list[str]:
        return data_words(summary)

    def methods(self, recipe: BaseRecipe, summary: TranslationSummary) -> dict[str, tuple[str, str]]:
        assert isinstance(recipe, Recipe)
        return methods(recipe, summary)

    def rows_measured(self, config: TrialConfig, summary: TranslationSummary) -> int:
        """Count the validation tokens after every epoch, all that are not trained on at the end, and those of
        the beams of every search.
        """
        settings = translation_settings(config)
        beams = sum(way.beams for way in decodings(settings).values())
        share = min(1.0, settings.decode / summary.test_pairs)
        searched = round(beams * share * summary.test_rows)
        return (settings.epochs + 1) * summary.validation_rows + summary.test_rows + searched

    def measure(self, config: TrialConfig, arrays: TranslationArrays) -> Metrics:  # noqa: ARG002
        return measure_translation(arrays)

    def influences(
        self,
        config: TrialConfig,  # noqa: ARG002
        arrays: TranslationArrays,
        metrics: Metrics,
    ) -> Mapping[str, Influence]:
        return translation_influences(arrays, metrics)

    def constant_guess(self, arrays: TranslationArrays) -> Mapping[str, Floats]:
        return token_constant_guess(arrays)

    def tables(self, arrays: TranslationArrays) -> Mapping[str, Mapping[str, Table]]:
        return token_tables(arrays)

    def series(self, arrays: TranslationArrays) -> Mapping[str, Sequence[Series]]:
        return translation_series(arrays)

    def texts(self, summary: TranslationSummary, arrays: TranslationArrays) -> Texts | None:
        return translation_texts(Vocabulary(summary.vocabulary), arrays)

    def part_words(self, metrics: Metrics) -> dict[str, str]:
        return {part: words for part in metrics if (words := part_words(part))}

    def result_words(self, metrics: Metrics) -> str:
        return f"test NLL {metrics['test']['nll']:.3f} a token"

    def own_modules(self, model: str) -> list[str]:
        return own_modules(model)


class TranslationSession(Session):
    """One training of a network that translates.

    Args:
        config: of the trial.
        data: that the config was made for.
        network: that is trained.
        share: of this process in every batch, which it takes by sentences.
    """

    def __init__(self, config: TrialConfig, data: TranslationData, network: Translator, share: Share) -> None:
        self._settings = translation_settings(config)
        self._data = data
        self._network = network
        self._share = share
        self._lengths = data.train.lengths
        self._sizes = batches_by_length(self._lengths, config.settings.batch_size)
        self.steps = len(self._sizes)
        self.class_counts = torch.bincount(data.train.labels, minlength=data.summary.num_classes)
        self._chance = torch.Generator().manual_seed(config.seed)  # of the order of the batches

    def batches(self) -> Iterator[Batch]:
        for numbers in shuffled_batches(self._lengths, self._sizes, self._chance):
            yield make_batch(self._data.train, numbers, self._data.summary.pad)

    def loss(
        self,
        network: nn.Module,
        batch: Batch,
        criterion: Criterion,
        teacher: nn.Module | None,  # noqa: ARG002
    ) -> tuple[Loss, int]:
        sources, labels = self._share.portion(batch.sources), self._share.portion(batch.labels)
        if not len(labels):  # a process whose share of a batch is empty takes the step all the same
            sources = batch.sources[:1].to(labels.device)
            labels = torch.full_like(batch.labels[:1], UNCOUNTED, device=labels.device)
        loss = criterion(
            network(sources, labels),
            labels[labels != UNCOUNTED],
            denominator=batch.rows / self._share.processes,
        )
        return loss, batch.rows

    @torch.no_grad()
    def validate(self, epoch: int) -> tuple[float, float] | None:  # noqa: ARG002
        nll, correct = self._nll_and_correct(self._data.validation)
        if not nll.isfinite().all():
            return None
        return float(nll.mean()), float(correct.double().mean())

    @torch.no_grad()
    def evaluate_some(self) -> int:
        few = self._data.validation.first(_FEW)
        self._nll_and_correct(few)
        return few.rows

    def curves(self, curves: Curves) -> Curves:
        return curves

    def arrays(self, teacher: nn.Module | None) -> TranslationArrays:  # noqa: ARG002
        data = self._data
        test, validation = self._network.predict(data.test), self._network.predict(data.validation)
        tokens = token_arrays(test, validation, data.test, data.validation, self.class_counts)
        pnorm = fit_pnorm(ForcedTokens(validation, data.validation.labels, "the validation tokens"))
        return translated(tokens, pnorm, self._network, data, self._settings)

    def _nll_and_correct(self, sentences: Sentences) -> tuple[Tensor, Tensor]:
        """Measure the NLL of each token of some sentences, and whether it was the most probable."""
        features, weight, bias = self._network.predict(sentences)
        labels = sentences.labels.to(features.device)
        parts = [
            row_stats(F.linear(features[rows], weight, bias).double(), index=labels[rows].unsqueeze(-1))
            for rows in torch.split(torch.arange(len(labels)), CHUNK_ROWS)
        ]
        return torch.cat([part.nll for part in parts]), torch.cat([part.correct for part in parts])


def translation_settings(config: TrialConfig) -> TranslationSettings:
    """Give the settings of a trial of this task."""
    assert isinstance(config.settings, TranslationSettings)
    return config.settings
