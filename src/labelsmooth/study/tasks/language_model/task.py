"""Language models as a task of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from labelsmooth.measure.arrays import State
from labelsmooth.measure.protocol import Table
from labelsmooth.study.tasks.base import Influence, Metrics, Share
from labelsmooth.study.tasks.language_model.data import LanguageData, LanguageSummary, load_language
from labelsmooth.study.tasks.language_model.measuring import (
    LanguageArrays,
    before_training,
    language_arrays,
    language_constant_guess,
    language_headlines,
    language_influences,
    language_series,
    measure_language,
    part_words,
)
from labelsmooth.study.tasks.language_model.methods import data_words, methods
from labelsmooth.study.tasks.language_model.models import CausalModel, build_language_model, own_vocabulary
from labelsmooth.study.tasks.language_model.recipes import RECIPES
from labelsmooth.study.tasks.language_model.settings import LanguageModelSettings, Recipe
from labelsmooth.study.tasks.sequences.network import is_saved
from labelsmooth.study.tasks.sequences.sentences import Batch
from labelsmooth.study.tasks.sequences.task import TokenSession, TokenTask
from labelsmooth.study.tasks.sequences.tokens import token_tables
from labelsmooth.study.tasks.shown import Floats, Headline, Series
from labelsmooth.study.trial import TrialConfig


class LanguageModelTask(TokenTask):
    """Causal models that predict documents, or answers, token by token."""

    recipe = Recipe
    recipes = RECIPES
    summary = LanguageSummary
    arrays = LanguageArrays
    help = "train language models with and without label smoothing, and measure their tokens and choices"
    description = (
        "Train or fine-tune a language model on real texts, or on answers to prompts, with several amounts "
        "of label smoothing, from the same initial weights and over several seeds, and measure accuracy, "
        "likelihood and calibration of its tokens, and of its choices among options. Run the same command "
        "again to go on with a study that was interrupted."
    )

    def load(self, recipe: Recipe) -> LanguageData:
        vocabulary, num_classes = own_vocabulary(recipe.model)
        return load_language(
            recipe.data,
            vocabulary_size=recipe.vocabulary,
            max_tokens=recipe.max_tokens,
            vocabulary=vocabulary,
            num_classes=num_classes,
        )

    def new_network(self, config: TrialConfig, summary: LanguageSummary) -> CausalModel:
        assert isinstance(config.settings, LanguageModelSettings)
        return build_language_model(config.model, summary, config.seed, config.settings.dropout)

    def begin(
        self, config: TrialConfig, data: LanguageData, network: CausalModel, share: Share
    ) -> LanguageModelSession:
        return LanguageModelSession(config, data, network, share)

    def data_words(self, summary: LanguageSummary) -> list[str]:
        return data_words(summary)

    def unit_words(self, summary: LanguageSummary) -> str:
        return summary.documents

    def methods(self, recipe: Recipe, summary: LanguageSummary) -> dict[str, tuple[str, str]]:
        return methods(recipe, summary)

    def rows_measured(self, config: TrialConfig, summary: LanguageSummary) -> int:
        """Count the validation tokens after every epoch, and all that are not trained on at the end; each
        option takes as long as a whole question, and a network that was saved sees the test twice.
        """
        tested = summary.test_rows * (1 + summary.test_options / summary.test_documents)
        tested *= 2 if is_saved(config.model) else 1
        validated = config.settings.epochs + 1 + summary.validation_options / summary.validation_documents
        return round(validated * summary.validation_rows + tested)

    def measure(self, config: TrialConfig, arrays: LanguageArrays) -> Metrics:  # noqa: ARG002
        return measure_language(arrays)

    def influences(
        self,
        config: TrialConfig,  # noqa: ARG002
        arrays: LanguageArrays,
        metrics: Metrics,
    ) -> Mapping[str, Influence]:
        return language_influences(arrays, metrics)

    def constant_guess(self, arrays: LanguageArrays) -> Mapping[str, Floats]:
        return language_constant_guess(arrays)

    def tables(self, arrays: LanguageArrays) -> Mapping[str, Mapping[str, Table]]:
        return token_tables(arrays)

    def series(self, arrays: LanguageArrays) -> Mapping[str, Sequence[Series]]:
        return language_series(arrays)

    def headlines(self, metrics: Metrics) -> Sequence[Headline]:
        return language_headlines(metrics)

    def part_words(self, metrics: Metrics) -> dict[str, str]:
        return part_words(metrics)


class LanguageModelSession(TokenSession[LanguageData, CausalModel]):
    """One training of a language model."""

    def __init__(self, config: TrialConfig, data: LanguageData, network: CausalModel, share: Share) -> None:
        super().__init__(config, data, network, share)
        self._knows_something = is_saved(config.model)
        self._before: dict[str, State] = {}

    def batches(self) -> Iterator[Batch]:
        if self._knows_something and not self._before:
            self._before = before_training(self.network, self.data)
        return super().batches()

    def arrays(self, teacher: nn.Module | None) -> LanguageArrays:  # noqa: ARG002
        tokens = self.token_arrays(self.network.predict(self.data.validation))
        return language_arrays(tokens, self.network, self.data, self._before)
