"""A stored study, read back; `store` says what its folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from labelsmooth.errors import InputError
from labelsmooth.files import write_whole
from labelsmooth.study.archive import read_npz
from labelsmooth.study.cache import cached_metrics, metrics_to_json
from labelsmooth.study.decode import decode
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.tasks import find_task
from labelsmooth.study.tasks.base import Metrics
from labelsmooth.study.training import measure, undefined
from labelsmooth.study.trial import DivergedTrial, TrialConfig, Weights
from labelsmooth.study.versions import Versions

T = TypeVar("T")

FORMAT = 5  # of the folder; raised when older folders can no longer be read


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A complete trial of a stored study; its curves are of the task's own class."""

    folder: Path
    config: TrialConfig
    curves: Any
    metrics: Metrics
    versions: Versions

    @cached_property
    def arrays(self) -> Any:
        """The arrays of the task's own class, read when first asked for.

        Raises:
            InputError: the file is missing or damaged.
        """
        return read_arrays(self.folder, find_task(self.config.task).arrays)


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A stored study, finished or interrupted."""

    folder: Path
    recipe: Any  # of the task's own class, a `BaseRecipe`
    data: Any  # the summary, of the task's own class
    plan: tuple[str, ...]  # names of all trials, as `BaseRecipe.trials` orders them
    trials: tuple[Trial, ...]  # those that are measured, in the order of the plan
    diverged: tuple[DivergedTrial, ...] = ()  # those that broke down in training, likewise

    @property
    def diverged_arms(self) -> tuple[str, ...]:
        """The objectives of which a trial of the model itself diverged."""
        arms = (trial.config.arm for trial in self.diverged if self._is_of_model(trial.config))
        return tuple(dict.fromkeys(arms))

    @property
    def diverged_students(self) -> tuple[TrialConfig, ...]:
        """The students that diverged of teachers that did not: of all seeds of a student, the first."""
        first: dict[TrialConfig, TrialConfig] = {}
        for trial in self.diverged:
            if trial.config.arm not in self.diverged_arms:
                first.setdefault(_of_any_seed(trial.config), trial.config)
        return tuple(first.values())

    def arms(self) -> dict[str, tuple[Trial, ...]]:
        """Give the trials of the model itself: of each objective, by seed."""
        return self._by_objective(self._is_of_model)

    def _is_of_model(self, config: TrialConfig) -> bool:
        model, settings = self.recipe.model, self.recipe.settings()
        return config.teacher is None and (config.model, config.settings) == (model, settings)

    def students_alone(self) -> dict[str, tuple[Trial, ...]]:
        """Give the trials of the student without a teacher, likewise; {} where these are the arms."""
        if not self.recipe.trains_student_alone:
            return {}
        wanted = (self.recipe.student, self.recipe.student_settings())
        return self._by_objective(
            lambda config: config.teacher is None and (config.model, config.settings) == wanted
        )

    def students(self, temperature: float) -> dict[str, tuple[Trial, ...]]:
        """Give the trials of the student at a temperature: of each teacher's objective, by seed."""
        if self.recipe.student is None or temperature not in self.recipe.temperatures:
            return {}
        return self._by_objective(
            lambda config: config.teacher is not None and config.temperature == temperature
        )

    def _by_objective(self, wanted: Callable[[TrialConfig], bool]) -> dict[str, tuple[Trial, ...]]:
        found: dict[str, list[Trial]] = {str(objective): [] for objective in self.recipe.objectives}
        for trial in self.trials:
            if wanted(trial.config):
                found[trial.config.arm].append(trial)
        return {name: tuple(sorted(ts, key=lambda t: t.config.seed)) for name, ts in found.items() if ts}

    def without_diverged(self) -> Study:
        """Leave out what diverged with one seed, with all seeds, as networks are compared seed by seed.

        Where a trial of the model itself diverged, its objective goes with all students; where a student
        did, those of its teacher's objective and temperature, or on its objective without a teacher.

        Raises:
            InputError: a trial of the model on hard labels diverged, with which the others are compared.
        """
        gone = self.diverged_arms
        if "hard" in gone:
            reason = next(trial.reason for trial in self.diverged if trial.config.arm == "hard")
            raise InputError(
                f"the study in {self.folder} has no hard arm to compare with, as a trial of it diverged: "
                f"{reason}"
            )
        kept = [objective for objective in self.recipe.objectives if str(objective) not in gone]
        recipe = replace(
            self.recipe,
            eps=tuple(one.eps for one in kept if one.eps is not None),
            also=tuple(str(one) for one in kept if one.eps is None),
        )
        configs = [trial.config for trial in self.trials] + [trial.config for trial in self.diverged]
        students = {_of_any_seed(config) for config in self.diverged_students}
        left_out = {config.id for config in configs if config.arm in gone or _of_any_seed(config) in students}
        return replace(
            self,
            recipe=recipe,
            plan=tuple(name for name in self.plan if name not in left_out),
            trials=tuple(trial for trial in self.trials if trial.config.id not in left_out),
        )


def _of_any_seed(config: TrialConfig) -> TrialConfig:
    """Give what the trials have in common that differ in their seed alone."""
    teacher = config.teacher and replace(config.teacher, id="")
    return replace(config, seed=0, teacher=teacher)


