"""Trials in processes of their own: what their errors look like here."""

import os
import subprocess
import sys
from dataclasses import replace
from multiprocessing.connection import Pipe

import numpy as np
import pytest

from labelsmooth.errors import InputError
from labelsmooth.study import Recipe, run_study
from labelsmooth.study.engines import processes

NETWORKS = """
from torch import nn

class Odd(Exception):
    def __init__(self, one, two):  # no unpickling makes it again
        super().__init__(f"{one} and {two}")

class Failing(nn.Linear):
    def forward(self, x):
        if self.training and x.requires_grad is False and len(x) == 16:  # of the training, not of the trial
            fail()
        return super().forward(x)

def fail():
    raise ERROR

def net(shape, classes):
    return Failing(shape[0], classes)
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A study of two trials on a small table."""
    monkeypatch.syspath_prepend(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 4))
    np.savez(tmp_path / "rows.npz", x=rows, y=np.arange(60) % 3)
    return Recipe(
        data=f"npz:{tmp_path}/rows.npz", model="linear", eps=(0, 0.1), seeds=1, epochs=1, batch_size=16
    )


@pytest.mark.parametrize(
    ("module", "error", "raised"),
    [("failing_plain", "ValueError('bug')", ValueError), ("failing_odd", "Odd(1, 2)", RuntimeError)],
)
def test_an_error_of_the_program_keeps_the_traceback_of_its_process(tmp_path, recipe, module, error, raised):
    (tmp_path / f"{module}.py").write_text(NETWORKS.replace("ERROR", error))
    with pytest.raises(raised) as caught:
        run_study(replace(recipe, model=f"{module}:net"), tmp_path / "out", jobs=2)
    assert not isinstance(caught.value, InputError)
    (note,) = caught.value.__notes__
    assert note.startswith("In the process that trained:\nTraceback (most recent call last):")
    assert "in train_trial" in note
    assert f"{module}.py" in note
    assert "in fail" in note


def test_what_is_refused_in_a_process_is_one_sentence(tmp_path, recipe):
    (tmp_path / "refusing.py").write_text(
        NETWORKS.replace("ERROR", "__import__('labelsmooth').errors.InputError('no')")
    )
    with pytest.raises(InputError, match="^no$") as caught:
        run_study(replace(recipe, model="refusing:net"), tmp_path / "out", jobs=2)
    assert not hasattr(caught.value, "__notes__")


def test_a_trial_that_diverges_in_a_process_leaves_the_others_alone(recipe, tmp_path):
    study = run_study(replace(recipe, learning_rate=1e30), tmp_path / "out", jobs=2)
    assert study.trials == ()
    assert [trial.config.objective for trial in study.diverged] == ["hard", "uniform:0.1"]
    assert all("learning rate 1e+30 is too large" in trial.reason for trial in study.diverged)


def test_a_process_that_dies_as_it_starts_is_told(tmp_path, recipe, monkeypatch):
    began = subprocess.Popen

    def dead(*arguments, **settings):
        process = began(*arguments, **settings)
        process.wait()  # before anything is sent to it
        return process

    monkeypatch.setattr(processes, "_WORK", "raise SystemExit(3)")
    monkeypatch.setattr(processes.subprocess, "Popen", dead)
    with pytest.raises(RuntimeError, match=r"the process that trained \S+ died with the exit status 3; what"):
        run_study(recipe, tmp_path / "out", jobs=2)


@pytest.mark.parametrize(
    "sent", [b"", b"\0\0", b"\0\0\0\x09half"], ids=["nothing", "half a length", "half a text"]
)
@pytest.mark.skipif(sys.platform == "win32", reason="writes a message as pipes of POSIX carry it")
def test_a_process_that_dies_in_the_middle_of_a_message_is_told(tmp_path, recipe, monkeypatch, sent):
    dies = f"import os, sys; os.write(int(sys.argv[1]), {sent!r}); raise SystemExit(3)"
    monkeypatch.setattr(processes, "_WORK", dies)
    with pytest.raises(RuntimeError, match=r"the process that trained \S+ died with the exit status 3; what"):
        run_study(recipe, tmp_path / "out", jobs=2)


@pytest.mark.parametrize(
    "sent", [b"", b"\0\0", b"\0\0\0\x09half"], ids=["nothing", "half a length", "half a text"]
)
@pytest.mark.skipif(sys.platform == "win32", reason="writes a message as pipes of POSIX carry it")
def test_a_process_whose_study_dies_in_the_middle_of_a_message_ends_without_a_word(sent):
    ours, theirs = Pipe()
    with theirs:
        process = processes._process(theirs)
    os.write(ours.fileno(), sent)
    ours.close()
    assert process.wait(60) == 0


@pytest.mark.long
def test_a_file_beside_the_data_takes_no_module_s_place(tmp_path):
    (tmp_path / "platform.py").write_text("raise SystemExit(7)")
    options = "--data digits --model linear --eps 0 --seeds 2 --epochs 1 --jobs 2 --out out"
    command = [sys.executable, "-P", "-m", "labelsmooth", "study", *options.split()]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
