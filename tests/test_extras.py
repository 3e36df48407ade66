"""A package that is missing is told with the extra that brings it, also where no command line runs."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from labelsmooth import measure, plot, theory
from labelsmooth.extras import MissingPackage, needs_extra
from labelsmooth.study.tasks.sequences.quality import edit_statistics, sentence_statistics
from labelsmooth.study.tasks.sequences.vocabulary import learn_vocabulary
from labelsmooth.study.tasks.speech.audio import read_audio

ROOT = Path(__file__).parents[1]


@pytest.fixture
def without(monkeypatch):
    """Let a package be missing."""

    def remove(package):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return remove


BINS = measure.Calibration()
BINS.update(np.eye(3).repeat(4, axis=0), np.arange(12) % 3)


def load_adapter(name):
    """Import it anew, as a process does that has not; what was imported before comes back afterwards."""
    adapter = f"labelsmooth.integrations.{name}"
    with pytest.MonkeyPatch.context() as patch:
        for module in [known for known in sys.modules if f"{known}.".startswith(f"{adapter}.")]:
            patch.delitem(sys.modules, module)
        importlib.import_module(adapter)


@pytest.mark.parametrize(
    ("draw", "package", "extra"),
    [
        (lambda: plot.plot_gap(theory.gap_curves([10])), "matplotlib", "study"),
        (lambda: plot.plot_reliability(BINS.compute().bins), "matplotlib", "study"),
        (lambda: plot.plot_training_curves({"a": np.ones((1, 2))}, "NLL"), "matplotlib", "study"),
        (lambda: sentence_statistics(["a b"], ["a b"]), "sacrebleu", "translation"),
        (lambda: edit_statistics(["a b"], ["a b"]), "jiwer", "speech"),
        (lambda: read_audio(b"", "", rate=8000, most_seconds=1), "soundfile", "speech"),
        (lambda: load_adapter("torchmetrics"), "torchmetrics", "torchmetrics"),
    ],
)
def test_the_library_says_what_is_missing(without, draw, package, extra):
    without(package)
    sentence = (
        f"this needs the package {package}, which pip install '.[{extra}]' in a clone of labelsmooth brings"
    )
    with pytest.raises(MissingPackage, match=f"^{re.escape(sentence)}$") as raised:
        draw()
    assert raised.value.name == package


@pytest.mark.parametrize("name", ["transformers", "trl", "timm", "fastai"])
def test_an_adapter_says_with_what_it_was_tested(without, name):
    without(name)
    sentence = rf"'\.\[{name}\]' in a clone of labelsmooth brings; tested with {name} \d+\.\d+\.\d+$"
    with pytest.raises(MissingPackage, match=sentence):
        load_adapter({"transformers": "hf"}.get(name, name))


def test_several_extras_may_bring_a_package(without):
    without("tokenizers")
    with pytest.raises(ImportError, match=r"pip install '\.\[translation\]' or '\.\[speech\]' in a clone"):
        learn_vocabulary(["a b"], 300)
    with (
        pytest.raises(ImportError, match=r"pip install '\.\[study\]' or '\.\[audit\]' in a clone"),
        needs_extra("study", "audit"),
    ):
        import no_such_package  # noqa: F401


def test_an_error_of_this_library_stays_one():
    with pytest.raises(ModuleNotFoundError) as raised, needs_extra("study"):
        import labelsmooth.no_such_module  # noqa: F401
    assert not isinstance(raised.value, MissingPackage)


def test_every_extra_that_is_named_exists():
    """And brings something: pyproject.toml is where a clone gets them from."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    calls = [
        call
        for path in (ROOT / "src").rglob("*.py")
        for call in re.findall(r"with needs_extra\(([^)]*)\)", path.read_text())
    ]
    calls, tested = zip(*(call.partition(", tested=")[::2] for call in calls), strict=True)
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert {each.strip('"').replace(" ", "==") for each in tested if each} <= set(pins)
    named = {name for call in calls for name in re.findall(r'"(\w+)"', call)}
    studies = {"study", "hf", "accelerate", "ray", "translation", "speech", "verses"}
    assert named == {*studies, "audit", "torchmetrics", "transformers", "trl", "timm", "fastai"}
    assert all(extras[name] for name in named)
