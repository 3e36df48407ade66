"""Speech as a task of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from torch import nn

from labelsmooth.measure.arrays import State
from labelsmooth.objectives import Criterion, Loss
from labelsmooth.study.tasks.base import Share
from labelsmooth.study.tasks.sequences.decoded import DecodedArrays
from labelsmooth.study.tasks.sequences.network import EncoderDecoder, own_vocabulary
from labelsmooth.study.tasks.sequences.quality import RECOGNITION, edit_statistics
from labelsmooth.study.tasks.sequences.sentences import Batch
from labelsmooth.study.tasks.sequences.task import SequenceSession, SequenceTask, sequence_settings
from labelsmooth.study.tasks.speech.alignment import Recogniser
from labelsmooth.study.tasks.speech.augment import augmented
from labelsmooth.study.tasks.speech.data import SpeechData, SpeechSummary, load_speech
from labelsmooth.study.tasks.speech.methods import data_words, methods
from labelsmooth.study.tasks.speech.models import build_recogniser
from labelsmooth.study.tasks.speech.recipes import RECIPES
from labelsmooth.study.tasks.speech.settings import Recipe
from labelsmooth.study.trial import TrialConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechArrays(DecodedArrays):
    """What the numbers and pictures of one network that recognises speech are computed from."""

    widths: ClassVar[Mapping[str, int]] = RECOGNITION
    of_nbest: ClassVar[tuple[str, ...]] = tuple(RECOGNITION)
    of_sentence: ClassVar[str] = "wer"
    shown: ClassVar[tuple[str, ...]] = tuple(RECOGNITION)

    wer: State = field(default_factory=dict)
    cer: State = field(default_factory=dict)


class SpeechTask(SequenceTask):
    """Encoders and decoders that write down what was said."""

    recipe = Recipe
    recipes = RECIPES
    summary = SpeechSummary
    arrays = SpeechArrays
    help = "train speech recognition with and without label smoothing, and measure its tokens and its words"
    description = (
        "Train a network to write down real utterances with several amounts of label smoothing, from the "
        "same initial weights and over several seeds, and measure accuracy, likelihood and calibration of "
        "its tokens, and the word and character error rates of what it recognises. Run the same command "
        "again to go on with a study that was interrupted."
    )

    def load(self, recipe: Recipe) -> SpeechData:
        return load_speech(
            recipe.data,
            sample_rate=recipe.sample_rate,
            vocabulary_size=recipe.vocabulary,
            max_seconds=recipe.max_seconds,
            vocabulary=own_vocabulary(recipe.model),
        )

    def new_network(self, config: TrialConfig, summary: SpeechSummary) -> EncoderDecoder:
        return build_recogniser(config.model, summary, config.seed, sequence_settings(config).dropout)

    def begin(
        self, config: TrialConfig, data: SpeechData, network: EncoderDecoder, share: Share
    ) -> SpeechSession:
        return SpeechSession(config, data, network, share)

    def data_words(self, summary: SpeechSummary) -> list[str]:
        return data_words(summary)

    def unit_words(self, summary: SpeechSummary) -> str:  # noqa: ARG002
        return "utterances"

    def methods(self, recipe: Recipe, summary: SpeechSummary) -> dict[str, tuple[str, str]]:
        return methods(recipe, summary)


class SpeechSession(SequenceSession[SpeechData]):
    """One training of a network that recognises speech."""

    def __init__(self, config: TrialConfig, data: SpeechData, network: EncoderDecoder, share: Share) -> None:
        super().__init__(config, data, network, share)
        self._augmentation = np.random.default_rng(config.seed)

    def batches(self) -> Iterator[Batch]:
        for batch in super().batches():
            yield replace(batch, inputs=augmented(batch.inputs, self._augmentation))

    def loss(
        self, network: nn.Module, batch: Batch, criterion: Criterion, teacher: nn.Module | None
    ) -> tuple[Loss, int]:
        loss, rows = super().loss(network, batch, criterion, teacher)
        if isinstance(self.network, Recogniser):
            alignment = self.network.alignment_loss * self._share.processes / rows
            # its gradient alone: curves show the objective
            loss = loss._replace(value=loss.value + (alignment - alignment.detach()))
        return loss, rows

    def arrays(self, teacher: nn.Module | None) -> SpeechArrays:  # noqa: ARG002
        return SpeechArrays(**self.decoded_fields(SpeechArrays, edit_statistics))