def load_study(folder: Path | str) -> Study:
    """Read a study that `run_study` wrote, finished or interrupted.

    Args:
        folder: that the study was written to.

    Returns:
        The study with its complete trials; their arrays are read when first used.

    Raises:
        InputError: the folder holds no study, or a part of it is damaged.
    """
    folder = Path(folder)
    path = folder / "study.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no study: there is no study.json in it")
    try:
        recipe, data, plan = _read_header(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read as a study ({error})") from error
    found = [read_trial(folder / "trials" / name) for name in plan if (folder / "trials" / name).exists()]
    return Study(
        folder=folder,
        recipe=recipe,
        data=data,
        plan=plan,
        trials=tuple(trial for trial in found if isinstance(trial, Trial)),
        diverged=tuple(trial for trial in found if isinstance(trial, DivergedTrial)),
    )


def _read_header(path: Path) -> tuple[BaseRecipe, Any, tuple[str, ...]]:
    stored = _read_json(path)
    if stored.get("format") != FORMAT:
        raise InputError(f"its format is {stored.get('format')!r}, expected {FORMAT}")
    for name in ("task", "recipe", "data", "plan"):
        if name not in stored:
            raise InputError(f"{path.name} must hold {name}, which is missing")
    task = find_task(decode(str, stored["task"], f"{path.name}: task"))
    recipe = decode(task.recipe, stored["recipe"], f"{path.name}: recipe")
    data = decode(task.summary, stored["data"], f"{path.name}: data")
    plan: tuple[str, ...] = decode(tuple[str, ...], stored["plan"], f"{path.name}: plan")
    _check_plan(plan, recipe.number_of_trials)
    return recipe, data, plan


def _check_plan(plan: Sequence[str], expected: int) -> None:
    if len(plan) != expected:
        raise InputError(f"its plan of {len(plan)} trials is not that of its recipe")
    for name in plan:
        if name in ("", "..") or Path(name).name != name or plan.count(name) > 1:
            raise InputError(f"{name!r} is not the name of one trial")


def read_trial(folder: Path) -> Trial | DivergedTrial:
    """Read a stored trial.

    Raises:
        InputError: it is damaged.
    """
    with reading_trial(folder):
        stored = _read_json(folder / "config.json")
        task = find_task(decode(str, stored.get("task"), "config.json: task"))
        config = decode(TrialConfig, stored, "config.json", settings=task.recipe.settings_class)
        if config.id != folder.name.removeprefix("."):
            raise InputError("config.json is not that of this trial")
        versions = _read(Versions, folder / "versions.json")
        if (folder / "diverged.json").exists():
            reason = _read_json(folder / "diverged.json").get("reason")
            return DivergedTrial(
                config=config, reason=decode(str, reason, "diverged.json: reason"), versions=versions
            )
        curves = _read(task.curves, folder / "curves.json")
        if missing := undefined(asdict(curves)):
            raise InputError(f"curves.json must hold finite numbers, got none for {', '.join(missing)}")
    metrics = cached_metrics(folder / "metrics.json")
    if metrics is None:
        metrics = _measured(folder, config)
        with suppress(OSError):  # as on a disk that may only be read: then they are measured again next time
            write_whole(folder / "metrics.json", to_json(metrics_to_json(metrics)))
    return Trial(folder=folder, config=config, curves=curves, metrics=metrics, versions=versions)


def _measured(folder: Path, config: TrialConfig) -> Metrics:
    """Measure a stored trial by its arrays."""
    arrays = read_arrays(folder, find_task(config.task).arrays)
    with reading_trial(folder):
        metrics = measure(config, arrays)
        if missing := undefined(metrics):
            raise InputError(f"arrays.npz must tell all numbers, got none for {', '.join(missing)}")
    return metrics


def read_arrays(folder: Path, kind: type[T]) -> T:
    """Read and check the arrays of a stored trial.

    Raises:
        InputError: the file is missing or damaged.
    """
    with reading_trial(folder):
        stored: dict[str, Any] = {}
        for name, array in read_npz(folder / "arrays.npz").items():
            field, _, part = name.partition(".")
            if part:
                stored.setdefault(field, {})[part] = array
            else:
                stored[field] = array
        expected = fields(kind)  # type: ignore[arg-type]
        names = [field.name for field in expected]
        needed = {f.name for f in expected if f.default is MISSING and f.default_factory is MISSING}
        if not needed <= set(stored) <= set(names):
            raise InputError(f"arrays.npz must hold {', '.join(names)}, got {', '.join(stored) or 'none'}")
        arrays = kind(**stored)
        arrays.check()  # type: ignore[attr-defined]
        return arrays


def read_weights(folder: Path) -> Weights:
    """Read the weights of a stored trial's network.

    Raises:
        InputError: the file is missing or damaged.
    """
    with reading_trial(folder):
        return read_npz(folder / "weights.npz")


@contextmanager
def reading_trial(folder: Path) -> Iterator[None]:
    """Say of what is refused in a stored trial what to do."""
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        raise InputError(
            f"the trial in {folder} is damaged ({error}); "
            "delete that folder and run the study again to train it anew"
        ) from error


def _read(kind: type[T], path: Path) -> T:
    return decode(kind, _read_json(path), path.name)


def to_json(stored: Mapping[str, Any]) -> bytes:
    """Give a JSON object as the bytes of a file."""
    return (json.dumps(stored, indent=2, allow_nan=False) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not JSON") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path.name} must hold a JSON object")
    return stored
