"""What a study trains: one frozen list of settings, and the trials that it plans."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise

from labelsmooth.errors import InputError
from labelsmooth.objectives import Objective
from labelsmooth.study.models import check_model, model_sha256
from labelsmooth.study.placement import PRECISIONS

OPTIMIZERS = ("sgd", "nesterov")
SCHEDULES = ("cosine", "linear", "steps")
MOST_SEEDS = 10_000  # each is a trial of every objective, all of which are planned before the first
LARGEST = 3.4028234663852886e38  # of float32, in which the optimizer reckons


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that the numbers of one trial depend on."""

    data_sha256: str  # of the rows and their split, so that another file under the same name is another trial
    model: str
    model_sha256: str  # of the file of a network of the user's own, so that another one is another trial
    label_noise: float
    objective: str  # as `Objective.parse` reads it; of a student beside what its teacher says
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    optimizer: str
    clip: float
    precision: str
    schedule: str
    drops: tuple[float, ...]  # of the steps; none for another schedule
    shift: int
    crop: int
    flip: float
    information: int
    teacher: str = (
        ""  # id of the trial whose network teaches this one; none for "", and so for the next three
    )
    taught_by: str = ""  # its objective
    temperature: float = 0.0  # of teacher and student
    beta: float = 0.0  # share of the teacher in the loss

    @property
    def id(self) -> str:
        """The name of the trial's folder: readable, and different for any other settings."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        name = f"{self.taught_by}-student-T{self.temperature:g}" if self.teacher else self.objective
        return f"{name.replace(':', '=')}-seed{self.seed}-{digest[:8]}"

    @property
    def words(self) -> str:
        """Which of the trials of a study this is."""
        if self.teacher:
            return f"student at T = {self.temperature:g} of {self.taught_by}, seed {self.seed}"
        return f"{self.model} on {self.objective}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A study: every objective is trained with every seed, from the same initial weights on the same data.

    With a student, another network learns at every temperature from each of these as its teacher, and, as
    what to compare with, from every objective without one.

    Raises:
        ValueError: a setting is outside its range.
    """

    data: str = field(
        default="mnist5k",
        metadata={
            "help": "real images, or a table, to train on: mnist5k, digits, idx:DIR, npz:FILE, folder:DIR, "
            "cifar:DIR or hf:NAME; standardised channel by channel, or column by column",
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
            "help": "amounts of uniform label smoothing in [0, 1]; 0 is the hard arm and must be among them",
            "metavar": "EPS",
        },
    )
    also: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "further objectives beside the amounts of --eps: others:EPS, unigram:EPS, "
            "class_conditional:EPS, generalised:EPS[:WARM-UP] (below 0, for noisy labels, after that part "
            "of the training), confidence_penalty:BETA, max_suppression:EPS, "
            "margin_smoothing:LAMBDA[:MARGIN], mixup:ALPHA, or one of them and mixup, as in "
            "uniform:0.1+mixup:0.2",
            "metavar": "OBJECTIVE",
        },
    )
    seeds: int = field(
        default=3,
        metadata={"help": "number of repetitions of every arm, with the seeds 0 .. N-1", "metavar": "N"},
    )
    epochs: int = field(default=30, metadata={"help": "passes over the training rows", "metavar": "N"})
    batch_size: int = field(
        default=128,
        metadata={
            "help": "rows in a training step; a last step of one row joins the one before it where the "
            "network has batch normalisation",
            "metavar": "N",
        },
    )
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
    schedule: str = field(
        default="cosine",
        metadata={
            "help": "how the learning rate falls: to 0 as a half cosine or a line, or to a tenth at each of "
            "--drops",
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
    information: int = field(
        default=0,
        metadata={
            "help": "moments of the training, the first and the last epoch among them, at which to measure "
            "the mutual information of inputs and logits; needs --shift, --crop or --flip",
            "metavar": "N",
        },
    )
    student: str | None = field(
        default=None,
        metadata={
            "help": "network that is to learn from each of the others as its teacher, named as for --model",
            "metavar": "MODEL",
        },
    )
    temperatures: tuple[float, ...] = field(
        default=(1.0, 2.0, 4.0),
        metadata={"help": "temperatures T of teacher and student, above 0", "metavar": "T"},
    )
    beta: float = field(
        default=1.0,
        metadata={
            "help": "share of the teacher in a student's loss, in (0, 1]; the rest is of the labels",
            "metavar": "X",
        },
    )
    plain_student: bool = field(
        default=False,
        metadata={
            "help": "show students, with a teacher or without, images that are not shifted or mirrored"
        },
    )

    def __post_init__(self) -> None:
        # −0.0 + 0.0 is 0.0: both must name the same trial
        object.__setattr__(self, "eps", tuple(float(eps) + 0.0 for eps in self.eps))
        object.__setattr__(self, "drops", tuple(float(part) for part in self.drops))
        check_model(self.model)
        if not 0 <= self.label_noise < 1:
            raise InputError(f"label_noise must lie in [0, 1), got {self.label_noise:g}")
        for eps in self.eps:
            if not 0 <= eps <= 1:
                raise InputError(f"eps must lie in [0, 1], got {eps:g}")
        if len(set(self.eps)) != len(self.eps):
            raise InputError(f"eps must not name a value twice, got {_listed(self.eps)}")
        if 0 not in self.eps:
            raise InputError(
                f"eps must include 0, the hard arm that the others are compared with, got {_listed(self.eps)}"
            )
        for objective in self.objectives:  # which parses them
            if self.objectives.count(objective) > 1:
                raise InputError(f"the objectives must not name {objective} twice")
            if objective.needs_teacher:
                raise InputError(f"{objective} needs a teacher, which --student and --temperatures plan")
        if self.student is not None:
            check_model(self.student)
        object.__setattr__(self, "temperatures", tuple(float(value) for value in self.temperatures))
        if not self.temperatures or len(set(self.temperatures)) != len(self.temperatures):
            raise InputError(
                f"temperatures must name at least one value, and none twice, got {_listed(self.temperatures)}"
            )
        for value in self.temperatures:
            if not 0.01 <= value <= 10_000:  # T² multiplies the loss, in float32
                raise InputError(f"temperatures must lie in [0.01, 10000], got {value:g}")
        if not 0 < self.beta <= 1:
            raise InputError(f"beta must lie in (0, 1], got {self.beta:g}")
        for name in ("seeds", "epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.seeds > MOST_SEEDS:
            raise InputError(f"seeds must be at most {MOST_SEEDS:,}, got {self.seeds:,}")
        if not 0 < self.learning_rate <= LARGEST:
            raise InputError(f"learning_rate must be above 0 and finite, got {self.learning_rate:g}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must lie in [0, 1), got {self.momentum:g}")
        if not 0 <= self.weight_decay <= LARGEST:
            raise InputError(f"weight_decay must be at least 0 and finite, got {self.weight_decay:g}")
        if not 0 <= self.clip <= LARGEST:
            raise InputError(f"clip must be at least 0 and finite, got {self.clip:g}")
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
            ("schedule", SCHEDULES),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.optimizer == "nesterov" and not self.momentum:
            raise InputError("the optimizer nesterov must have a momentum above 0, got 0")
        borders = (0.0, *self.drops, 1.0)
        if not all(low < high for low, high in pairwise(borders)):
            raise InputError(f"drops must ascend in (0, 1), got {_listed(self.drops)}")
        for name in ("shift", "crop", "information"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{name} must be a whole number of at least 0, got {value!r}")
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip must lie in [0, 1], got {self.flip:g}")
        if self.information and not (self.shift or self.crop or 0 < self.flip < 1):
            raise InputError(
                f"information {self.information} must come with a shift, a crop, or a flip below 1, "
                "got none of them"
            )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the trials train on: uniform smoothing by ascending ε, then the others as they were named."""
        return (*map(Objective.uniform, sorted(self.eps)), *map(Objective.parse, self.also))

    def trials(self, data_sha256: str) -> tuple[TrialConfig, ...]:
        """The planned trials: by objective and then by seed, the students after all of their teachers.

        Args:
            data_sha256: of the rows and their split.

        Raises:
            ValueError: there is no module of the name that a network of the user's own has.
        """
        first = self._untaught(self.model, data_sha256)
        if self.student is None:
            return first
        plain = replace(self, information=0)
        if self.plain_student:
            plain = replace(plain, shift=0, flip=0.0)
        alone = plain._untaught(self.student, data_sha256)
        taught = tuple(
            replace(
                student,
                objective="hard",
                teacher=teacher.id,
                taught_by=teacher.objective,
                temperature=temperature,
                beta=float(self.beta),
            )
            for temperature in self.temperatures
            for teacher, student in zip(first, alone, strict=True)
        )
        # a student of the same model as its teacher, on the same images, is what its teacher is without one
        same = self.student == self.model and (plain.shift, plain.flip) == (self.shift, self.flip)
        return (*first, *(() if same else alone), *taught)

    def _untaught(self, model: str, data_sha256: str) -> tuple[TrialConfig, ...]:
        sha256 = model_sha256(model)
        return tuple(
            TrialConfig(
                data_sha256=data_sha256,
                model=model,
                model_sha256=sha256,
                label_noise=float(self.label_noise) + 0.0,  # −0.0 names the same trial as 0.0
                objective=str(objective),
                seed=seed,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=float(self.learning_rate),
                momentum=float(self.momentum),
                weight_decay=float(self.weight_decay),
                optimizer=self.optimizer,
                clip=float(self.clip) + 0.0,
                precision=self.precision,
                schedule=self.schedule,
                drops=self.drops if self.schedule == "steps" else (),
                shift=self.shift,
                crop=self.crop,
                flip=float(self.flip),
                information=self.information,
            )
            for objective in self.objectives
            for seed in range(self.seeds)
        )


def setting_words(value: object) -> str:
    """A setting as it is given on the command line."""
    if value in (None, ()):
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(setting_words, value))
    return str(value).removesuffix(".0")


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"
