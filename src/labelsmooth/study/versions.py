"""What a trial was trained with and on."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from labelsmooth.provenance import commit, processor


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The versions and the machine that a trial was trained with and on; none of it enters results.jsonl."""

    labelsmooth: str
    python: str
    torch: str
    numpy: str
    platform: str
    device: str  # of torch
    processes: int  # that trained it together
    threads: int  # of each
    seconds: float  # that it took
    processor: str
    commit: str | None  # of labelsmooth; None where it cannot be told, see `provenance.commit`


_commit = cache(commit)  # of the code in memory, which does not change; git is slow to tell it


def versions_here(device: str, processes: int) -> Versions:
    """Give the versions of this process, with 0 seconds.

    Args:
        device: that it trains on, as torch names it.
        processes: that train each network together.

    Raises:
        PackageNotFoundError: labelsmooth runs from a folder, and is not installed.
    """
    return Versions(
        labelsmooth=importlib.metadata.version("labelsmooth"),
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=np.__version__,
        platform=platform.platform(),
        device=device,
        processes=processes,
        threads=torch.get_num_threads(),
        seconds=0.0,
        processor=processor(),
        commit=_commit(),
    )
