"""What a study trains: one frozen list of settings, and the trials that it plans."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from labelsmooth.study.models import check_model

OPTIMIZERS = ("sgd", "nesterov")
SCHEDULES = ("cosine", "steps")
LARGEST = 3.4028234663852886e38  # of float32, in which the optimizer reckons


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that the numbers of one trial depend on."""

    data_sha256: str  # of the rows and their split, so that another file under the same name is another trial
    model: str
    model_sha256: str  # of the file of a network of the user's own, so that another one is another trial
    label_noise: float
    eps: float
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    optimizer: str
    schedule: str
    drops: tuple[float, ...]  # of the steps; none for another schedule
    shift: int
    crop: int
    flip: float

    @property
    def id(self) -> str:
        """The name of the trial's folder: readable, and different for any other settings."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"eps{self.eps:g}-seed{self.seed}-{digest[:8]}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A study: every ε is trained with every seed, on the same data and from the same initial weights.

    Raises:
        ValueError: a setting is outside its range.
    """

    data: str = field(
        default="mnist5k",
        metadata={
            "help": "real images to train on: mnist5k, digits, idx:DIR, npz:FILE, folder:DIR, cifar:DIR or "
            "hf:NAME",
            "metavar": "DATA",
        },
    )
    label_noise: float = field(
        default=0.0,
        metadata={
            "help": "probability in [0, 1) that a training label is wrong on purpose, and any other class "
            "(symmetric noise); validation and test labels stay clean",
            "metavar": "P",
        },
    )
    model: str = field(
        default="mlp",
        metadata={
            "help": "network: mlp (two hidden layers of 1200), mlp_dropout (the same with dropout), mlp800 "
            "(two of 800), linear (softmax regression), cnn (a small convolutional one), alexnet, resnet56, "
            "or your own as module:factory, made by factory(shape, num_classes); module:factory:layer names "
            "its classifier where that is not its last linear layer",
            "metavar": "MODEL",
        },
    )
    eps: tuple[float, ...] = field(
        default=(0.0, 0.05, 0.1),
        metadata={
            "help": "amounts of label smoothing in [0, 1]; 0 is the hard arm and must be among them",
            "metavar": "EPS",
        },
    )
    seeds: int = field(
        default=3,
        metadata={"help": "number of repetitions of every arm, with the seeds 0 .. N-1", "metavar": "N"},
    )
    epochs: int = field(default=30, metadata={"help": "passes over the training rows", "metavar": "N"})
    batch_size: int = field(default=128, metadata={"help": "rows in a training step", "metavar": "N"})
    learning_rate: float = field(
        default=0.1,
        metadata={"help": "first learning rate", "metavar": "X"},
    )
    momentum: float = field(default=0.9, metadata={"help": "momentum of SGD, in [0, 1)", "metavar": "X"})
    weight_decay: float = field(
        default=1e-4,
        metadata={
            "help": "L2 penalty of SGD, at least 0; alexnet has it on two matrices only",
            "metavar": "X",
        },
    )
    optimizer: str = field(
        default="sgd",
        metadata={"help": "SGD with momentum, or with that of Nesterov", "choices": OPTIMIZERS},
    )
    schedule: str = field(
        default="cosine",
        metadata={
            "help": "how the learning rate falls: to 0 as a half cosine, or to a tenth at each of --drops",
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
    shift: int = field(
        default=0,
        metadata={
            "help": "pixels by which training images move at random to all sides; what comes in is black",
            "metavar": "N",
        },
    )
    crop: int = field(
        default=0,
        metadata={
            "help": "side of the square that the network sees, at random in training and the middle after "
            "it; 0: all of the image",
            "metavar": "N",
        },
    )
    flip: float = field(
        default=0.0,
        metadata={"help": "probability that a training image is mirrored left to right", "metavar": "P"},
    )

    def __post_init__(self) -> None:
        # −0.0 + 0.0 is 0.0: both must name the same trial
        object.__setattr__(self, "eps", tuple(float(eps) + 0.0 for eps in self.eps))
        object.__setattr__(self, "drops", tuple(float(part) for part in self.drops))
        check_model(self.model)
        if not 0 <= self.label_noise < 1:
            raise ValueError(f"label_noise must lie in [0, 1), got {self.label_noise:g}")
        for eps in self.eps:
            if not 0 <= eps <= 1:
                raise ValueError(f"eps must lie in [0, 1], got {eps:g}")
        if len(set(self.eps)) != len(self.eps):
            raise ValueError(f"eps must not name a value twice, got {_listed(self.eps)}")
        if 0 not in self.eps:
            raise ValueError(
                f"eps must include 0, the hard arm that the others are compared with, got {_listed(self.eps)}"
            )
        for name in ("seeds", "epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not 0 < self.learning_rate <= LARGEST:
            raise ValueError(f"learning_rate must be above 0 and finite, got {self.learning_rate:g}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum:g}")
        if not 0 <= self.weight_decay <= LARGEST:
            raise ValueError(f"weight_decay must be at least 0 and finite, got {self.weight_decay:g}")
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.optimizer == "nesterov" and not self.momentum:
            raise ValueError("the optimizer nesterov must have a momentum above 0, got 0")
        borders = (0.0, *self.drops, 1.0)
        if not all(low < high for low, high in pairwise(borders)):
            raise ValueError(f"drops must ascend in (0, 1), got {_listed(self.drops)}")
        for name in ("shift", "crop"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must lie in [0, 1], got {self.flip:g}")

    def trials(self, data_sha256: str, model_sha256: str = "") -> tuple[TrialConfig, ...]:
        """The planned trials, by ascending ε and then by seed."""
        return tuple(
            TrialConfig(
                data_sha256=data_sha256,
                model=self.model,
                model_sha256=model_sha256,
                label_noise=float(self.label_noise) + 0.0,  # −0.0 names the same trial as 0.0
                eps=eps,
                seed=seed,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=float(self.learning_rate),
                momentum=float(self.momentum),
                weight_decay=float(self.weight_decay),
                optimizer=self.optimizer,
                schedule=self.schedule,
                drops=self.drops if self.schedule == "steps" else (),
                shift=self.shift,
                crop=self.crop,
                flip=float(self.flip),
            )
            for eps in sorted(self.eps)
            for seed in range(self.seeds)
        )


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"
