"""Augmentation of utterances."""

import numpy as np
import pytest
import torch
from recordings import FILE

from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.tasks.speech import TASK, Recipe
from labelsmooth.study.tasks.speech.augment import BANDS, FRAMES, augmented, hidden, paced
from labelsmooth.study.tasks.speech.data import speech_inputs


def test_what_is_linear_in_time_is_so_at_every_pace():
    line = np.linspace(-1, 2, 200, dtype=np.float32)[:, None] * np.arange(80, dtype=np.float32)
    lengths = set()
    for seed in range(50):
        stretched = paced(line, np.random.default_rng(seed))
        lengths.add(len(stretched))
        expected = np.linspace(-1, 2, len(stretched))[:, None] * np.arange(80)
        np.testing.assert_allclose(stretched, expected, atol=1e-3)
    assert len(lengths) > 20
    assert min(lengths) >= 180
    assert max(lengths) <= 220


@pytest.mark.parametrize("frames", [1, 7, 400])
def test_a_block_of_bands_and_one_of_frames_are_hidden_and_nothing_else(frames):
    widths = set()
    features = np.ones((frames, 80), dtype=np.float32)
    for seed in range(300):
        found = hidden(features, np.random.default_rng(seed))
        bands, times = ~found.any(0), ~found.any(1)
        np.testing.assert_array_equal(found == 0, bands | times[:, None])
        for is_hidden in (bands, times):
            assert np.flatnonzero(np.diff(is_hidden)).size <= 2  # one block
        widths.add((bands.sum(), times.sum()))
    assert {bands for bands, _ in widths} == set(range(BANDS + 1))
    assert max(times for _, times in widths) == min(FRAMES, frames // 8)
    assert (features == 1).all()


def test_inputs_are_those_of_the_utterances_without_padding():
    features = [np.full((length, 80), 3, dtype=np.float32) for length in (40, 90)]
    found = augmented(speech_inputs(features), np.random.default_rng(0))
    lengths = found["attention_mask"].sum(1)
    assert 36 <= lengths[0] <= 44
    assert 81 <= lengths[1] <= 99
    for each, length in zip(found["input_features"], lengths, strict=True):
        assert set(each[:length].round(decimals=5).unique().tolist()) <= {0.0, 3.0}
        assert not each[length:].any()


@pytest.mark.usefixtures("tiny")
def test_epochs_differ_and_arms_do_not():
    recipe = Recipe(data=f"manifest:{FILE}", sample_rate=8_000, eps=(0.0, 0.1), seeds=1)
    data = TASK.load(recipe)
    first, second = (
        TASK.begin(config, data, TASK.new_network(config, data.summary), Placement())
        for config in recipe.trials(data.summary.sha256)
    )
    epochs = [
        [batch.inputs["input_features"] for batch in session.batches()] for session in (first, second, first)
    ]
    for one, other in zip(epochs[0], epochs[1], strict=True):
        assert torch.equal(one, other)
    assert sum(map(torch.sum, epochs[0])) != sum(map(torch.sum, epochs[2]))
