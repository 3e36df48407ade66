"""The machine and the versions that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from labelsmooth.backends import select
from labelsmooth.provenance import processor


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine, the versions, and the backend that serves a CPU on it, in words.

    `memory` is in bytes; None stands for a fact that the system does not give. `date` is in UTC.
    """

    cpu: str
    cores: int
    threads: int
    memory: int | None
    huge_pages: str | None
    gpu: str | None
    system: str
    backend: str
    labelsmooth: str
    torch: str
    numpy: str
    python: str
    date: str


def machine() -> Machine:
    """Describe the machine at hand, with the threads that torch uses now."""
    backend, reason = select("auto", torch.device("cpu"))
    return Machine(
        cpu=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory=_memory(),
        huge_pages=_huge_pages(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f"{platform.system()} {platform.release()}",
        backend=f"{backend} ({reason})",
        labelsmooth=version("labelsmooth"),
        torch=torch.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _huge_pages() -> str | None:
    """Return the system's setting of transparent huge pages: always, madvise or never."""
    try:
        setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return None
    return setting.partition("[")[2].partition("]")[0]
