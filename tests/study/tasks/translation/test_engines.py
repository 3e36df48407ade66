"""A study of translation in several processes, killed, and with two processes a network: what one gives."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_translator
from translations import tiny_recipe

from labelsmooth.study import load_study, run_study

SHARED = str(Path(tiny_translator.__file__).parent)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny_recipe(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    return run_study(recipe, tmp_path_factory.mktemp("alone") / "study", jobs=1)


@pytest.fixture
def environment():
    paths = [SHARED, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "GLOO_SOCKET_IFNAME": "lo"}


def command(recipe):
    return [
        "study", "translation", "--data", recipe.data, "--model", recipe.model, "--vocabulary", "300",
        "--max-tokens", "40", "--eps", "0", "0.1", "--also", *recipe.also, "--seeds", "1", "--epochs", "2",
        "--batch-size", "200", "--learning-rate", "0.02", "--decode", "2", "--beams", "2",
    ]  # fmt: skip


def contents(folder):
    """The bytes of all that a study's numbers are in."""
    arrays = {path.parent.name: path.read_bytes() for path in folder.glob("trials/*/arrays.npz")}
    return (folder / "results.jsonl").read_bytes(), arrays


@pytest.mark.long
def test_a_killed_study_goes_on_in_two_processes_to_the_same_bytes(recipe, alone, environment, tmp_path):
    """Its time is that of three processes which import transformers, one after another and two together."""
    out = tmp_path / "study"
    words = [sys.executable, "-m", "labelsmooth", *command(recipe), "--jobs", "1", "--out", str(out)]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and not list(out.glob("trials/hard-*")):
        time.sleep(0.01)
    process.kill()
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    assert 1 <= len(list(out.glob("trials/[!.]*"))) < 3
    run_study(recipe, out, jobs=2)
    assert contents(out) == contents(alone.folder)


def test_two_processes_train_what_one_trains(recipe, alone, environment, tmp_path):
    """Its time is that of two processes which import transformers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
        "--master-port", str(port), "-m", "labelsmooth", *command(recipe), "--out", str(tmp_path / "two"),
    ]  # fmt: skip
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    two = load_study(tmp_path / "two")
    assert {trial.versions.processes for trial in two.trials} == {2}
    for theirs, ours in zip(two.trials, alone.trials, strict=True):
        assert theirs.config == ours.config
        assert theirs.curves.train_loss == pytest.approx(ours.curves.train_loss, rel=1e-4)
        for part in ("test", "validation"):
            assert theirs.metrics[part]["nll"] == pytest.approx(ours.metrics[part]["nll"], rel=1e-4)
