"""Studies of tokens, killed, in several processes, and with two processes a network: what one gives."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import tiny_networks
from tiny_studies import TINY_STUDIES, stored_bytes

from labelsmooth.cli.options import flag
from labelsmooth.study import load_study, run_study
from labelsmooth.study.settings import setting_words

SHARED = str(Path(tiny_networks.__file__).parent)


@pytest.fixture
def environment():
    paths = [SHARED, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "GLOO_SOCKET_IFNAME": "lo"}


def command(recipe):
    """The command line of a recipe."""
    given = {f: getattr(recipe, f.name) for f in fields(recipe) if getattr(recipe, f.name) != f.default}
    options = [word for f, value in given.items() for word in (flag(f), *setting_words(value).split())]
    return ["study", recipe.task, *options]


@pytest.mark.long
@pytest.mark.parametrize("task", TINY_STUDIES)
def test_a_killed_study_goes_on_in_two_processes_to_the_same_bytes(task, environment, tmp_path):
    """Its time is that of three processes which import transformers, one after another and two together."""
    recipe, out = TINY_STUDIES[task](tmp_path), tmp_path / "study"
    alone = run_study(recipe, tmp_path / "alone", jobs=1)
    words = [sys.executable, "-m", "labelsmooth", *command(recipe), "--jobs", "1", "--out", str(out)]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and not list(out.glob("trials/hard-*")):
        time.sleep(0.01)
    process.kill()
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    assert 1 <= len(list(out.glob("trials/[!.]*"))) < 3
    run_study(recipe, out, jobs=2)
    assert stored_bytes(out) == stored_bytes(alone.folder)


@pytest.mark.long
def test_two_processes_train_what_one_trains(environment, tmp_path):
    """Its time is that of two processes which import transformers."""
    recipe = TINY_STUDIES["translation"](tmp_path)
    alone = run_study(recipe, tmp_path / "alone", jobs=1)
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
