"""The choice of where networks are trained.

`accelerate` is imported only where there is something for it to do: a GPU, a mixed precision, or more than
one process for each network (`accelerate launch`, `torchrun`).
"""

from __future__ import annotations

import importlib.util

import torch

from labelsmooth.extras import needs_extra
from labelsmooth.study.engines.placement import Placement, launched_processes


def make_placement(precision: str) -> Placement:
    """Choose where the networks of this process are trained, one after another.

    Args:
        precision: one of `settings.PRECISIONS`.

    Raises:
        ModuleNotFoundError: accelerate is needed and missing.
        InputError: it cannot do this precision here.
    """
    needed = precision != "no" or launched_processes() > 1
    useful = torch.accelerator.is_available() and importlib.util.find_spec("accelerate") is not None
    if not (needed or useful):
        return Placement()
    with needs_extra("accelerate"):
        from labelsmooth.study.engines.accelerated import Accelerated

    return Accelerated(precision)
