"""What to audit: the names of models, and settings that are refused."""

import os
from pathlib import Path

import pytest

from labelsmooth.audit.settings import Settings, model_names
from labelsmooth.cli import main
from labelsmooth.errors import InputTypeError


def test_names_of_models():
    def names(*paths):
        return model_names(tuple(map(Path, paths)))

    assert names("runs/a.npz", "b.parquet") == ("a", "b")
    assert names("x/a.npz", "y/a.npz") == ("x/a", "y/a")
    assert names("x/a.npz", "x/a.parquet") == ("a.npz", "a.parquet")
    assert names("u/x/a.npz", "v/x/a.npz", "b.npz") == ("u/x/a", "v/x/a", "b")
    assert names("a.npz", "x/a.npz") == ("a", "x/a")
    assert names(os.fsdecode(b"a\xff.npz"), "b.npz") == ("a?", "b")
    unlike = (os.fsdecode(b"a\xfe.npz"), os.fsdecode(b"a\xff.npz"))
    assert names(*unlike) == ("1: a?.npz", "2: a?.npz")


def test_help_says_what_else_nobody_would_know(capsys):
    """Where the logs of lm-evaluation-harness lie, which model is the reference, and what a bound is held against."""
    with pytest.raises(SystemExit):
        main(["audit", "--help"])
    words = " ".join(capsys.readouterr().out.replace("-\n", "-").split())
    for said in (
        "such as its --output_path, in which they lie in a folder named after the model",
        "The first is the reference that every other is compared with, and each also with the one before it",
        "METRIC is one of nll,",
        "The number itself counts, not its interval",
    ):
        assert said in words
    assert "(default: )" not in words


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"files": (Path("a.npz"), Path("a.npz"))}, "each file must be named once, got a.npz several times"),
        ({"validation": (Path("v.npz"),) * 2}, "a file for each of the 1 files, got 2"),
        ({"validation_share": 1.0}, r"validation_share must lie in \(0, 1\), got 1"),
        ({"precision": 1.0}, r"precision must lie in \(0, 1\), got 1"),
        ({"files": ()}, "files must name at least one file, got none"),
        ({"bins": 0}, "bins must be at least 1, got 0"),
        ({"bins": 1001}, "bins must be at most 1000, got 1001"),
        ({"validation": (Path("x/../a.npz"),)}, "other rows than those measured, got x/../a.npz for both"),
        ({"logits": "a", "probs": "b"}, "either logits or probs can be named, got 'a' and 'b'"),
    ],
)
def test_settings_out_of_range(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Settings(**{"files": (Path("a.npz"),), **change})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"files": ("a.npz",)}, r"files must be a tuple, each part a Path, got \('a.npz',\)"),
        ({"files": Path("a.npz")}, "files must be a tuple, each part a Path, got "),
        ({"validation": "a.npz"}, "validation must be a tuple, each part a Path or None, got 'a.npz'"),
        ({"bins": 15.0}, "bins must be a whole number, got 15.0"),
        ({"logits": 3}, "logits must be a string or None, got 3"),
    ],
)
def test_settings_of_another_type(change, sentence):
    with pytest.raises(InputTypeError, match=sentence):
        Settings(**{"files": (Path("a.npz"),), **change})
