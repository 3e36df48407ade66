"""Augmentation of utterances: other paces, and hidden parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelsmooth.study.tasks.sequences.sentences import Inputs
from labelsmooth.study.tasks.speech.audio import MELS
from labelsmooth.study.tasks.speech.data import speech_inputs

PACE = 0.1  # by which an utterance may last longer or shorter
BANDS = 15  # that are hidden at most
FRAMES = 20  # that are hidden at most, and no more than an eighth of all


def augmented(inputs: Inputs, chance: np.random.Generator) -> Inputs:
    """Make the inputs of the same utterances at paces of their own, a band and a while of each hidden."""
    frames = inputs["attention_mask"].sum(1).tolist()
    features = [each[:length].numpy() for each, length in zip(inputs["input_features"], frames, strict=True)]
    return speech_inputs([hidden(paced(each, chance), chance) for each in features])


def paced(features: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
    """Stretch features (F, 80) in time by a factor of 0.9 to 1.1 that chance decides, linear between frames.

    Source: Ko et al. 2015, "Audio Augmentation for Speech Recognition", whose tempo perturbation this is.
    """
    frames = max(1, round(len(features) * chance.uniform(1 - PACE, 1 + PACE)))
    place = np.linspace(0, len(features) - 1, frames)
    before = place.astype(np.int64)
    after = np.minimum(before + 1, len(features) - 1)
    part = (place - before)[:, None].astype(np.float32)
    stretched: NDArray[np.float32] = (1 - part) * features[before] + part * features[after]
    return stretched


def hidden(features: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
    """Put 0, the mean, in place of some neighbouring bands and of some frames in a row, as chance decides.

    Source: Park et al. 2019, "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
        Recognition".
    """
    features = features.copy()
    bands = chance.integers(BANDS, endpoint=True)
    first = chance.integers(MELS - bands, endpoint=True)
    features[:, first : first + bands] = 0
    frames = chance.integers(min(FRAMES, len(features) // 8), endpoint=True)
    first = chance.integers(len(features) - frames, endpoint=True)
    features[first : first + frames] = 0
    return features
