"""The GPU backend's kernels as Triton compiles them for GPUs that need not be there.

The launches are those that the backend plans for tensors without memory (torch's device "meta"), so that
arguments, constants and options are those of a call. Triton is imported by the first compilation.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from labelsmooth.backends import Request, Statistics, gpu
from labelsmooth.errors import InputError

# Triton's backend, the architecture and the threads of a warp.
TARGETS: dict[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_CLASSES = (10, 100, 1000, 32000, 50257, 50264, 151936)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call of the backend, forward and backward.

    Args:
        classes: of each row.
        dtype: of the logits.
        rows: of logits.
        layout: of the logits in memory: their rows one after another, rows that begin one element after a
            multiple of 16 bytes, or columns one after another.
        prior: its kind: none, uniform, one for all rows, or one for each row.
        finite: True where the prior leaves out logits of −inf.
        picks: the number of indices of each row.
        counted: True where some rows do not count.
        penalties: True where the statistics of the penalties are wanted too.
        shift_free: True where the gradient leaves out the terms through the maximum.
        shard: True where the logits are a block of the classes.
        split: True where rows are split among programs.
        inplace: True where the gradient takes the place of the logits.
    """

    classes: int
    dtype: str = "bfloat16"
    rows: int = 8192
    layout: Literal["rows", "offset", "columns"] = "rows"
    prior: Literal["uniform", "vector", "table"] | None = "uniform"
    finite: bool = False
    picks: int = 1
    counted: bool = False
    penalties: bool = False
    shift_free: bool = True
    shard: bool = False
    split: bool = False
    inplace: bool = False

    def __str__(self) -> str:
        """Return the shape, the dtype, and the settings that differ from their defaults."""
        default = Case(classes=self.classes)
        settings = [
            f"{name}={getattr(self, name)}"
            for name in (field.name for field in fields(self))
            if name not in ("classes", "rows", "dtype") and getattr(self, name) != getattr(default, name)
        ]
        return " ".join([f"{self.rows}×{self.classes} {self.dtype}", *settings])


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A compiled kernel.

    Args:
        target: the GPU that it is for.
        name: of the kernel.
        case: the call that launches it.
        registers: of a thread (vector registers on AMD).
        spilled: bytes of a thread's registers that went to memory.
        shared: bytes of shared memory of a program.
        loads: the number of load instructions by the bytes of device memory that they load for a thread.
        stores: the number of store instructions by the bytes that they store for a thread.
        seconds: the time to compile, 0 where another case's kernel served.
        key: the hash of the compiled kernel.
    """

    target: str
    name: str
    case: Case
    registers: int
    spilled: int
    shared: int
    loads: dict[int, int]
    stores: dict[int, int]
    seconds: float
    key: str


def all_cases() -> list[Case]:
    """Each dtype at each number of classes, and each option at rows of every kind of alignment."""
    options: list[dict[str, Any]] = [
        *(
            {"prior": prior, "finite": finite}
            for prior, finite in product((None, "vector", "table"), (False, True))
        ),
        {"finite": True},
        {"picks": 0},
        {"picks": 3},
        {"counted": True},
        {"penalties": True},
        {"penalties": True, "prior": "table", "finite": True, "counted": True, "picks": 3},
        {"shift_free": False},
        {"shard": True},
        {"split": True},
        {"split": True, "penalties": True, "prior": "table", "finite": True, "shard": True},
        {"inplace": True},
        {"layout": "offset"},
        {"layout": "columns"},
        {"rows": 2**31 // 50257 + 1},
    ]
    return [
        *(Case(classes=classes, dtype=dtype) for dtype, classes in product(_DTYPES, _CLASSES)),
        *(
            replace(Case(classes=classes, dtype=dtype), **option)
            for option in options
            for classes, dtype in product((50264, 50257), ("bfloat16", "float32"))
        ),
    ]


def compile_kernels(cases: Iterable[Case], targets: Iterable[str]) -> Iterator[Kernel]:
    """Compile what each case launches, for each target; about half a second each that differs.

    Raises:
        InputError: Triton was imported with TRITON_INTERPRET set, which leaves nothing to compile.
    """
    import triton

    from labelsmooth.backends import gpu_kernels

    if not isinstance(gpu_kernels.forward, triton.JITFunction):
        raise InputError("TRITON_INTERPRET must not be set where kernels are to be compiled")
    seen: set[tuple[str, str]] = set()
    cases = list(cases)
    for target in targets:
        with _compiling_for(target):
            for case in cases:
                for launch in _launches(case):
                    begin = time.perf_counter()
                    built = launch.kernel.run(grid=(launch.programs,), warmup=True, **launch.arguments)
                    seconds = time.perf_counter() - begin
                    yield Kernel(
                        target=target,
                        name=launch.kernel.__name__,
                        case=case,
                        shared=built.metadata.shared,
                        seconds=0 if (target, built.hash) in seen else seconds,
                        key=built.hash,
                        **(_nvidia(built.asm) if "ptx" in built.asm else _amd(built.asm)),
                    )
                    seen.add((target, built.hash))


def header() -> list[str]:
    """Return the titles of the columns of `cells`."""
    return ["GPU", "kernel of", "registers", "spilled", "shared", "loads", "stores", "seconds"]


def cells(kernel: Kernel) -> list[str]:
    """Return a line of the table, with loads and stores as bytes × instructions."""

    def widths(accesses: dict[int, int]) -> str:
        return " ".join(f"{width}×{number}" for width, number in accesses.items()) or "–"

    return [
        kernel.target,
        f"{kernel.name}, {kernel.case}",
        str(kernel.registers),
        str(kernel.spilled),
        str(kernel.shared),
        widths(kernel.loads),
        widths(kernel.stores),
        f"{kernel.seconds:.2f}",
    ]


def to_json(kernels: Iterable[Kernel]) -> str:
    return json.dumps([asdict(kernel) for kernel in kernels], indent=1, ensure_ascii=False) + "\n"


def _launches(case: Case) -> list[gpu.Launch]:
    """Plan what the backend launches for a case."""

    def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    rows, classes, dtype = case.rows, case.classes, getattr(torch, case.dtype)
    match case.layout:
        case "rows":
            logits = tensor(rows, classes, dtype=dtype)
        case "offset":
            logits = tensor(rows, classes + 1, dtype=dtype)[:, 1:]
        case "columns":
            logits = tensor(classes, rows, dtype=dtype).T
    request = Request(
        index=tensor(rows, case.picks, dtype=torch.int64) if case.picks else None,
        prior={"vector": tensor(classes), "table": tensor(8, classes)}.get(case.prior or "", case.prior),
        prior_row=tensor(rows, dtype=torch.int64) if case.prior == "table" else None,
        counted=tensor(rows, dtype=torch.bool) if case.counted else None,
        num_classes=classes * (2 if case.shard else 1),
        first_class=0,
        finite_support=case.finite,
        log_sum_sq=case.penalties,
        mean_logit=case.penalties,
    )
    stats, launches = gpu.plan_forward(logits, request, 4 if case.split else 10**6)
    grads = Statistics(
        **{
            name: getattr(stats, name)
            for name in ("log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit")
        },
        max=None if case.shift_free else stats.max,
    )
    out = logits if case.inplace else torch.empty_like(logits)
    return [*launches, gpu.plan_backward(logits, request, stats, grads, out, shift_free=case.shift_free)]


class _Driver:
    """The part of a Triton driver that compiling asks for."""

    def __init__(self, target: str) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget(*TARGETS[self.target])

    def get_current_device(self) -> str:
        return self.target  # the key under which Triton remembers what it compiled

    def get_current_stream(self, device: str) -> int:  # noqa: ARG002
        return 0


@contextmanager
def _compiling_for(target: str) -> Iterator[None]:
    """Let Triton compile for the target, with an empty cache on disk of the block's own."""
    from triton import knobs
    from triton.runtime.driver import driver

    before = driver._active
    with tempfile.TemporaryDirectory() as folder, knobs.cache.scope():
        knobs.cache.dir = folder
        driver.set_active(_Driver(target))
        try:
            yield
        finally:
            driver._active = before


