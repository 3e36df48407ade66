"""timm and torchvision, which `make` installs where only those who import this module find them.

torchvision of PyPI is built for CUDA. Beside a torch without it its library does not load, and its import ends with
an operator that does not exist: as would that of transformers, which imports torchvision wherever it is installed.
So its operators are declared first. None is ever called.
"""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(sys.prefix) / "timm"

if not FOLDER.is_dir():
    pytest.skip(f"timm is not in {FOLDER}, where make puts it", allow_module_level=True)

try:
    torch.ops.load_library(FOLDER / "torchvision" / "_C.so")
except OSError:
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")

sys.path.append(str(FOLDER))  # for now only: processes that are started get the path of this one
import timm.data  # noqa: E402
import timm.loss  # noqa: E402
from timm.data import loader, mixup  # noqa: E402

sys.path.remove(str(FOLDER))

__all__ = ["loader", "mixup", "timm"]
