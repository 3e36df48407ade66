"""Settings for all tests, and what several test files share."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings

# Two workers share the cores; one thread each keeps them out of each other's way.
torch.set_num_threads(1)

settings.register_profile("labelsmooth", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("labelsmooth")


@pytest.fixture(scope="session")
def kills() -> ModuleType:
    """`benchmarks/kills.py`, which runs studies in processes of their own."""
    path = Path(__file__).parents[1] / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    sys.modules["kills"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["kills"])
    return sys.modules["kills"]
