"""`labelsmooth study` as a process: stopped at random moments, it goes on as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from labelsmooth.cli import main
from labelsmooth.study import load_study

COMMAND = Path(sys.executable).with_name("labelsmooth")
KILLS = 10


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> list[str]:
    """Twelve trials of a fraction of a second, on digits read from a file, which starts sooner."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x=digits.images[:600], y=digits.target[:600])
    recipe = f"--data npz:{path} --model cnn --eps 0 0.05 0.1 --seeds 4 --epochs 10 --batch-size 64"
    return recipe.split()


def start(settings: list[str], out: Path) -> subprocess.Popen[str]:
    """A process that has read its data and begins to train."""
    process = subprocess.Popen(
        [COMMAND, "study", *settings, "--out", out],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    assert line.startswith("study in"), line + process.stderr.read()
    return process


def complete_trials(out: Path) -> dict[str, tuple[int, int]]:
    folders = [folder for folder in (out / "trials").iterdir() if folder.name[0] != "."]
    return {folder.name: (folder.stat().st_ino, folder.stat().st_mtime_ns) for folder in folders}


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory) -> tuple[bytes, float, float]:
    """results.jsonl of a run that nobody stops, the seconds until its first trial, and those of a trial."""
    out = tmp_path_factory.mktemp("undisturbed")
    process = start(settings, out)
    began = time.monotonic()
    lines = [(line, time.monotonic()) for line in process.stderr]
    process.communicate()
    assert process.returncode == 0, "".join(line for line, _ in lines)
    ends = [moment for line, moment in lines if line.startswith("trial ")]
    assert len(ends) == 12
    return (out / "results.jsonl").read_bytes(), ends[0] - began, (ends[-1] - ends[0]) / 11


def test_ten_kills_change_nothing(settings, undisturbed, tmp_path):
    results, first, each = undisturbed
    seed = random.SystemRandom().randrange(2**32)
    moments = random.Random(seed)
    out, kills, seen = tmp_path / "out", 0, {}
    while kills < KILLS:
        process = start(settings, out)
        time.sleep(moments.uniform(first / 2, first + 2 * each))
        process.kill()
        process.communicate()
        now = complete_trials(out)
        assert seen.items() <= now.items(), f"a complete trial was trained again, with random seed {seed}"
        seen = now
        if process.returncode == -signal.SIGKILL:
            kills += 1
        else:  # the study was faster than the next kill: on with another
            assert (out / "results.jsonl").read_bytes() == results, f"random seed {seed}"
            shutil.rmtree(out)
            seen = {}
    process = start(settings, out)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert seen.items() <= complete_trials(out).items(), f"random seed {seed}"
    assert (out / "results.jsonl").read_bytes() == results, f"random seed {seed}"
    assert len(load_study(out).trials) == 12
    assert list(out.rglob(".partial-*")) == []


def test_an_interrupt_says_how_to_go_on(settings, undisturbed, tmp_path):
    process = start(settings, tmp_path)
    for line in process.stderr:
        if line.startswith("trial 2 of 12"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert f"the complete trials are kept in {tmp_path}: run the same command again" in err
    assert "Traceback" not in err
    before = complete_trials(tmp_path)
    assert 2 <= len(before) < 12

    process = start(settings, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert before.items() <= complete_trials(tmp_path).items()
    assert (tmp_path / "results.jsonl").read_bytes() == undisturbed[0]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:  # it has just ended
            continue
        if parent == process.pid and any(b"labelsmooth.study.workers" in word for word in words):
            pids.append(int(folder.name))
    return pids


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_processes_side_by_side_give_the_same_and_end_with_the_study(settings, undisturbed, tmp_path):
    process = start([*settings, "--jobs", "2"], tmp_path)
    for line in process.stderr:
        if line.startswith("trial 2 of 12"):
            break
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    ends = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < ends, "a process goes on without its study"
        time.sleep(0.05)

    before = complete_trials(tmp_path)
    process = start([*settings, "--jobs", "2"], tmp_path)
    for line in process.stderr:
        if line.startswith("trial"):
            break
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not any(map(alive, workers))

    process = start([*settings, "--jobs", "3"], tmp_path)
    for line in process.stderr:
        if line.startswith("trial"):
            break
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 2
    assert "died with the exit status -9; if memory ran out, run the study again with fewer jobs" in err

    process = start([*settings, "--jobs", "2"], tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert before.items() <= complete_trials(tmp_path).items()
    assert (tmp_path / "results.jsonl").read_bytes() == undisturbed[0]


def test_a_second_process_is_refused(settings, tmp_path, capsys):
    process = start(settings, tmp_path)
    try:
        status = main(["study", *settings, "--out", str(tmp_path)])
        assert process.poll() is None  # still at work
    finally:
        process.kill()
        process.communicate()
    assert status == 2
    assert f"another process is running a study in {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--data nothing", "there is no data 'nothing'; known are mnist5k, digits, idx:DIR, npz:FILE"),
        ("--data idx:nowhere", "there is no folder nowhere"),
        ("--data npz:nowhere.npz", "there is no file nowhere.npz"),
        ("--data folder:nowhere", "there is no folder nowhere"),
        ("--data folder:.", ". must hold a folder of images for every class, got none"),
        ("--data cifar:.", "there is neither data_batch_1.bin nor train.bin in ."),
        ("--data hf:./nowhere", "there is no folder nowhere"),
        ("--data npz:broken.npz", "broken.npz is not an .npz archive"),
        ("--data npz:vectors.npz --model cnn", "the model cnn needs images"),
        ("--data digits --model resnet", "module:factory of your own, got 'resnet'"),
        ("--data digits --model no_nets:make", "there is no module no_nets for the model no_nets:make"),
        ("--data digits --model here_nets:nothing", "has no function nothing"),  # of the working folder
        ("--data digits --eps 0 1.5", "eps must lie in [0, 1], got 1.5"),
        ("--data digits --eps 0 nan", "eps must lie in [0, 1], got nan"),
        ("--data digits --eps 0.1", "eps must include 0"),
        ("--data digits --eps 0 0", "must not name a value twice"),
        ("--data digits --eps 0 x", "x"),
        ("--data digits --jobs 0", "jobs must be at least 1, got 0"),
        ("--data digits --seeds 0", "seeds must be a whole number of at least 1, got 0"),
        ("--data digits --epochs 0", "epochs must be a whole number of at least 1, got 0"),
        ("--data digits --batch-size 0", "batch_size must be a whole number of at least 1, got 0"),
        ("--data digits --learning-rate 0", "learning_rate must be above 0"),
        (
            "--data digits --learning-rate 1e9 --epochs 1 --seeds 1 --eps 0",
            "learning rate 1e+09 is too large",
        ),
        ("--data digits --momentum 1", "momentum must lie in [0, 1)"),
        ("--data digits --weight-decay -1", "weight_decay must be at least 0"),
        ("--data digits --out broken.npz", "broken.npz"),
        ("--data digits --out broken.npz/study", "broken.npz"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "here_nets.py").write_text("")
    vectors = np.random.default_rng(0).normal(size=(60, 5))
    np.savez(tmp_path / "vectors.npz", x=vectors, y=np.arange(60) % 3)
    before = sorted(tmp_path.iterdir())
    assert main(["study", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    (sentence,) = (line for line in err.splitlines() if not line.startswith("study in"))
    assert sentence.startswith("labelsmooth: error: ")
    assert says in sentence
    assert out == ""
    if "too large" not in says:  # found before anything was made
        assert sorted(tmp_path.iterdir()) == before
