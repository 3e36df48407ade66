"""The settings of a study of translation: those of every task, and those of sentences and their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from labelsmooth.study.settings import check_whole
from labelsmooth.study.tasks.sequences.network import check_model
from labelsmooth.study.tasks.sequences.pairs import VERSES
from labelsmooth.study.tasks.sequences.settings import SequenceRecipe
from labelsmooth.study.tasks.sequences.vocabulary import SMALLEST
from labelsmooth.study.tasks.translation.models import MODELS


@dataclass(frozen=True, kw_only=True)
class Recipe(SequenceRecipe):
    """A study of translation; see `SequenceRecipe`.

    Raises:
        InputError: a setting is outside its range.
    """

    task: ClassVar[str] = "translation"

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
