"""Losses that are right are never accused, in any dtype: ours, and the peers that are installed."""

from functools import partial

import pytest
import torch

import labelsmooth as ls

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
PUBLISHED = [name for name, record in ls.conventions().items() if record.same_as == name]
PAD = {name: 0 for name, record in ls.conventions().items() if record.needs_pad}


def smoothed(name, eps, **keywords):
    pad = PAD.get(name)
    ignored = {} if pad is None else {"ignore_index": pad}
    return partial(ls.cross_entropy, label_smoothing=ls.convention(name, eps, pad), **ignored, **keywords)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PUBLISHED)
def test_each_convention(name, dtype):
    found = ls.identify(smoothed(name, 0.1), dtype=dtype)
    assert (found.convention, found.eps) == (name, pytest.approx(0.1, abs=1e-4))
    assert found.faults == ()
