"""What a user can import, and what importing it loads."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest
import torch

import labelsmooth as ls
from labelsmooth import losses


def test_the_public_names():
    assert set(ls.__all__) == {
        "BCEWithLogitsLoss", "BinaryConvention", "BinarySmoothing", "BrierPenaltyLoss", "ConfidencePenaltyLoss",
        "Convention", "CrossEntropyLoss", "Departure", "DistillationLoss", "Identification",
        "LinearCrossEntropyLoss", "MarginSmoothingLoss", "MaxSuppressionLoss", "Mixture", "PreferenceLoss",
        "RowStats", "Smoothing", "binary_convention", "binary_conventions", "binary_cross_entropy_with_logits",
        "brier_penalty",
        "class_conditional", "confidence_penalty", "convention", "conventions", "cross_entropy",
        "distillation_loss", "identify", "label_dropout", "linear_cross_entropy", "margin_smoothing", "max_suppression",
        "measure", "mixup", "neighbourhood", "others", "plot", "preference_loss", "prior", "row_stats", "theory", "uniform", "unigram",
        "vocab_parallel_cross_entropy", "vocab_parallel_linear_cross_entropy",
    }  # fmt: skip


def test_the_names_of_the_losses():
    assert set(losses.__all__) == {
        "BCEWithLogitsLoss", "BrierPenaltyLoss", "PreferenceLoss", "binary_cross_entropy_with_logits", "brier_penalty",
        "Cap", "ConfidencePenaltyLoss", "CrossEntropyLoss", "Denominator", "DistillationLoss", "LinearCrossEntropyLoss",
        "MarginSmoothingLoss", "MaxSuppressionLoss", "ReductionName",
        "confidence_penalty", "cross_entropy", "distillation_loss", "eps_of_other_kind", "linear_cross_entropy",
        "margin_smoothing", "max_suppression", "preference_loss",
        "vocab_parallel_cross_entropy", "vocab_parallel_linear_cross_entropy",
    }  # fmt: skip


@pytest.mark.parametrize("module", [ls, losses], ids=lambda module: module.__name__)
def test_all_is_sorted_and_there(module):
    assert sorted(module.__all__) == module.__all__
    assert all(hasattr(module, name) for name in module.__all__)


def test_importing_loads_torch_and_numpy_only():
    """torch alone, then ours: nothing else that is installed beside them comes along."""
    script = (
        "import sys, torch, numpy; before = set(sys.modules); import labelsmooth;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(eval(done.stdout)) <= {"labelsmooth", "torch", "numpy"}


MODULES = [info.name for info in pkgutil.walk_packages(ls.__path__, "labelsmooth.")]
ELSEWHERE = ("__main__", "integrations.timm")  # the latter in its own test, as timm stands apart


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(ELSEWHERE)])
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0
