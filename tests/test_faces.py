"""Packages with a face: what other packages use of them is what their `__init__` lists."""

import ast
import importlib
from pathlib import Path

import pytest

import labelsmooth

ROOT = Path(labelsmooth.__file__).parent
FACES = (
    "audit",
    "backends",
    "evaluation",
    "losses",
    "objectives",
    "plot",
    "predictions",
    "report",
    "smoothing",
)
LOADED_WHEN_USED = {"gpu_kernels"}  # imports Triton, so no face can list it


@pytest.mark.parametrize("package", FACES)
def test_all_is_there_once(package):
    face = importlib.import_module(f"labelsmooth.{package}")
    assert len(set(face.__all__)) == len(face.__all__)
    assert all(hasattr(face, name) for name in face.__all__)


def test_other_packages_import_from_the_face_only():
    past = [
        f"{path.relative_to(ROOT)}: {imported}"
        for path in sorted(ROOT.rglob("*.py"))
        for imported, names in imports(path)
        for package in FACES
        if path.relative_to(ROOT).parts[0] != package
        and (
            imported.startswith(f"labelsmooth.{package}.")
            or (imported == f"labelsmooth.{package}" and not names <= listed(package) | LOADED_WHEN_USED)
        )
    ]
    assert past == []


def imports(path):
    """Yield each module that a file imports, with the names that it takes from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, set()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, {alias.name for alias in node.names}


def listed(package):
    return set(importlib.import_module(f"labelsmooth.{package}").__all__)
