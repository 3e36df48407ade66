"""The package installs with its compiled library and, where there is no compiler, without it."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
LIBRARY = "lib/labelsmooth_cpu.so"
COMPILER = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)

CHECK = """
import torch, labelsmooth as ls
logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
target = torch.arange(64) % 10
ours = ls.cross_entropy(logits, target, label_smoothing=0.1)
torchs = torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.1)
torch.testing.assert_close(ours, torchs)
torch.testing.assert_close(*(torch.autograd.grad(loss, logits) for loss in (ours, torchs)))
print(*ls.__path__)
"""


def run(*command, **options):
    """What the command printed, on both streams."""
    done = subprocess.run(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(folder, compiler, objects, *, required):
    """A wheel of the source tree, and what pip said; --verbose, since it hides the output of a build that succeeds."""
    pip = (sys.executable, "-m", "pip", "wheel", "--verbose", "--no-cache-dir", "--no-index", "--no-deps")
    settings = ("--no-build-isolation", f"--config-settings=build-dir={objects}")
    output = run(
        *(*pip, *settings, "--wheel-dir", folder, ROOT),
        env=os.environ | {"CXX": compiler, "LABELSMOOTH_REQUIRE_CPU": str(int(required))},
    )
    (wheel,) = folder.glob("*.whl")
    return wheel, output


def install(folder, wheel):
    """The package's folder in an environment of its own that borrows torch and numpy, but no editable install."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join({str(Path(m.__file__).parents[1]) for m in (torch, np)}))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python", "install")
    run(*pip, "--no-deps", "--no-index", wheel)
    return packages / "labelsmooth"


def check(folder, package):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    loaded_from = run(folder / "bin/python", "-c", CHECK, env=env, cwd=folder)
    assert loaded_from.splitlines()[-1] == str(package)
    assert "study" in run(folder / "bin/labelsmooth", "--help", env=env, cwd=folder)
    public = [
        ROOT / "tests" / name
        for name in (
            "losses/test_cross_entropy_peers.py",
            "test_row_stats.py",
        )
    ]
    settings = ("-c", ROOT / "pyproject.toml", "-k", "not compiled")
    run(folder / "bin/python", "-m", "pytest", *settings, *public, env=env, cwd=folder)


@pytest.mark.long
@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_with_a_compiler(tmp_path):
    # the objects of the editable install, which take the compiler minutes
    wheel, _ = build(tmp_path, COMPILER, ROOT / "build/editable", required=True)
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    package = install(tmp_path / "venv", wheel)
    run(sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(package / LIBRARY)!r})")
    check(tmp_path / "venv", package)


@pytest.mark.long
def test_without_a_compiler(tmp_path):
    wheel, output = build(tmp_path, "no-such-compiler", tmp_path / "objects", required=False)
    assert "labelsmooth goes WITHOUT its compiled CPU backend" in output
    assert wheel.name.endswith("-py3-none-any.whl")
    package = install(tmp_path / "venv", wheel)
    assert not (package / LIBRARY).exists()
    check(tmp_path / "venv", package)


def test_a_library_that_was_required_is_an_error_when_it_cannot_be_built(tmp_path):
    with pytest.raises(AssertionError, match="CMake configuration failed"):
        build(tmp_path, "no-such-compiler", tmp_path / "objects", required=True)
