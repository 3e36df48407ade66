"""Audio of any format, rate and number of channels as log-mel features."""

from __future__ import annotations

import io
import math
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import reading

MELS = 80
FRAME, STEP = 0.025, 0.010  # seconds
RATES = (4_000, 384_000)  # samples a second
_BLOCK = 1 << 16  # frames that are read at a time, as a header may claim any number
_UNKNOWN = 0xFFFFFFFF  # the length that a WAV has where it was written as a stream
# the first bytes of files that are made of chunks: the order of bytes in numbers, and the chunk of samples
_CHUNKS: dict[bytes, tuple[Literal["little", "big"], bytes]] = {
    b"RIFF": ("little", b"data"),
    b"FORM": ("big", b"SSND"),
}
_PREEMPHASIS = 0.97
_CONSTANT = 1e-6  # the deviation of a band, in nats, that only rounding has
_FLOOR = 1.192092955078125e-07  # of the power in a band, as Kaldi has it


def read_audio(
    content: bytes,
    name: str,
    *,
    rate: int,
    most_seconds: float,
) -> NDArray[np.float32] | None:
    """Read audio of any format that libsndfile knows, as one channel at a rate.

    Args:
        content: of the file.
        name: of it, for messages.
        rate: samples a second of the result.
        most_seconds: that are read.

    Returns:
        (n,) samples in about −1..1, the mean of the channels; None where there are more seconds.

    Raises:
        InputError: it is no audio, is damaged, holds nothing or less than its header claims, or its rate or a
            sample is out of range.
        MissingPackage: soundfile or scipy is missing.
    """
    with needs_extra("speech"):
        import soundfile

    if _claimed_bytes(content) > len(content):
        raise InputError(f"{name} must hold the audio that its header claims, it ends before")
    blocks: list[NDArray[np.float32]] = []
    with (
        reading(name, (soundfile.SoundFileRuntimeError,), lambda _: f"{name} must be audio, or is damaged"),
        soundfile.SoundFile(io.BytesIO(content)) as file,
    ):
        claimed, own_rate = file.frames, file.samplerate
        most = math.floor(most_seconds * own_rate) + 1
        while sum(map(len, blocks)) < most and len(block := file.read(_BLOCK, "float32", always_2d=True)):
            blocks.append(block.mean(1))
    total = sum(map(len, blocks))
    if not RATES[0] <= own_rate <= RATES[1]:
        raise InputError(f"{name} must have a rate in {RATES[0]}..{RATES[1]} Hz, got {own_rate}")
    if total >= most:
        return None
    if not total:
        raise InputError(f"{name} must hold audio, it has no sample")
    if total < claimed:
        raise InputError(f"{name} must hold {claimed:,} frames as its header claims, it holds {total:,}")
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise InputError(f"{name} must hold finite samples, it has some that are not")
    return _resampled(samples, own_rate, rate)


def _claimed_bytes(content: bytes) -> int:
    """Give the bytes that a file must have by the header of its WAV or AIFF; 0 of others.

    libsndfile reads what there is, and says nothing of what is missing.
    """
    if content[:4] not in _CHUNKS:
        return 0
    order, audio = _CHUNKS[content[:4]]
    place = 12
    while place + 8 <= len(content):
        size = int.from_bytes(content[place + 4 : place + 8], order)
        if content[place : place + 4] == audio:
            return 0 if size == _UNKNOWN else place + 8 + size
        place += 8 + size + size % 2
    return 0


def _resampled(samples: NDArray[np.float32], own_rate: int, rate: int) -> NDArray[np.float32]:
    if own_rate == rate:
        return samples
    with needs_extra("study"):
        from scipy.signal import resample_poly

    shared = math.gcd(own_rate, rate)
    resampled: NDArray[np.float32] = resample_poly(samples, rate // shared, own_rate // shared)
    return resampled


def log_mel(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Give the logarithm of the power in 80 mel bands, every 10 ms, of windows of 25 ms.

    Each band has the mean 0 and the deviation 1 over the utterance; one that is constant is 0. At 16 kHz they
    are the features of transformers' Speech2Text.

    Args:
        samples: (n,) in about −1..1.
        rate: samples a second.

    Returns:
        (frames, 80) in float32; no frame where the audio is shorter than a window.

    Cost: 1 s for ten minutes of audio.

    Source: Povey et al. 2011, "The Kaldi Speech Recognition Toolkit"; Wang et al. 2020, "fairseq S2T: Fast
    Speech-to-Text Modeling with fairseq".
    """
    width, step = round(FRAME * rate), round(STEP * rate)
    if len(samples) < width:
        return np.zeros((0, MELS), dtype=np.float32)
    window, filters, length = _bank(width, rate)
    frames = sliding_window_view(samples.astype(np.float64) * 2**15, width)[::step]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft((frames - _PREEMPHASIS * before) * window, length)) ** 2
    bands = np.log(np.maximum(power @ filters, _FLOOR))
    deviation = bands.std(0)
    normalised = (bands - bands.mean(0)) / np.where(deviation > _CONSTANT, deviation, 1)
    features: NDArray[np.float32] = normalised.astype(np.float32)
    return features


@cache
def _bank(width: int, rate: int) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Make the window, the bands, (length/2 + 1, 80), and the length of the transform."""
    with needs_extra("speech"):
        from transformers.audio_utils import mel_filter_bank, window_function

    length = max(512, 1 << (width - 1).bit_length())  # so that the narrowest band has a frequency
    filters = mel_filter_bank(
        num_frequency_bins=length // 2 + 1,
        num_mel_filters=MELS,
        min_frequency=20,
        max_frequency=rate / 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return window_function(width, "povey", periodic=False), filters, length
