"""The settings of a study of images, or of tables: those of every task, and what is done to the rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from labelsmooth.errors import InputError
from labelsmooth.objectives import FORMS
from labelsmooth.study.recipe import FURTHER
from labelsmooth.study.settings import TrainingSettings, check_choice, check_whole
from labelsmooth.study.tasks.images.data import STANDARDISE
from labelsmooth.study.tasks.images.models import check_model, model_sha256
from labelsmooth.study.teaching import TeachingRecipe


@dataclass(frozen=True, kw_only=True)
class ImageSettings(TrainingSettings):
    """The settings of a trial on images.

    Raises:
        InputError: a setting is outside its range.
    """

    label_noise: float = field(
        default=0.0,
        metadata={
            "help": "probability in [0, 1) that a training label is wrong on purpose, and any other class "
            "(symmetric noise); validation and test labels stay clean",
            "metavar": "P",
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_noise < 1:
            raise InputError(f"label_noise must lie in [0, 1), got {self.label_noise:g}")
        for name in ("shift", "crop", "information"):
            check_whole(name, getattr(self, name), at_least=0)
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip must lie in [0, 1], got {self.flip:g}")
        if self.information and not (self.shift or self.crop or 0 < self.flip < 1):
            raise InputError(
                f"information {self.information} must come with a shift, a crop, or a flip below 1, "
                "got none of them"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe(ImageSettings, TeachingRecipe):
    """A study of images, or of tables; see `TeachingRecipe`.

    Raises:
        InputError: a setting is outside its range.
    """

    task: ClassVar[str] = "images"
    settings_class: ClassVar[type[TrainingSettings]] = ImageSettings
    mixes_inputs: ClassVar[bool] = True
    of_students: ClassVar[tuple[str, ...]] = (*TeachingRecipe.of_students, "plain_student")
    growing: ClassVar[tuple[str, ...]] = (*TeachingRecipe.growing, "plain_student")
    dependent: ClassVar[tuple[str, ...]] = (*TeachingRecipe.dependent, "plain_student")

    data: str = field(
        default="mnist5k",
        metadata={
            "help": "real images, or a table, to train on: mnist5k, digits, idx:DIR, npz:FILE, folder:DIR, "
            "cifar:DIR or hf:NAME",
            "metavar": "DATA",
        },
    )
    standardise: str = field(
        default="auto",
        metadata={
            "help": "inputs get the mean 0 and the deviation 1 of the training rows in each channel or each "
            "column (pixel); auto: channel for images, column for tables; none: they stay as they are",
            "choices": STANDARDISE,
        },
    )
    resize: int = field(
        default=0,
        metadata={
            "help": "side of the square that the middle of every image of folder:DIR or hf:NAME is scaled "
            "to, antialiased; 0: all must have one size",
            "metavar": "N",
        },
    )
    model: str = field(
        default="mlp",
        metadata={
            "help": "network: mlp (two hidden layers of 1200), mlp_dropout (the same with dropout), mlp800 "
            "(two of 800), linear (softmax regression), cnn (a small convolutional one), alexnet, resnet56, "
            "or your own as module:factory, made by factory(shape, num_classes) or, as those of torchvision "
            "and timm, by factory(num_classes=...); module:factory:layer names "
            "its classifier where that is not its last linear layer",
            "metavar": "MODEL",
        },
    )
    also: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "further objectives beside the amounts of --eps: "
            f"{', '.join(FURTHER)}, {FORMS['mixup']}, or one of them and mixup, as in uniform:0.1+mixup:0.2",
            "metavar": "OBJECTIVE",
        },
    )
    plain_student: bool = field(
        default=False,
        metadata={
            "help": "show students, with a teacher or without, images that are not shifted or mirrored"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("standardise", self.standardise, STANDARDISE)
        check_whole("resize", self.resize, at_least=0)
        if self.shift and self.standardise == "column":
            raise InputError("a shift needs images that are not standardised column by column")
        check_model(self.model)
        if self.student is not None:
            check_model(self.student)

    def student_settings(self) -> ImageSettings:
        settings = self.settings()
        assert isinstance(settings, ImageSettings)
        settings = replace(settings, information=0)
        return replace(settings, shift=0, flip=0.0) if self.plain_student else settings

    @property
    def student_words(self) -> str:
        return ", on images that were not shifted or mirrored" if self.plain_student else ""

    @staticmethod
    def model_sha256(model: str) -> str:
        return model_sha256(model)
