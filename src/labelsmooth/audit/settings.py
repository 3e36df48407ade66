"""What to audit, and how: one list for the Python call and the command line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

from labelsmooth.checks import require_field_types
from labelsmooth.errors import InputError
from labelsmooth.predictions import FORMATS, Names

# the bootstrap draws every bin a thousand times
_MOST_BINS = 1000


@dataclass(frozen=True, kw_only=True)
class Settings(Names):
    """Files of predictions, one for each model, and the rows that a temperature and a repair are fitted on.

    Raises:
        InputError: a setting is outside its range, or the files do not fit together.
        InputTypeError: a field holds something else than its type.
    """

    files: tuple[Path, ...] = field(
        metadata={
            "help": f"predictions of one model each: {', '.join(FORMATS)}; or with --lm-eval logs or folders "
            "of logs. The first is the reference that every other is compared with, and each also with the "
            "one before it",
            "metavar": "FILE",
            "positional": True,
        }
    )
    lm_eval: bool = field(
        default=False,
        metadata={
            "help": "each FILE is one model: a folder of logs samples_TASK_TIME.jsonl that "
            "lm-evaluation-harness wrote with --log_samples, such as its --output_path, in which they lie in "
            "a folder named after the model; or single logs, of which those in one folder are one model. The "
            "newest run of each multiple-choice task counts, other tasks are left out"
        },
    )
    per_character: bool = field(
        default=False,
        metadata={
            "help": "with --lm-eval, divide each log-likelihood by the characters of its option, as the "
            "harness does for acc_norm"
        },
    )
    validation: tuple[Path, ...] | None = field(
        default=None,
        metadata={
            "help": "predictions on other rows, a file for each FILE in the same order, on which temperature "
            "and repair are fitted (default: the validation rows that a FILE holds itself, else a share of "
            "its rows)",
            "metavar": "FILE",
        },
    )
    validation_share: float = field(
        default=0.2,
        metadata={
            "help": "that share, in (0, 1): the chance that each row is drawn with, by a fixed seed, so that "
            "of few rows it may be another share; the others are measured",
            "metavar": "SHARE",
        },
    )
    precision: float = field(
        default=0.95,
        metadata={
            "help": "share of right answers, in (0, 1), for which a threshold of confidence is chosen on the "
            "rows to fit on, and its coverage measured on the others",
            "metavar": "SHARE",
        },
    )
    class_axis: int = field(
        default=-1,
        metadata={
            "help": "axis of the classes where scores have more than two, as 1 in (N, C, H, W), or 0 in a "
            "single (C, H, W); every other position is a row",
            "metavar": "AXIS",
        },
    )
    ignore_label: int = field(
        default=-100,
        metadata={"help": "label of rows that are left out, as 255 in many maps", "metavar": "LABEL"},
    )
    bins: int = field(default=15, metadata={"help": "bins of confidence of equal width", "metavar": "B"})

    def __post_init__(self) -> None:
        require_field_types(self)
        if not self.files:
            raise InputError("files must name at least one file, got none")
        repeated = [path for path, count in Counter(self.files).items() if count > 1]
        if repeated:
            raise InputError(f"each file must be named once, got {repeated[0]} several times")
        if self.validation is not None and len(self.validation) != len(self.files):
            raise InputError(
                f"validation must name a file for each of the {len(self.files)} files, "
                f"got {len(self.validation)}"
            )
        for measured, fitted in zip(self.files, self.validation or (), strict=self.validation is not None):
            if measured.resolve() == fitted.resolve():
                raise InputError(
                    f"validation must name other rows than those measured, got {fitted} for both"
                )
        if self.lm_eval:
            for other in (*fields(Names), *(known for known in fields(self) if known.name == "validation")):
                if (given := getattr(self, other.name)) is not None:
                    raise InputError(f"lm_eval knows its own format and takes no {other.name}, got {given!r}")
        if self.per_character and not self.lm_eval:
            raise InputError("per_character needs lm_eval, as other files hold no text of their classes")
        if not 0 < self.validation_share < 1:
            raise InputError(f"validation_share must lie in (0, 1), got {self.validation_share:g}")
        if not 0 < self.precision < 1:
            raise InputError(f"precision must lie in (0, 1), got {self.precision:g}")
        if self.bins < 1:
            raise InputError(f"bins must be at least 1, got {self.bins}")
        if self.bins > _MOST_BINS:
            raise InputError(f"bins must be at most {_MOST_BINS}, got {self.bins}")
        if self.logits is not None and self.probs is not None:
            raise InputError(f"either logits or probs can be named, got {self.logits!r} and {self.probs!r}")


def model_names(files: tuple[Path, ...]) -> tuple[str, ...]:
    """A name for each file, all different: its stem, with as much of its path in front as it takes.

    Files that differ in their suffix alone keep it, and folders have none. Bytes that are no UTF-8 become
    question marks.
    """
    for depth in range(max(len(path.parts) for path in files)):
        for whole in (False, True):
            last = [path.name if whole or path.is_dir() else path.stem for path in files]
            names = tuple(
                _printable("/".join((*path.parts[-1 - depth : -1], name)))
                for path, name in zip(files, last, strict=True)
            )
            if len(set(names)) == len(names):
                return names
    return tuple(_printable(f"{number}: {path}") for number, path in enumerate(files, 1))


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
