"""Kill a study again and again, go on with it, and compare what comes out with a run that nobody stopped.

    python benchmarks/kills.py
    python benchmarks/kills.py --kills 10 --jobs 2 --seed 7

The study trains networks with and without smoothing and students of each, on digits. Every kill is a SIGKILL
of the whole process, and every other one comes while a result is being stored. After each, what was complete
must be there, readable and untouched; in the end the results must be those of the run that nobody stopped,
byte for byte, and no file half written. It stops with the seed at the first deviation.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelsmooth.study import load_study
from labelsmooth.study.store import load_weights

COMMAND = Path(sys.executable).with_name("labelsmooth")
RECIPE = "--model cnn --student linear --temperatures 2 --eps 0 0.1 --seeds 2 --epochs 10 --batch-size 64"
TRIALS = 12  # of that recipe
_STORING_SECONDS = 0.02  # that it takes about to store a result
_HALF_WRITTEN = ".partial-"


@dataclass(frozen=True)
class Undisturbed:
    """A study that nobody stopped."""

    results: bytes  # of its results.jsonl
    first: float  # seconds until its first trial was there
    each: float  # seconds of a trial


@dataclass(frozen=True)
class Kills:
    """What killing a study showed."""

    kills: int
    storing: int  # those of them that left something half written, to be removed by the next start
    finished: int  # studies that were trained to their end
    seconds: float


def digits_recipe(folder: Path) -> list[str]:
    """Options of the study; a file of fewer rows starts sooner than scikit-learn, and trains sooner."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    path = folder / "digits.npz"
    np.savez(path, x=digits.images[:600], y=digits.target[:600])
    return ["--data", f"npz:{path}", *RECIPE.split()]


def start(recipe: list[str], out: Path) -> subprocess.Popen[str]:
    """A process that has read its data and begins to train."""
    process = subprocess.Popen(
        [COMMAND, "study", *recipe, "--out", out],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("study in"), line + process.stderr.read()
    return process


def complete_trials(out: Path) -> dict[str, tuple[int, int]]:
    """The folders of the complete trials; one that is written anew is another folder."""
    folders = [folder for folder in (out / "trials").iterdir() if folder.name[0] != "."]
    return {folder.name: (folder.stat().st_ino, folder.stat().st_mtime_ns) for folder in folders}


def children(pid: int) -> set[int]:
    """The processes that a process started itself, as far as they still run."""
    return {child for child, parent in _parents().items() if parent == pid}


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and those that they did, as far as it still runs."""
    parent_of = _parents()
    found, newest = set[int](), {pid}
    while newest := {child for child, parent in parent_of.items() if parent in newest} - found:
        found |= newest
    return found


def _parents() -> dict[int, int]:
    """The parent of every process."""
    parent_of: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent_of[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return parent_of


def alive(pid: int) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run_undisturbed(recipe: list[str], out: Path) -> Undisturbed:
    """Run a study to its end."""
    process = start(recipe, out)
    began = time.monotonic()
    assert process.stderr is not None
    lines = [(line, time.monotonic()) for line in process.stderr]
    process.communicate()
    assert process.returncode == 0, "".join(line for line, _ in lines)
    ends = [moment for line, moment in lines if line.startswith("trial ")]
    assert len(ends) == TRIALS
    return Undisturbed(
        results=(out / "results.jsonl").read_bytes(),
        first=ends[0] - began,
        each=(ends[-1] - ends[0]) / (TRIALS - 1),
    )


def kill_repeatedly(recipe: list[str], undisturbed: Undisturbed, out: Path, kills: int, seed: int) -> Kills:
    """Kill a study in `out` so often, and let it end.

    Raises:
        AssertionError: something complete was trained again or cannot be read, or the results differ.
    """
    began, chance = time.monotonic(), random.Random(seed)
    starts = killed = storing = finished = 0
    seen: dict[str, tuple[int, int]] = {}
    while killed < kills:
        process = start(recipe, out)
        starts += 1
        if starts % 2:
            _until_storing(process, out, nth=chance.randrange(1, 4))
            time.sleep(chance.uniform(0, _STORING_SECONDS))
        else:
            time.sleep(chance.uniform(undisturbed.first / 2, undisturbed.first + 2 * undisturbed.each))
        process.kill()
        process.communicate()
        now = complete_trials(out)
        assert seen.items() <= now.items(), f"a complete trial was trained again, with seed {seed}"
        seen = now
        if process.returncode == -signal.SIGKILL:
            killed += 1
            storing += any(out.rglob(f"{_HALF_WRITTEN}*"))
            _check_readable(out, undisturbed, seed)
        else:  # the study was faster than the kill: on with another
            _check_finished(out, undisturbed, seed)
            finished += 1
            shutil.rmtree(out)
            seen = {}
    process = start(recipe, out)
    _, errors = process.communicate()
    assert process.returncode == 0, f"{errors} with seed {seed}"
    assert seen.items() <= complete_trials(out).items(), f"a complete trial was trained again, seed {seed}"
    _check_finished(out, undisturbed, seed)
    return Kills(kills=killed, storing=storing, finished=finished + 1, seconds=time.monotonic() - began)


def _until_storing(process: subprocess.Popen[str], out: Path, nth: int) -> None:
    """Wait until a study begins to store one of its next results, under whatever name, or has ended."""
    before = _names(out)
    while process.poll() is None and len(_names(out) - before) < nth:
        time.sleep(0.001)


def _names(out: Path) -> set[str]:
    """The trials that are stored or are being stored."""
    return {folder.name.removeprefix(_HALF_WRITTEN) for folder in (out / "trials").iterdir()}


def _check_readable(out: Path, undisturbed: Undisturbed, seed: int) -> None:
    study = load_study(out)
    for trial in study.trials:
        assert trial.arrays.test_logits.shape[1] == len(study.data.class_names), f"seed {seed}"
        assert load_weights(out, trial.config), f"seed {seed}"
    lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    assert set(lines) <= set(undisturbed.results.splitlines(keepends=True)), f"results differ, seed {seed}"


def _check_finished(out: Path, undisturbed: Undisturbed, seed: int) -> None:
    _check_readable(out, undisturbed, seed)
    assert (out / "results.jsonl").read_bytes() == undisturbed.results, f"results differ, with seed {seed}"
    assert len(load_study(out).trials) == TRIALS, f"seed {seed}"
    assert not any(out.rglob(f"{_HALF_WRITTEN}*")), f"something half written is left, with seed {seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a study again and again.", allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50, help="how often (default: 50)")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time (default: 1)")
    parser.add_argument("--seed", type=int, help="of the moments (default: another one each time)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory() as folder:
        recipe = [*digits_recipe(Path(folder)), "--jobs", str(options.jobs)]
        undisturbed = run_undisturbed(recipe, Path(folder, "undisturbed"))
        found = kill_repeatedly(recipe, undisturbed, Path(folder, "killed"), options.kills, seed)
    print(
        f"{found.kills} kills, {found.storing} of them while something was being written; "
        f"{found.finished} studies of {TRIALS} trials trained to the end; {found.seconds:.0f} seconds; "
        f"seed {seed}; results identical, nothing complete trained again, nothing half written"
    )


if __name__ == "__main__":
    main()
