"""What the tests of several tasks share."""

import sys
import types

import pytest
from tiny_studies import tiny_models

from labelsmooth.study import load_study, run_study
from labelsmooth.study.tasks import load_data


@pytest.fixture(scope="module")
def tiny():
    """The networks `small` are the smallest there are."""
    with tiny_models():
        yield


@pytest.fixture(scope="module")
def data(request):
    """Of the RECIPE of the test file."""
    return load_data(request.module.RECIPE)


@pytest.fixture(scope="module")
def folder(request, tiny, tmp_path_factory):
    """The study of the RECIPE of the test file."""
    return run_study(request.module.RECIPE, tmp_path_factory.mktemp("study"), jobs=1).folder


@pytest.fixture(scope="module")
def trial(folder):
    """The first of that study."""
    return load_study(folder).trials[0]


@pytest.fixture
def module(monkeypatch):
    """A module `own_models` for factories of networks."""
    found = types.ModuleType("own_models")
    monkeypatch.setitem(sys.modules, "own_models", found)
    return found
