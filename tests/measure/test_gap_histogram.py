"""The histogram of logit gaps, against the gaps themselves."""

import numpy as np
import pytest
import torch

from labelsmooth.measure import GapHistogram, logit_gaps


def rows(number, spread=1.0):
    generator = torch.Generator().manual_seed(0)
    return spread * torch.randn(number, 4, generator=generator), torch.arange(number) % 4


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e4])
def test_the_bins_hold_the_gaps(spread):
    logits, labels = rows(500, spread)
    gaps = GapHistogram(bins=20)
    for part in (slice(100), slice(100, None)):
        gaps.update(logits[part], labels[part])
    table = gaps.figures()["logit_gaps"]
    edges = np.append(table["from"], table["to"][-1])
    assert len(table["rows"]) <= 20
    np.testing.assert_allclose(table["from"][1:], table["to"][:-1])
    expected, _ = np.histogram(logit_gaps(logits, labels), edges)
    np.testing.assert_array_equal(table["rows"], expected)


def test_rows_without_a_gap_and_of_weight_0_are_left_out():
    logits, labels = rows(6)
    logits[0, 1] = -torch.inf
    gaps = GapHistogram()
    gaps.update(logits, labels, torch.tensor([1.0, 1, 1, 0, 1, 1]))
    assert gaps.figures()["logit_gaps"]["rows"].sum() == 4
    nothing = GapHistogram()
    nothing.update(logits[:1], labels[:1])
    assert all(len(column) == 0 for column in nothing.figures()["logit_gaps"].values())


def test_it_needs_a_bin():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        GapHistogram(bins=0)
