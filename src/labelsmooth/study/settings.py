"""How a network is trained, whatever the task: the settings that each task's own settings extend."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any, Self

from labelsmooth.checks import require_field_types
from labelsmooth.errors import InputError

OPTIMIZERS = ("sgd", "nesterov", "adamw", "adam")
PRECISIONS = ("no", "bf16", "fp16")  # as accelerate names them
SCHEDULES = ("cosine", "linear", "steps", "inverse_sqrt")
LARGEST = 3.4028234663852886e38  # of float32, in which the optimizer reckons


class Settings:
    """Frozen dataclasses of settings, each of which checks its own fields, and then leaves it to the next.

    A field with a default in float takes whole numbers too, and −0.0 is 0.0.

    Raises:
        InputTypeError: a field holds something else than its type.
    """

    def __post_init__(self) -> None:
        require_field_types(self)  # type: ignore[arg-type]
        for setting in fields(self):  # type: ignore[arg-type]
            value, default = getattr(self, setting.name), setting.default
            if isinstance(default, float):
                object.__setattr__(self, setting.name, float(value) + 0.0)
            elif isinstance(default, tuple) and all(isinstance(part, float) for part in default):
                floats = tuple(float(part) + 0.0 if default else part for part in value)
                object.__setattr__(self, setting.name, floats)

    @property
    def idle(self) -> set[str]:
        """The names of the settings that mean nothing beside the others."""
        return set()


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """The settings of a training that are the same for every task.

    The name of a trial is made of what differs from these defaults, so a setting can be added without
    retiring the trials that are stored; no default may ever change.

    Raises:
        InputError: a setting is outside its range.
    """

    epochs: int = field(default=30, metadata={"help": "passes over the training rows", "metavar": "N"})
    batch_size: int = field(
        default=128,
        metadata={
            "help": "rows in a training step; a last step of one row joins the one before it where the "
            "network has batch normalisation",
            "metavar": "N",
        },
    )
    optimizer: str = field(
        default="sgd",
        metadata={
            "help": "SGD with momentum, or with that of Nesterov; AdamW, with betas of 0.9 and 0.999; or "
            "Adam, with betas of 0.9 and 0.98 and ε = 1e-9, as Transformers were first trained",
            "choices": OPTIMIZERS,
        },
    )
    learning_rate: float = field(
        default=0.1,
        metadata={"help": "largest learning rate; 0.001 is usual for adamw", "metavar": "X"},
    )
    warm_up: float = field(
        default=0.0,
        metadata={
            "help": "part of the training in [0, 1) over which the learning rate first rises in a line",
            "metavar": "PART",
        },
    )
    schedule: str = field(
        default="cosine",
        metadata={
            "help": "how the learning rate falls: to 0 as a half cosine or a line, to a tenth at each of "
            "--drops, or after the warm-up as 1/√step",
            "choices": SCHEDULES,
        },
    )
    drops: tuple[float, ...] = field(
        default=(0.5, 0.75),
        metadata={
            "help": "parts of the training, ascending in (0, 1), after which --schedule steps takes a tenth",
            "metavar": "PART",
        },
    )
    momentum: float = field(
        default=0.9, metadata={"help": "momentum of SGD, in [0, 1); adamw and adam have none", "metavar": "X"}
    )
    weight_decay: float = field(
        default=1e-4,
        metadata={
            "help": "at least 0: L2 penalty of SGD and adam, decoupled decay of adamw; alexnet has it on two "
            "matrices only",
            "metavar": "X",
        },
    )
    clip: float = field(
        default=0.0,
        metadata={"help": "largest norm of the gradient of a step; 0: any", "metavar": "X"},
    )
    precision: str = field(
        default="no",
        metadata={
            "help": "mixed precision of the training, with bf16 or fp16 in place of float32 where that does "
            "no harm; needs accelerate",
            "choices": PRECISIONS,
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size"):
            check_whole(name, getattr(self, name), at_least=1)
        if not 0 < self.learning_rate <= LARGEST:
            raise InputError(f"learning_rate must be above 0 and finite, got {self.learning_rate:g}")
        for name in ("momentum", "warm_up"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), got {getattr(self, name):g}")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) <= LARGEST:
                raise InputError(f"{name} must be at least 0 and finite, got {getattr(self, name):g}")
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
            ("schedule", SCHEDULES),
        ):
            check_choice(name, getattr(self, name), choices)
        if self.optimizer == "nesterov" and not self.momentum:
            raise InputError("the optimizer nesterov must have a momentum above 0, got 0")
        borders = (0.0, *self.drops, 1.0)
        if not all(low < high for low, high in pairwise(borders)):
            raise InputError(f"drops must ascend in (0, 1), got {listed(self.drops)}")

    @property
    def idle(self) -> set[str]:
        """The names of the settings that mean nothing beside the others."""
        idle = super().idle
        if self.schedule != "steps":
            idle.add("drops")
        if self.optimizer in ("adamw", "adam"):
            idle.add("momentum")
        return idle

    def effective(self) -> Self:
        """Give the settings with the default in place of each that means nothing beside the others."""
        idle = self.idle
        defaults: dict[str, Any] = {f.name: f.default for f in fields(self) if f.name in idle}
        return replace(self, **defaults)


def check_whole(name: str, value: int, at_least: int) -> None:
    """Check that a setting is a whole number that is not too small.

    Raises:
        InputError: it is not.
    """
    if value < at_least:
        raise InputError(f"{name} must be a whole number of at least {at_least}, got {value}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that a setting is one of its choices.

    Raises:
        InputError: it is not.
    """
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def setting_words(value: object) -> str:
    """Write a setting as it is given on the command line."""
    if value in (None, ()):
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(setting_words, value))
    return str(value).removesuffix(".0")


def listed(values: tuple[float, ...]) -> str:
    """Write numbers for a message."""
    return ", ".join(f"{value:g}" for value in values) or "none"
