"""The settings of a study of language models: those of every task of tokens, and those of their texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.settings import TrainingSettings, check_whole
from labelsmooth.study.tasks.language_model.forms import FORMS
from labelsmooth.study.tasks.language_model.models import MODELS
from labelsmooth.study.tasks.sequences.network import check_model, model_sha256
from labelsmooth.study.tasks.sequences.pairs import VERSES
from labelsmooth.study.tasks.sequences.settings import TokenSettings
from labelsmooth.study.tasks.sequences.vocabulary import SMALLEST


@dataclass(frozen=True, kw_only=True)
class LanguageModelSettings(TokenSettings):
    """What the numbers of one trial depend on; rows are tokens of documents, or of answers."""

    batch_size: int = field(
        default=3000,
        metadata={
            "help": "tokens in a training step, those of prompts among them, of texts of about one length; "
            "padding is not counted",
            "metavar": "N",
        },
    )


@dataclass(frozen=True, kw_only=True)
class Recipe(LanguageModelSettings, BaseRecipe):
    """A study of language models; see `BaseRecipe`.

    Raises:
        InputError: a setting is outside its range.
    """

    task: ClassVar[str] = "language-model"
    settings_class: ClassVar[type[TrainingSettings]] = LanguageModelSettings

    data: str = field(
        default="verses:k",
        metadata={
            "help": "text:FILE (documents with empty lines between them), jsonl:FILE (in each line an "
            f"object with the keys {', '.join(form.name for form in FORMS)}), "
            "hf:NAME:COLUMN (a document in each row), or verses:TRANSLATION of "
            + ", ".join(f"{name} ({words})" for name, words in VERSES.items()),
            "metavar": "DATA",
        },
    )
    vocabulary: int = field(
        default=8000,
        metadata={
            "help": f"tokens to learn from the texts to train on, at least {SMALLEST}; hf:FOLDER brings "
            "its own",
            "metavar": "N",
        },
    )
    max_tokens: int = field(
        default=256,
        metadata={
            "help": "tokens that a network sees together: longer documents are cut, and questions with more "
            "in prompt and answer are left out",
            "metavar": "N",
        },
    )
    model: str = field(
        default="small",
        metadata={
            "help": "Transformer: small (GPT-2 of width 160, 4 layers), base (768, 12 layers, as in Radford "
            "et al. 2019), hf:FOLDER (one that transformers saved, with its weights and tokenizer), or your "
            "own as module:factory, made by factory(vocab_size=..., pad_token_id=..., eos_token_id=..., "
            "bos_token_id=..., max_position_embeddings=...)",
            "metavar": "MODEL",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("vocabulary", self.vocabulary, at_least=SMALLEST)
        check_whole("max_tokens", self.max_tokens, at_least=2)
        check_model(self.model, MODELS)

    @staticmethod
    def model_sha256(model: str) -> str:
        return model_sha256(model)
