"""`labelsmooth study` as a process: stopped at random moments, it goes on as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killed import run_and_die

from labelsmooth.cli import main


@pytest.fixture(scope="module")
def recipe(kills, tmp_path_factory) -> list[str]:
    """Twelve trials of a fraction of a second, four of them of students with a teacher."""
    return kills.digits_recipe(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(kills, recipe, tmp_path_factory):
    return kills.run_undisturbed(recipe, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.long
def test_three_kills_change_nothing(kills, recipe, undisturbed, tmp_path):
    """`benchmarks/kills.py` does fifty."""
    found = kills.kill_repeatedly(
        recipe, undisturbed, tmp_path / "out", kills=3, seed=random.randrange(2**32)
    )
    assert found.kills == 3


@pytest.mark.long
def test_a_kill_at_every_step_of_a_first_trial_changes_nothing(kills, recipe, tmp_path):
    """Where the random kills of the test above come by chance, here one comes at every place there is."""
    forking = multiprocessing.get_context("forkserver")
    # what a study takes seconds to import, once and not in every process
    forking.set_forkserver_preload(["pytest", "torch._inductor", "scipy.stats", "labelsmooth.cli.study"])
    data = [*recipe[:2], "--model", "linear", "--eps", "0", "--seeds", "1", "--epochs", "1", "--jobs", "1"]

    def run(out: Path, step: int) -> int:
        process = forking.Process(target=run_and_die, args=(data, out, step))
        process.start()
        process.join()
        return process.exitcode

    assert run(tmp_path / "undisturbed", step=0) == 0
    results = (tmp_path / "undisturbed" / "results.jsonl").read_bytes()
    half_written = step = 0
    while True:
        step += 1
        out = tmp_path / f"step-{step}"
        status = run(out, step)
        if status == 0:  # there is no such step
            break
        assert status == -signal.SIGKILL
        half_written += any(out.glob("trials/.partial-*"))
        before = kills.complete_trials(out) if (out / "trials").exists() else {}
        assert run(out, step=0) == 0
        assert before.items() <= kills.complete_trials(out).items()
        assert (out / "results.jsonl").read_bytes() == results
        assert not any(out.rglob(".partial-*"))
    assert half_written == 2 * 6 + 2  # each file opened and synced, the folder synced and renamed


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_an_interrupt_says_how_to_go_on(kills, recipe, undisturbed, tmp_path):
    process = kills.start([*recipe, "--jobs", "2"], tmp_path)
    for line in process.stderr:
        if line.startswith("trial 2 of 12"):
            break
    workers = kills.children(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert not any(map(kills.alive, workers))
    assert f"the complete trials are kept in {tmp_path}: run the same command again" in err
    assert "Traceback" not in err
    before = kills.complete_trials(tmp_path)
    assert 2 <= len(before) < 12

    process = kills.start(recipe, tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert before.items() <= kills.complete_trials(tmp_path).items()
    assert (tmp_path / "results.jsonl").read_bytes() == undisturbed.results


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_processes_side_by_side_give_the_same_and_end_with_the_study(kills, recipe, undisturbed, tmp_path):
    process = kills.start([*recipe, "--jobs", "2"], tmp_path)
    for line in process.stderr:
        if line.startswith("trial 2 of 12"):
            break
    workers = kills.children(process.pid)  # which may just be asking git for the commit
    assert len(workers) == 2
    process.kill()
    process.communicate()
    ends = time.monotonic() + 60
    while any(map(kills.alive, workers)):
        assert time.monotonic() < ends, "a process goes on without its study"
        time.sleep(0.05)

    before = kills.complete_trials(tmp_path)
    process = kills.start([*recipe, "--jobs", "2"], tmp_path)
    for line in process.stderr:
        if line.startswith("trial"):
            break
    os.kill(min(kills.children(process.pid)), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 2
    assert "died with the exit status -9; if memory ran out, run the study again with fewer jobs" in err

    process = kills.start([*recipe, "--jobs", "2"], tmp_path)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert before.items() <= kills.complete_trials(tmp_path).items()
    assert (tmp_path / "results.jsonl").read_bytes() == undisturbed.results


def test_a_second_process_is_refused(kills, recipe, tmp_path, capsys):
    process = kills.start(recipe, tmp_path)
    try:
        status = main(["study", *recipe, "--out", str(tmp_path)])
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
        ("--data npz:~nobody-at-all/x.npz", "there is no home folder for ~nobody-at-all/x.npz"),
        ("--data hf:~nobody-at-all/x", "there is no home folder for ~nobody-at-all/x"),
        ("--data digits --model exits:make", "the module of the model exits:make raised SystemExit: 4"),
        (f"--data digits --seeds {10**20}", "seeds must be at most 10,000, got 100,000,000"),
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
        ("--data digits --batch-size 0", "--batch-size must be a whole number of at least 1, got 0"),
        ("--data digits --learning-rate 0", "--learning-rate must be above 0"),
        (
            "--data digits --learning-rate 1e9 --epochs 1 --seeds 1 --eps 0",
            "learning rate 1e+09 is too large",
        ),
        ("--data digits --momentum 1", "momentum must lie in [0, 1)"),
        ("--data digits --weight-decay -1", "--weight-decay must be at least 0"),
        ("--data digits --out broken.npz", "broken.npz"),
        ("--data digits --out broken.npz/study", "broken.npz"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # Python's own cache of a module is not ours to judge
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "here_nets.py").write_text("")
    (tmp_path / "exits.py").write_text("raise SystemExit(4)")
    vectors = np.random.default_rng(0).normal(size=(60, 5))
    np.savez(tmp_path / "vectors.npz", x=vectors, y=np.arange(60) % 3)
    before = sorted(tmp_path.iterdir())
    assert main(["study", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    (sentence,) = (line for line in err.splitlines() if not line.startswith(("study in", "trial ")))
    assert sentence.startswith("labelsmooth: error: ")
    assert says in sentence
    assert out == ""
    if "too large" not in says:  # found before anything was made
        assert sorted(tmp_path.iterdir()) == before
