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


@pytest.mark.parametrize(
    ("dtype", "huge"),
    [(torch.float32, 1e18), (torch.float32, 1e30), (torch.float32, 1e38), (torch.float64, 1e300)],
)
def test_huge_logits_widen_the_bins(dtype, huge):
    logits, labels = rows(100)
    logits = logits.to(dtype)
    logits[7, 2] = huge
    logits[8, labels[8]] = huge
    whole, first, second = GapHistogram(bins=20), GapHistogram(bins=20), GapHistogram(bins=20)
    whole.update(logits, labels)
    first.update(logits[8:], labels[8:])
    second.update(logits[:8], labels[:8])
    second.merge(first)
    assert second.state()["width"] == whole.state()["width"]
    for gaps in (whole, second):
        table = gaps.figures()["logit_gaps"]
        expected, _ = np.histogram(logit_gaps(logits, labels), np.append(table["from"], table["to"][-1]))
        np.testing.assert_array_equal(table["rows"], expected)
        assert expected.sum() == 100
        assert len(expected) <= 20


def test_a_gap_beyond_float64_is_none():
    logits, labels = rows(10)
    logits = logits.double()
    logits[3] = torch.tensor([1.7e308, -1.7e308, 1.7e308, -1.7e308])
    gaps = GapHistogram()
    gaps.update(logits, labels)
    assert gaps.figures()["logit_gaps"]["rows"].sum() == 9


def test_figures_change_nothing():
    logits, labels = rows(100)
    gaps = GapHistogram(bins=2)
    gaps.update(logits, labels)
    before = gaps.state()
    gaps.figures()
    assert all(np.array_equal(array, before[name]) for name, array in gaps.state().items())


def test_it_needs_two_bins():
    with pytest.raises(ValueError, match="bins must be at least 2, got 1"):
        GapHistogram(bins=1)
