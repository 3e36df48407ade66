"""The folder of a study: written so that a kill leaves nothing half done, and read back.

OUT/study.json         the recipe, a summary of the data, and the plan: the names of the trials
OUT/trials/TRIAL/      config.json, metrics.json, versions.json, arrays.npz, weights.npz
OUT/tracked-NAME.txt   the trials that the tracker NAME has got; OUT/tracking/ is TensorBoard's
OUT/results.jsonl      one line per complete trial in the order of the plan; the same bytes for the same
                       numbers, so it holds no times, dates or paths

A trial's folder appears whole, by a rename, or not at all.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.files import PARTIAL, sync_folder, write_synced, write_whole
from labelsmooth.study.data import DataSummary
from labelsmooth.study.decode import decode
from labelsmooth.study.measuring import Metrics, TrialArrays, undefined
from labelsmooth.study.readers.npz import read_npz
from labelsmooth.study.recipe import Recipe, TrialConfig
from labelsmooth.study.training import TrialResult, Weights
from labelsmooth.study.versions import Versions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

FORMAT = 3  # of the folder; raised when older folders can no longer be read
GROWING = (
    "eps",
    "also",
    "seeds",
    "student",
    "temperatures",
    "beta",
    "plain_student",
)  # may change: trials are kept or added


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What study.json holds."""

    format: int
    recipe: Recipe
    data: DataSummary
    plan: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A complete trial of a stored study."""

    folder: Path
    config: TrialConfig
    metrics: Metrics
    versions: Versions

    @cached_property
    def arrays(self) -> TrialArrays:
        """The logits, features and templates, read when first asked for.

        Raises:
            ValueError: the file is missing or damaged.
        """
        return _read_arrays(self.folder)


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A stored study, finished or interrupted."""

    folder: Path
    recipe: Recipe
    data: DataSummary
    plan: tuple[str, ...]  # names of all trials, as `Recipe.trials` orders them
    trials: tuple[Trial, ...]  # the complete ones, in the order of the plan

    def arms(self) -> dict[str, tuple[Trial, ...]]:
        """The complete trials of the model itself: of each objective, by seed."""
        return self._by_objective(0)

    def students_alone(self) -> dict[str, tuple[Trial, ...]]:
        """Those of the student without a teacher: of each objective, by seed; {} where these are the arms."""
        taught = 0 if self.recipe.student is None else len(self.recipe.temperatures)
        return self._by_objective(1) if len(self.plan) == (2 + taught) * self._block else {}

    def students(self, temperature: float) -> dict[str, tuple[Trial, ...]]:
        """Those of the student with a teacher, at a temperature: of each teacher's objective, by seed."""
        if self.recipe.student is None or temperature not in self.recipe.temperatures:
            return {}
        others = 2 if self.students_alone() else 1
        return self._by_objective(others + self.recipe.temperatures.index(temperature))

    @property
    def _block(self) -> int:
        """The plan is blocks of so many trials, of one network for each objective and seed."""
        return len(self.recipe.objectives) * self.recipe.seeds

    def _by_objective(self, block: int) -> dict[str, tuple[Trial, ...]]:
        complete = {trial.folder.name: trial for trial in self.trials}
        names, seeds = self.plan[block * self._block :], self.recipe.seeds
        return {
            str(objective): tuple(
                complete[name] for name in names[at * seeds : (at + 1) * seeds] if name in complete
            )
            for at, objective in enumerate(self.recipe.objectives)
        }


def load_study(folder: Path | str) -> Study:
    """Read a study that `run_study` wrote, finished or interrupted.

    Args:
        folder: that the study was written to.

    Returns:
        The study with its complete trials; their arrays are read when first used.

    Raises:
        ValueError: the folder holds no study, or a part of it is damaged.
    """
    folder = Path(folder)
    path = folder / "study.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no study: there is no study.json in it")
    try:
        stored = _read_json(path)
        if stored.get("format") != FORMAT:
            raise InputError(f"its format is {stored.get('format')!r}, expected {FORMAT}")
        header = decode(_Header, stored, path.name)
        recipe, data, plan = header.recipe, header.data, header.plan
        _check_plan(recipe, plan)
    except InputError as error:
        raise InputError(f"{path} cannot be read as a study ({error})") from error
    folders = [folder / "trials" / name for name in plan]
    trials = tuple(_read_trial(trial) for trial in folders if trial.exists())
    _check_places(recipe, plan, trials)
    return Study(folder=folder, recipe=recipe, data=data, plan=plan, trials=trials)


