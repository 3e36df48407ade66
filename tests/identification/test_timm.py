"""The losses of timm, in a process where it can be imported."""

import pytest
from timm_apart import timm

import labelsmooth as ls


def test_losses_of_timm():
    found = ls.identify(timm.loss.LabelSmoothingCrossEntropy(0.1))
    assert (found.convention, found.eps, found.faults) == ("torch", pytest.approx(0.1, abs=1e-6), ())
    found = ls.identify(timm.loss.BinaryCrossEntropy(0.1))
    assert (found.kind, found.convention, found.faults) == ("sigmoid", "timm", ())
    assert found.eps == pytest.approx(0.1, abs=1e-6)
