"""The settings of a study of translation: those of every task, and those of sentences and their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from labelsmooth.errors import InputError
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.settings import TrainingSettings, check_whole
from labelsmooth.study.tasks.sequences.network import check_model, model_sha256
from labelsmooth.study.tasks.sequences.pairs import VERSES
from labelsmooth.study.tasks.sequences.settings import SequenceSettings
from labelsmooth.study.tasks.sequences.vocabulary import SMALLEST
from labelsmooth.study.tasks.translation.models import MODELS


@dataclass(frozen=True, kw_only=True)
class TranslationSettings(SequenceSettings):
    """What the numbers of one trial depend on; rows are target tokens."""


@dataclass(frozen=True, kw_only=True)
class Recipe(TranslationSettings, BaseRecipe):
    """A study of translation; see `BaseRecipe`. It has no students yet.

    Raises:
        InputError: a setting is outside its range.
    """

    task: ClassVar[str] = "translation"
    settings_class: ClassVar[type[TrainingSettings]] = TranslationSettings

    data: str = field(
        default="verses:e-3",
        metadata={
            "help": "sentence pairs: tsv:FILE (source TAB target), lines:SOURCE:TARGET (two files whose "
            "lines belong together), hf:NAME:SOURCE:TARGET (two columns), or verses:SOURCE-TARGET of "
            + ", ".join(f"{name} ({words})" for name, words in VERSES.items()),
            "metavar": "DATA",
        },
    )
    vocabulary: int = field(
        default=8000,
        metadata={
            "help": f"tokens to learn from the training pairs of both languages, at least {SMALLEST}; "
            "hf:FOLDER brings its own",
            "metavar": "N",
        },
    )
    max_tokens: int = field(
        default=100,
        metadata={"help": "tokens of a sentence; pairs with a longer one are left out", "metavar": "N"},
    )
    model: str = field(
        default="small",
        metadata={
            "help": "Transformer: small (width 160, 2 + 2 layers), base (512, 6 + 6 layers, as in Vaswani "
            "et al. 2017), hf:FOLDER (one that transformers saved, with its weights and tokenizer), or "
            "your own as module:factory, made by factory(vocab_size=..., pad_token_id=..., eos_token_id=..., "
            "decoder_start_token_id=..., max_position_embeddings=...)",
            "metavar": "MODEL",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("vocabulary", self.vocabulary, at_least=SMALLEST)
        check_whole("max_tokens", self.max_tokens, at_least=2)
        check_model(self.model, MODELS)
        if self.student is not None:
            raise InputError(f"the student of a study of translation must be none, got {self.student}")

    def model_sha256(self, model: str) -> str:
        return model_sha256(model)