@contextmanager
def lock_study(out: Path) -> Iterator[None]:
    """Hold a study's folder, made where it is missing, against every other process.

    Raises:
        ValueError: another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(out / ".lock").acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"another process is running a study in {out}") from error
    with held:
        yield


def check_folder(out: Path, recipe: Recipe, data: DataSummary) -> None:
    """Check that a folder can take a study: it holds none, or this one with other objectives and seeds.

    Raises:
        ValueError: as `begin_study`.
    """
    if not (out / "study.json").exists():
        return
    before = load_study(out)
    old, new = asdict(before.recipe), asdict(recipe)
    differing = [f"{name} {old[name]}" for name in new if old[name] != new[name] and name not in GROWING]
    if before.data.sha256 != data.sha256 and not differing:
        differing = ["other rows"]
    if differing:
        raise InputError(
            f"{out} holds a study with other settings ({', '.join(differing)}); give this one another folder"
        )


def begin_study(out: Path, recipe: Recipe, data: DataSummary, configs: Sequence[TrialConfig]) -> None:
    """Write study.json, and remove what a killed process left half written.

    Raises:
        ValueError: the folder holds a study that differs in more than its objectives, seeds and students,
            whose results and report this one would replace.
    """
    check_folder(out, recipe, data)
    (out / "trials").mkdir(exist_ok=True)
    for leftover in (out / "trials").glob(f"{PARTIAL}*"):
        shutil.rmtree(leftover)
    plan = tuple(config.id for config in configs)
    header = _Header(format=FORMAT, recipe=recipe, data=data, plan=plan)
    write_whole(out / "study.json", _json(header))


def has_trial(out: Path, config: TrialConfig) -> bool:
    """Whether this trial is complete; all of it is read, so that damage shows before anything is trained.

    Raises:
        ValueError: its folder is damaged. No kill of a study does that, so the folder is left for a person
            to look at.
    """
    folder = out / "trials" / config.id
    if not folder.exists():
        return False
    if _read_trial(folder).config != config:
        raise _damaged(folder, "config.json is not that of this trial")
    _read_arrays(folder)
    load_weights(out, config)
    return True


def load_weights(out: Path, config: TrialConfig) -> Weights:
    """The weights of a complete trial's network.

    Raises:
        ValueError: the file is missing or damaged.
    """
    folder = out / "trials" / config.id
    with _reading_trial(folder):
        return read_npz(folder / "weights.npz")


def save_trial(out: Path, result: TrialResult) -> None:
    """Store a finished trial: the folder appears complete and on the disk, or not at all."""
    folder = out / "trials" / result.config.id
    partial = folder.with_name(PARTIAL + folder.name)
    partial.mkdir()
    write_synced(partial / "config.json", _json(result.config))
    write_synced(partial / "metrics.json", _json(result.metrics))
    write_synced(partial / "versions.json", _json(result.versions))
    write_synced(partial / "arrays.npz", _npz(vars(result.arrays)))
    write_synced(partial / "weights.npz", _npz(result.weights))
    sync_folder(partial)
    partial.rename(folder)
    sync_folder(folder.parent)


def write_results(out: Path) -> Study:
    """Write results.jsonl from the complete trials of the stored plan, and give them."""
    study = load_study(out)
    lines = [
        json.dumps(
            {"trial": trial.config.id, "config": asdict(trial.config), "metrics": asdict(trial.metrics)},
            allow_nan=False,
        )
        for trial in study.trials
    ]
    write_whole(out / "results.jsonl", "".join(f"{line}\n" for line in lines).encode())
    return study


def _check_plan(recipe: Recipe, plan: Sequence[str]) -> None:
    taught = 0 if recipe.student is None else len(recipe.temperatures)
    blocks, rest = divmod(len(plan), len(recipe.objectives) * recipe.seeds)
    if rest or blocks not in ((1 + taught, 2 + taught) if taught else (1,)):
        raise InputError(f"its plan of {len(plan)} trials is not that of its recipe")
    for name in plan:
        if name in ("", "..") or Path(name).name != name or plan.count(name) > 1:
            raise InputError(f"{name!r} is not the name of one trial")


def _check_places(recipe: Recipe, plan: Sequence[str], trials: Sequence[Trial]) -> None:
    """The plan goes by objective and then by seed, again and again."""
    places = [(str(objective), seed) for objective in recipe.objectives for seed in range(recipe.seeds)]
    expected = dict(zip(plan, cycle(places)))
    for trial in trials:
        if (trial.config.taught_by or trial.config.objective, trial.config.seed) != expected[
            trial.folder.name
        ]:
            raise _damaged(trial.folder, "config.json is not that of its place in the plan")


def _read_trial(folder: Path) -> Trial:
    with _reading_trial(folder):
        metrics = _read(Metrics, folder / "metrics.json")
        if missing := undefined(asdict(metrics)):
            raise InputError(f"metrics.json must hold finite numbers, got none for {', '.join(missing)}")
        return Trial(
            folder=folder,
            config=_read(TrialConfig, folder / "config.json"),
            metrics=metrics,
            versions=_read(Versions, folder / "versions.json"),
        )


def _read_arrays(folder: Path) -> TrialArrays:
    with _reading_trial(folder):
        arrays = read_npz(folder / "arrays.npz")
        names = [field.name for field in fields(TrialArrays)]
        if sorted(arrays) != sorted(names):
            raise InputError(f"arrays.npz must hold {', '.join(names)}, got {', '.join(arrays) or 'none'}")
        return TrialArrays(**arrays)  # type: ignore[arg-type]


@contextmanager
def _reading_trial(folder: Path) -> Iterator[None]:
    """Say of what is refused in a stored trial what to do."""
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        raise _damaged(folder, str(error)) from error


def _damaged(folder: Path, cause: str) -> InputError:
    return InputError(
        f"the trial in {folder} is damaged ({cause}); "
        "delete that folder and run the study again to train it anew"
    )


def _read(kind: type[T], path: Path) -> T:
    return decode(kind, _read_json(path), path.name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not JSON") from error
    if not isinstance(stored, dict):
        raise InputError(f"{path.name} must hold a JSON object")
    return stored


def _json(stored: DataclassInstance) -> bytes:
    return (json.dumps(asdict(stored), indent=2, allow_nan=False) + "\n").encode()


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
