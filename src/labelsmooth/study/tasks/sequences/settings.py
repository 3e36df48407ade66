"""The settings of a training on sentences whose tokens are predicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from labelsmooth.errors import InputError
from labelsmooth.objectives import FORMS
from labelsmooth.study.recipe import FURTHER, BaseRecipe
from labelsmooth.study.settings import LARGEST, TrainingSettings, check_whole, listed
from labelsmooth.study.tasks.sequences.network import model_sha256

T = TypeVar("T")


def with_default(name: str, default: T) -> T:
    """Make the field of a setting that every task has, with another default."""
    made: T = field(default=default, metadata=TrainingSettings.__dataclass_fields__[name].metadata)
    return made


@dataclass(frozen=True, kw_only=True)
class TokenSettings(TrainingSettings):
    """What the numbers of one trial depend on; rows are tokens.

    Raises:
        InputError: a setting is outside its range.
    """

    epochs: int = with_default("epochs", 10)
    batch_size: int = field(
        default=3000,
        metadata={
            "help": "target tokens in a training step, of sentences of about one length; padding is not "
            "counted",
            "metavar": "N",
        },
    )
    optimizer: str = with_default("optimizer", "adam")
    learning_rate: float = field(default=0.001, metadata={"help": "largest learning rate", "metavar": "X"})
    warm_up: float = with_default("warm_up", 0.1)
    schedule: str = with_default("schedule", "inverse_sqrt")
    weight_decay: float = field(
        default=0.0,
        metadata={"help": "at least 0: L2 penalty of SGD and adam, decoupled decay of adamw", "metavar": "X"},
    )
    clip: float = with_default("clip", 1.0)
    dropout: float = field(
        default=0.1,
        metadata={"help": "dropout of the networks of ours, in [0, 1)", "metavar": "P"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {self.dropout:g}")


@dataclass(frozen=True, kw_only=True)
class SequenceSettings(TokenSettings):
    """What the numbers of one trial depend on whose network is asked for whole sentences too.

    Raises:
        InputError: a setting is outside its range.
    """

    decode: int = field(
        default=500,
        metadata={
            "help": "test sentences to decode by beam search, drawn by fixed chance; 0: none",
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
            "help": "power of its length that the log-probability of a sentence is divided by",
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

    @property
    def idle(self) -> set[str]:
        """The names of the settings that mean nothing beside the others."""
        of_searches = {"beams", "length_penalty", "rectify", "decode_temperatures"}
        return super().idle | (set() if self.decode else of_searches)


@dataclass(frozen=True, kw_only=True)
class SequenceRecipe(SequenceSettings, BaseRecipe):
    """A study of sentences; see `BaseRecipe`.

    Raises:
        InputError: a setting is outside its range.
    """

    settings_class: ClassVar[type[TrainingSettings]] = SequenceSettings
    has_order: ClassVar[bool] = True

    also: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": f"further objectives beside the amounts of --eps: {', '.join(FURTHER)}, "
            f"{FORMS['temporal']}",
            "metavar": "OBJECTIVE",
        },
    )

    @staticmethod
    def model_sha256(model: str) -> str:
        return model_sha256(model)
