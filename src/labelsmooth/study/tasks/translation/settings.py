"""The settings of a study of translation: those of every task, and those of sentences and their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from labelsmooth.errors import InputError
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.settings import LARGEST, TrainingSettings, check_whole, listed
from labelsmooth.study.tasks.sequences.pairs import VERSES
from labelsmooth.study.tasks.sequences.vocabulary import SMALLEST
from labelsmooth.study.tasks.translation.models import check_model, model_sha256

T = TypeVar("T")


def _with_default(name: str, default: T) -> T:
    """Make the field of a setting that every task has, with another default."""
    made: T = field(default=default, metadata=TrainingSettings.__dataclass_fields__[name].metadata)
    return made


@dataclass(frozen=True, kw_only=True)
class TranslationSettings(TrainingSettings):
    """What the numbers of one trial depend on; rows are target tokens.

    Raises:
        InputError: a setting is outside its range.
    """

    epochs: int = _with_default("epochs", 10)
    batch_size: int = field(
        default=3000,
        metadata={
            "help": "target tokens in a training step, of sentences of about one length; padding is not "
            "counted",
            "metavar": "N",
        },
    )
    optimizer: str = _with_default("optimizer", "adam")
    learning_rate: float = field(default=0.001, metadata={"help": "largest learning rate", "metavar": "X"})
    warm_up: float = _with_default("warm_up", 0.1)
    schedule: str = _with_default("schedule", "inverse_sqrt")
    weight_decay: float = field(
        default=0.0,
        metadata={"help": "at least 0: L2 penalty of SGD and adam, decoupled decay of adamw", "metavar": "X"},
    )
    clip: float = _with_default("clip", 1.0)
    dropout: float = field(
        default=0.1,
        metadata={"help": "dropout of the models small and base, in [0, 1)", "metavar": "P"},
    )
    decode: int = field(
        default=500,
        metadata={
            "help": "test sentences to translate by beam search, drawn by fixed chance; 0: none",
            "metavar": "N",
        },
    )
    beams: tuple[int, ...] = field(
        default=(1, 4),
        metadata={"help": "beams of the searches; 1 is greedy", "metavar": "N"},
    )
    length_penalty: float = field(
        default=1.0,
        metadata={
            "help": "power of its length that the log-probability of a translation is divided by",
            "metavar": "X",
        },
    )
    rectify: float = field(
        default=0.0,
        metadata={
            "help": "ε in [0, 1) to search with p − ε/K in place of p too, which takes back what uniform "
            "smoothing gives to all K tokens; 0: not",
            "metavar": "EPS",
        },
    )
    decode_temperatures: tuple[float, ...] = field(
        default=(),
        metadata={
            "help": "temperatures above 0 at which the widest search is repeated, for a curve of its scores",
            "metavar": "T",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {self.dropout:g}")
        check_whole("decode", self.decode, at_least=0)
        for beams in self.beams:
            check_whole("beams", beams, at_least=1)
        for name in ("beams", "decode_temperatures"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise InputError(f"{name} must not name a value twice, got {listed(values)}")
        if not self.beams:
            raise InputError("beams must name at least one value, got none")
        if not -LARGEST <= self.length_penalty <= LARGEST:
            raise InputError(f"length_penalty must be finite, got {self.length_penalty:g}")
        if not 0 <= self.rectify < 1:
            raise InputError(f"rectify must lie in [0, 1), got {self.rectify:g}")
        for temperature in self.decode_temperatures:
            if not 0.01 <= temperature <= 100:
                raise InputError(f"decode_temperatures must lie in [0.01, 100], got {temperature:g}")


@dataclass(frozen=True, kw_only=True)
class Recipe(TranslationSettings, BaseRecipe):
    """A study of translation; see `BaseRecipe`.

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
        check_model(self.model)

    def model_sha256(self, model: str) -> str:
        return model_sha256(model)