def _nvidia(asm: Any) -> dict[str, Any]:
    """Return the numbers of a kernel from its PTX and its binary."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", binary]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # after the file's own numbers come the kernel's
    numbers = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return {
        "registers": numbers["REG"],
        "spilled": numbers["STACK"] + numbers["LOCAL"],
        "loads": _counted(
            [
                *_ptx_widths("ld", asm["ptx"]),
                *(int(width, 16) for width in re.findall(r"cp\.async\.\S+ .*?, (0x[0-9a-f]+)", asm["ptx"])),
            ]
        ),
        "stores": _counted(_ptx_widths("st", asm["ptx"])),
    }


def _ptx_widths(access: str, text: str) -> list[int]:
    """Return the bytes of every access to device memory."""
    found = re.findall(rf"\b{access}\.global\S*?(?:\.v(\d))?\.[bfsu](\d+)\s", text)
    return [int(vector or 1) * int(bits) // 8 for vector, bits in found]


def _amd(asm: Any) -> dict[str, Any]:
    """Return the numbers of a kernel from AMD's assembly."""
    text = asm["amdgcn"]

    def number(name: str) -> int:
        found = re.search(rf"^\s*\.{name}:\s*(\d+)", text, re.MULTILINE)
        assert found is not None, name
        return int(found[1])

    return {
        "registers": number("vgpr_count"),
        "spilled": 4 * (number("vgpr_spill_count") + number("sgpr_spill_count")),
        "loads": _counted(_amd_widths("load", text)),
        "stores": _counted(_amd_widths("store", text)),
    }


def _amd_widths(access: str, text: str) -> list[int]:
    """Return the bytes of every access to device memory by threads."""
    sizes = {"byte": 1, "short": 2, "dword": 4}
    found = re.findall(rf"\b(?:global|buffer|flat)_{access}_[us]?(byte|short|dword)(?:x(\d))?", text)
    return [sizes[unit] * int(vector or 1) for unit, vector in found]


def _counted(widths: Iterable[int]) -> dict[int, int]:
    """Count the accesses by their width, the widest first."""
    return dict(sorted(Counter(widths).items(), reverse=True))
