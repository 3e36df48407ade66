"""One process state for all tests, that each test leaves as it found it; and what several test files share."""

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from zlib import crc32

import pytest
import torch
from hypothesis import settings

# What libraries read when they are imported, and the processes that tests start: the same whichever files are run.
os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
# A shell that starts the tests in the background has them, and all that they start, ignore an interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Two workers share the cores; one thread each keeps them out of each other's way.
torch.set_num_threads(1)

# The examples of a property depend on the test alone, whatever the seed of the run.
settings.register_profile("labelsmooth", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("labelsmooth")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed torch from the run's seed and the test's name, as pytest-randomly seeds `random` and numpy."""
    torch.manual_seed(item.config.getoption("randomly_seed") + crc32(item.nodeid.encode()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to repeat the order of the tests and what they drew."""
    terminalreporter.write_line(f"repeat with --randomly-seed={config.getoption('randomly_seed')}")


def process_state() -> dict[str, object]:
    """What one test could change under the next."""
    matplotlib = sys.modules.get("matplotlib")
    return {
        **{f"${name}": value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        **(matplotlib.rcParams if matplotlib else {}),
        "working directory": Path.cwd(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture(autouse=True)
def _process_stays_as_it_was():
    """Fail the test that changes any of it, but for variables that a library adds when it is first imported."""
    before, path = process_state(), list(sys.path)
    yield
    sys.path[:] = path  # which the command line extends for a process that is its own
    after = process_state()
    changed = {name: (value, after.get(name)) for name, value in before.items() if value != after.get(name)}
    assert not changed, changed


@pytest.fixture(autouse=True)
def _accelerate_starts_anew():
    """Its state is one for a process: the precision and the device of the first test that trains would be all others'."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


@pytest.fixture(scope="session")
def kills() -> ModuleType:
    """`benchmarks/kills.py`, which runs studies in processes of their own."""
    path = Path(__file__).parents[1] / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    sys.modules["kills"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["kills"])
    return sys.modules["kills"]
