"""Translation as a task of a study."""

from __future__ import annotations

import numpy as np
from torch import nn

from labelsmooth.study.tasks.base import Share
from labelsmooth.study.tasks.sequences.decoded import packed
from labelsmooth.study.tasks.sequences.network import EncoderDecoder, own_vocabulary
from labelsmooth.study.tasks.sequences.quality import sentence_statistics, signatures
from labelsmooth.study.tasks.sequences.task import SequenceSession, SequenceTask, sequence_settings
from labelsmooth.study.tasks.translation.arrays import TranslationArrays
from labelsmooth.study.tasks.translation.data import TranslationData, TranslationSummary, load_translation
from labelsmooth.study.tasks.translation.methods import data_words, methods
from labelsmooth.study.tasks.translation.models import build_translator
from labelsmooth.study.tasks.translation.recipes import RECIPES
from labelsmooth.study.tasks.translation.settings import Recipe
from labelsmooth.study.trial import TrialConfig


class TranslationTask(SequenceTask):
    """Encoders and decoders that translate sentences."""

    recipe = Recipe
    recipes = RECIPES
    summary = TranslationSummary
    arrays = TranslationArrays
    help = "train translation with and without label smoothing, and measure its tokens and its sentences"
    description = (
        "Train a network to translate real sentences with several amounts of label smoothing, from the same "
        "initial weights and over several seeds, and measure accuracy, likelihood and calibration of its "
        "tokens, and BLEU, chrF and TER of its translations. Run the same command again to go on with a "
        "study that was interrupted."
    )

    def load(self, recipe: Recipe) -> TranslationData:
        return load_translation(
            recipe.data,
            vocabulary_size=recipe.vocabulary,
            max_tokens=recipe.max_tokens,
            vocabulary=own_vocabulary(recipe.model),
        )

    def new_network(self, config: TrialConfig, summary: TranslationSummary) -> EncoderDecoder:
        return build_translator(config.model, summary, config.seed, sequence_settings(config).dropout)

    def begin(
        self, config: TrialConfig, data: TranslationData, network: EncoderDecoder, share: Share
    ) -> TranslationSession:
        return TranslationSession(config, data, network, share)

    def data_words(self, summary: TranslationSummary) -> list[str]:
        return data_words(summary)

    def unit_words(self, summary: TranslationSummary) -> str:  # noqa: ARG002
        return "sentences"

    def methods(self, recipe: Recipe, summary: TranslationSummary) -> dict[str, tuple[str, str]]:
        return methods(recipe, summary)


class TranslationSession(SequenceSession[TranslationData]):
    """One training of a network that translates."""

    def arrays(self, teacher: nn.Module | None) -> TranslationArrays:  # noqa: ARG002
        found = self.decoded_fields(TranslationArrays, sentence_statistics)
        sources = self.data.test.select(found["decoded"].tolist()).sources
        words = signatures() if sources else {}
        return TranslationArrays(
            **found,
            sources=packed(sources),
            signatures={score: np.frombuffer(each.encode(), np.uint8) for score, each in words.items()},
        )
