"""What other packages use of a package is what its `__init__` lists, its face, and of a large one some modules."""

import ast
import importlib
from pathlib import Path

import pytest

import labelsmooth

ROOT = Path(labelsmooth.__file__).parent
FACES = (
    "audit",
    "backends",
    "bench",
    "evaluation",
    "identification",
    "losses",
    "measure",
    "objectives",
    "plot",
    "predictions",
    "report",
    "smoothing",
    "study",
)
# modules beside a face: each a topic of its own, or of one user, or loaded when used
OPEN = {
    "backends.gpu_kernels",
    "bench.gpu_compile",
    "measure.arrays",
    "measure.catalogue",
    "measure.crossed",
    "measure.format",
    "measure.functional",
    "measure.influence",
    "measure.inputs",
    "measure.interval",
    "measure.nce",
    "measure.peers",
    "measure.projection",
    "measure.protocol",
    "measure.recovery",
    "measure.result",
    "measure.rows",
    "measure.smooth",
    "study.engines",
    "study.engines.placement",
    "study.settings",
    "study.store",
    "study.tasks",
    "study.tasks.base",
    "study.tasks.shown",
    "study.tracking",
}


@pytest.mark.parametrize("package", FACES)
def test_all_is_there_once(package):
    face = importlib.import_module(f"labelsmooth.{package}")
    assert len(set(face.__all__)) == len(face.__all__)
    assert all(hasattr(face, name) for name in face.__all__)


def test_other_packages_import_from_the_face_only():
    past = {
        f"{path.relative_to(ROOT)}: {'.'.join(module)}"
        for path in sorted(ROOT.rglob("*.py"))
        for module in imports(path)
        if path.relative_to(ROOT).parts[0] != module[0]
        and module[0] in FACES
        and len(module) > 1
        and not {".".join(module), ".".join(module[:-1])} & OPEN
        and not (len(module) == 2 and module[1] in listed(module[0]))
    }
    assert past == set()


def test_what_is_open_is_used():
    opened = {
        ".".join(module[:depth])
        for path in ROOT.rglob("*.py")
        for module in imports(path)
        if path.relative_to(ROOT).parts[0] != module[0]
        for depth in range(2, len(module) + 1)
    }
    assert opened >= OPEN


def imports(path):
    """Yield what a file imports of this library, as the parts of its full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("labelsmooth."))


def listed(package):
    return set(importlib.import_module(f"labelsmooth.{package}").__all__)
