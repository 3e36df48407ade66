"""The GPU kernels as the compiler makes them for GPUs that are not here: spills, widths of access, and how many.

They are compiled in a process of their own, since this one may have loaded them for Triton's interpreter.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from itertools import pairwise

import pytest

from labelsmooth.bench.gpu_compile import Case

pytest.importorskip("triton")
pytestmark = pytest.mark.xdist_group("gpu_compile")  # once, for all tests that read it

CASES = {
    "odd": (Case(classes=50257), ("sm_90", "gfx942")),
    "eights": (Case(classes=1000), ("sm_80", "sm_90", "sm_100", "gfx942")),
    "eights in many blocks": (Case(classes=50264), ("sm_90", "gfx942")),
    "other rows and classes": (Case(classes=151936, rows=100), ("sm_90", "gfx942")),
    "more than 2^31 logits": (Case(classes=50264, rows=2**16), ("sm_90",)),
    "odd, float32": (Case(classes=50257, dtype="float32"), ("sm_90",)),
    "offset, in place": (Case(classes=50264, layout="offset", inplace=True), ("sm_90",)),
    "all options": (
        Case(
            classes=50264, prior="table", finite=True, penalties=True, counted=True, picks=3, shift_free=False
        ),
        ("sm_90", "gfx942"),
    ),
    "split": (Case(classes=50257, split=True, penalties=True, shard=True), ("sm_90",)),
    "a table beside odd rows": (Case(classes=50257, prior="table", finite=True), ("sm_90", "gfx942")),
    "float64": (Case(classes=1000, dtype="float64", prior="vector"), ("sm_80",)),
}
COMPILE = """
import json, sys
from labelsmooth.bench.gpu_compile import Case, compile_kernels, to_json

kernels = [
    kernel
    for case, targets in json.load(sys.stdin)
    for kernel in compile_kernels([Case(**case)], targets)
]
print(to_json(kernels))
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """What was compiled for each of the cases: kernels by GPU and name."""
    asked = json.dumps([(asdict(case), targets) for case, targets in CASES.values()])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    environment["TRITON_HOME"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-W", "error", "-c", COMPILE]
    done = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kernels = json.loads(done.stdout)
    assert len(kernels) >= 2 * sum(len(targets) for _, targets in CASES.values())
    return {
        name: {
            (kernel["target"], kernel["name"]): kernel
            | {access: {int(w): n for w, n in kernel[access].items()} for access in ("loads", "stores")}
            for kernel in kernels
            if kernel["case"] == asdict(case) and kernel["target"] in targets
        }
        for name, (case, targets) in CASES.items()
    }


def test_no_kernel_spills(kernels):
    spilled = [
        (name, *which, kernel["spilled"])
        for name, case in kernels.items()
        for which, kernel in case.items()
        if kernel["spilled"]
    ]
    assert spilled == []
    assert all(kernel["registers"] > 0 for case in kernels.values() for kernel in case.values())


@pytest.mark.parametrize(
    "name",
    [
        "odd", "eights", "eights in many blocks", "other rows and classes", "more than 2^31 logits",
        "offset, in place", "split",
    ],
)  # fmt: skip
def test_half_precision_logits_are_loaded_16_bytes_at_a_time(kernels, name):
    for (target, kernel), numbers in kernels[name].items():
        if kernel != "merge":
            # a thread has 16 logits of a block, or 8 where warps have 64 threads
            assert numbers["loads"][16] >= (1 if target == "gfx942" else 2), (target, kernel)
            # forward reads the logit at the index alone
            assert numbers["loads"].get(2, 0) <= (kernel == "forward"), (target, kernel)


def test_other_logits_are_loaded_16_bytes_at_a_time(kernels):
    for name, vectors in (("odd, float32", 4), ("float64", 4)):
        for (_, kernel), numbers in kernels[name].items():
            assert numbers["loads"][16] >= vectors, (name, kernel)


@pytest.mark.parametrize("name", ["odd", "eights", "eights in many blocks", "offset, in place"])
def test_gradients_are_stored_16_bytes_at_a_time_but_at_the_ends_of_ragged_rows(kernels, name):
    for (target, kernel), numbers in kernels[name].items():
        if kernel == "backward":
            per_thread = 8 if target == "gfx942" else 16
            assert numbers["stores"][16] == per_thread // 8
            assert numbers["stores"].get(2, 0) == (0 if "eights" in name else per_thread)


def test_one_kernel_serves_all_rows_and_classes_of_an_alignment(kernels):
    """Where the logits are one block or several; ε and schedules are no numbers that kernels get."""
    same = ("eights in many blocks", "other rows and classes", "more than 2^31 logits")
    for one, other in pairwise(same):
        for which in kernels[one].keys() & kernels[other].keys():
            assert kernels[one][which]["key"] == kernels[other][which]["key"], (one, other, which)
    for which, kernel in kernels["eights"].items():
        if which[0] == "sm_90":
            assert kernel["key"] != kernels["odd"][which]["key"]
