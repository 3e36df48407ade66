"""Ask `ls.identify` about the losses of other projects, as they are installed, at ε = 0.1.

    pip install segmentation-models-pytorch pytorch-toolbelt keras optax …
    python benchmarks/identify_peers.py [NAME …]

A row for each: the project's version, what was found, and the faults. Those whose loss takes other arguments
are called through the few lines below; a project that is not installed is said and left out.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution, version
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import labelsmooth as ls

EPS = 0.1
Loss = Callable[[Tensor, Tensor], Tensor]


def one_hot(target: Tensor, logits: Tensor) -> Tensor:
    return F.one_hot(target, logits.shape[-1]).to(logits.dtype)


def of_dense_targets(loss: Callable[[Tensor, Tensor], Any]) -> Loss:
    """A loss that takes (dense targets, logits), and no class indices."""

    def called(logits: Tensor, target: Tensor) -> Tensor:
        if not target.is_floating_point():
            raise TypeError("it takes dense targets alone")
        found: Tensor = loss(target, logits)
        return found

    return called


def file_of(project: str, path: str) -> ModuleType:
    """Import one file of a project that cannot be imported whole."""
    spec = importlib.util.spec_from_file_location(project, str(distribution(project).locate_file(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def transformers() -> Loss:
    from transformers.trainer_pt_utils import LabelSmoother

    smoother = LabelSmoother(EPS)
    return lambda logits, target: smoother({"logits": logits}, target)


def fastai() -> Loss:
    from fastai.losses import LabelSmoothingCrossEntropy

    return LabelSmoothingCrossEntropy(eps=EPS)


def timm() -> Loss:
    from timm.loss import LabelSmoothingCrossEntropy

    return LabelSmoothingCrossEntropy(EPS)


def timm_sigmoids() -> Loss:
    from timm.loss import BinaryCrossEntropy

    return BinaryCrossEntropy(EPS)


def keras() -> Loss:
    from keras.losses import CategoricalCrossentropy

    return of_dense_targets(CategoricalCrossentropy(from_logits=True, label_smoothing=EPS))


def keras_sigmoids() -> Loss:
    from keras.losses import BinaryCrossentropy

    return of_dense_targets(BinaryCrossentropy(from_logits=True, label_smoothing=EPS))


def segmentation_models() -> Loss:
    from segmentation_models_pytorch.losses import SoftCrossEntropyLoss

    return SoftCrossEntropyLoss(smooth_factor=EPS)


def segmentation_models_sigmoids() -> Loss:
    from segmentation_models_pytorch.losses import SoftBCEWithLogitsLoss

    return SoftBCEWithLogitsLoss(smooth_factor=EPS)


def toolbelt() -> Loss:
    from pytorch_toolbelt.losses import SoftCrossEntropyLoss

    return SoftCrossEntropyLoss(smooth_factor=EPS)


def toolbelt_sigmoids() -> Loss:
    from pytorch_toolbelt.losses import SoftBCEWithLogitsLoss

    return SoftBCEWithLogitsLoss(smooth_factor=EPS)


def classy_vision() -> Loss:
    from classy_vision.losses.label_smoothing_loss import LabelSmoothingCrossEntropyLoss

    return LabelSmoothingCrossEntropyLoss(smoothing_param=EPS)


def joeynmt() -> Loss:
    from joeynmt.loss import XentLoss

    loss = XentLoss(pad_index=1, smoothing=EPS)
    return lambda logits, target: loss(logits.log_softmax(-1)[None], trg=target[None])


def espnet() -> Loss:
    module = file_of("espnet", "espnet/nets/pytorch_backend/transformer/label_smoothing_loss.py")

    def called(logits: Tensor, target: Tensor) -> Tensor:
        loss = module.LabelSmoothingLoss(logits.shape[-1], -1, EPS, normalize_length=True)
        found: Tensor = loss(logits[:, None], target[:, None])
        return found

    return called


def sockeye(implementation: str) -> Callable[[], Loss]:
    def made() -> Loss:
        from sockeye import constants
        from sockeye.loss import CrossEntropyLoss

        loss = CrossEntropyLoss(label_smoothing=EPS, label_smoothing_impl=implementation)

        def called(logits: Tensor, target: Tensor) -> Tensor:
            found: Tensor = loss(
                {constants.LOGITS_NAME: logits[None]}, {constants.TARGET_LABEL_NAME: target[None]}
            )[0]
            return found

        return called

    return made


def pykeen() -> Loss:
    from pykeen.losses import CrossEntropyLoss

    loss = CrossEntropyLoss()

    def called(logits: Tensor, target: Tensor) -> Tensor:
        dense = target if target.is_floating_point() else one_hot(target, logits)
        found: Tensor = loss.process_lcwa_scores(
            logits, dense, label_smoothing=EPS, num_entities=logits.shape[-1]
        )
        return found

    return called


PEERS: dict[str, tuple[str, Callable[[], Loss]]] = {
    "torch": ("torch", lambda: torch.nn.CrossEntropyLoss(label_smoothing=EPS)),
    "transformers": ("transformers", transformers),
    "fastai": ("fastai", fastai),
    "timm": ("timm", timm),
    "timm_sigmoids": ("timm", timm_sigmoids),
    "keras": ("keras", keras),
    "keras_sigmoids": ("keras", keras_sigmoids),
    "segmentation_models": ("segmentation_models_pytorch", segmentation_models),
    "segmentation_models_sigmoids": ("segmentation_models_pytorch", segmentation_models_sigmoids),
    "toolbelt": ("pytorch-toolbelt", toolbelt),
    "toolbelt_sigmoids": ("pytorch-toolbelt", toolbelt_sigmoids),
    "classy_vision": ("classy_vision", classy_vision),
    "joeynmt": ("joeynmt", joeynmt),
    "espnet": ("espnet", espnet),
    "sockeye": ("sockeye", sockeye("torch")),
    "sockeye_fairseq": ("sockeye", sockeye("fairseq")),
    "pykeen": ("pykeen", pykeen),
}


def row(name: str) -> str:
    project, make = PEERS[name]
    try:
        installed = version(project)
        loss = make()
    except (ImportError, PackageNotFoundError, RuntimeError) as error:  # of a library that does not load too
        return f"| {name} | – | not here: {error} | |"
    found = ls.identify(loss)
    what = f"`{found.convention}` at {found.eps:.4g}" if found.convention else "none of them"
    faults = ", ".join(departure.name for departure in found.faults) or "–"
    return f"| {name} | {installed} | {what} | {faults} |"


def main(names: list[str]) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    for name in names or PEERS:
        if name not in PEERS:
            raise SystemExit(f"there is no peer {name!r}, expected one of {', '.join(PEERS)}")
    print("| loss | version | convention | faults |\n|---|---|---|---|")
    for name in names or PEERS:
        with warnings.catch_warnings(action="ignore"):
            print(row(name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
