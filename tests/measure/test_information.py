"""Mutual information against its definition in float64, and where its value is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelsmooth.measure import mutual_information


def samples(centres, draws=8, sd=1.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.asarray(centres, float)
    return centres[:, None] + sd * rng.standard_normal(
        (len(centres), draws)
    ), centres + sd * rng.standard_normal(len(centres))


@given(seed=st.integers(0, 2**31), inputs=st.integers(1, 30), draws=st.integers(2, 6))
def test_it_is_its_definition(seed, inputs, draws):
    rng = np.random.default_rng(seed)
    d, f = samples(4 * rng.standard_normal(inputs), draws, seed=seed)
    mu = d.mean(-1)
    variance = ((d - mu[:, None]) ** 2).sum() / (inputs * (draws - 1))
    terms = [
        -((f[x] - mu[x]) ** 2) / (2 * variance)
        - math.log(sum(math.exp(-((f[x] - m) ** 2) / (2 * variance)) for m in mu) / inputs)
        for x in range(inputs)
    ]
    expected = max(float(np.mean(terms)), 0)
    assert mutual_information(d, f) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 0 <= mutual_information(torch.tensor(d), torch.tensor(f)) <= math.log(inputs) + 1e-12


def test_inputs_far_apart_are_all_told_apart():
    assert mutual_information(*samples(1000.0 * np.arange(500))) == pytest.approx(math.log(500), rel=1e-12)


def test_inputs_in_one_place_are_not():
    draws = np.tile([0.0, 1.0, 2.0], (50, 1))
    assert mutual_information(draws, np.linspace(-3, 5, 50)) == 0


@pytest.mark.parametrize("clusters", [2, 5])
def test_clusters_give_the_log_of_their_number(clusters):
    # tight clusters: their means coincide, because the draws of an input are two that cancel
    centres = 1000.0 * np.repeat(np.arange(clusters), 200)
    draws = centres[:, None] + np.array([-1.0, 1.0])
    fresh = centres + np.random.default_rng(0).standard_normal(len(centres))
    assert mutual_information(draws, fresh) == pytest.approx(math.log(clusters), rel=1e-9)


def test_a_gaussian_channel_has_its_capacity():
    # μ ~ N(0, 9) seen through noise N(0, 1): ½·log(1 + 9), approached as N and L grow
    rng = np.random.default_rng(1)
    draws, fresh = samples(3 * rng.standard_normal(3000), 200, seed=2)
    assert mutual_information(draws, fresh) == pytest.approx(0.5 * math.log(10), abs=0.03)


def test_blocks_and_offsets_change_nothing():
    draws, fresh = samples(np.random.default_rng(0).standard_normal(2500), 4)  # three blocks
    whole = mutual_information(draws, fresh)
    draws, fresh = np.round(draws * 2**20) / 2**20, np.round(fresh * 2**20) / 2**20
    assert mutual_information(draws, fresh) == pytest.approx(whole, rel=1e-5)
    assert mutual_information(draws + 2.0**24, fresh + 2.0**24) == pytest.approx(
        mutual_information(draws, fresh), rel=1e-12
    )
    order = np.random.default_rng(3).permutation(len(fresh))
    assert mutual_information(draws[order], fresh[order]) == pytest.approx(
        mutual_information(draws, fresh), rel=1e-9
    )


def test_a_draw_used_again_is_not_fresh():
    draws, fresh = samples(np.zeros(400), 3)
    assert mutual_information(draws, draws[:, 0]) > mutual_information(draws, fresh)


@pytest.mark.parametrize(
    ("draws", "fresh", "error", "message"),
    [
        (np.zeros((3, 1)), np.zeros(3), ValueError, r"shape \(N, L\) with N ≥ 1 and L ≥ 2, got \(3, 1\)"),
        (np.zeros((0, 2)), np.zeros(0), ValueError, r"got \(0, 2\)"),
        (np.zeros((3, 2)), np.zeros(2), ValueError, r"fresh must have shape \(3,\), got \(2,\)"),
        (np.zeros((3, 2)), np.zeros(3), ValueError, "the draws of an input must vary"),
        (np.zeros((3, 2), int), np.zeros(3), TypeError, "draws must hold floating-point values"),
        (np.full((3, 2), np.nan), np.zeros(3), ValueError, "draws must be finite, got nan"),
        ([[0.0]], np.zeros(3), TypeError, "draws must be a torch.Tensor or a numpy.ndarray, got list"),
    ],
)  # fmt: skip
def test_bad_draws_are_refused(draws, fresh, error, message):
    with pytest.raises(error, match=message):
        mutual_information(draws, fresh)
