"""Audio of any form as samples and features, and audio that is none."""

import io
import struct

import numpy as np
import pytest
import soundfile
from recordings import FOLDER
from transformers import Speech2TextFeatureExtractor

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.speech.audio import log_mel, read_audio

SAMPLES, RATE = soundfile.read(FOLDER / "12.ogg", dtype="float32")


def written(samples, rate, **form):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **form)
    return stream.getvalue()


WAV, FLAC, AIFF = (written(SAMPLES, RATE, format=name) for name in ("WAV", "FLAC", "AIFF"))


def read(content, rate=RATE, most_seconds=10.0):
    return read_audio(content, "it", rate=rate, most_seconds=most_seconds)


@pytest.mark.parametrize(
    "form",
    [
        {"format": "WAV", "subtype": "PCM_16"},
        {"format": "WAV", "subtype": "FLOAT"},
        {"format": "WAV", "subtype": "ULAW"},
        {"format": "FLAC"},
        {"format": "AIFF"},
        {"format": "W64"},
        {"format": "OGG", "subtype": "VORBIS"},
    ],
)
def test_every_format_has_the_same_sound(form):
    found = read(written(SAMPLES, RATE, **form))
    assert found.dtype == np.float32
    assert len(found) == len(SAMPLES)
    assert np.corrcoef(found, SAMPLES)[0, 1] > 0.98  # μ-law and Vorbis lose some


def test_channels_are_averaged():
    stereo = np.stack([0.5 * SAMPLES, 0.25 * SAMPLES, np.zeros_like(SAMPLES)], axis=1)
    found = read(written(stereo, RATE, format="WAV", subtype="FLOAT"))
    np.testing.assert_allclose(found, 0.25 * SAMPLES, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_any_rate_is_brought_to_that_of_the_features(rate):
    """A tone stays the same tone, of the same strength."""
    tone = [np.sin(2 * np.pi * 440 * np.arange(each) / each).astype(np.float32) for each in (rate, 16_000)]
    found = read(written(tone[0], rate, format="WAV", subtype="FLOAT"), rate=16_000)
    assert len(found) == 16_000
    np.testing.assert_allclose(found[500:-500], tone[1][500:-500], atol=2e-3)


def test_features_are_those_of_speech2text():
    samples = read(WAV, rate=16_000)
    (expected,) = Speech2TextFeatureExtractor()(samples, sampling_rate=16_000)["input_features"]
    found = log_mel(samples, 16_000)
    assert found.shape == (1 + (len(samples) - 400) // 160, 80)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("rate", [4_000, 8_000, 22_050, 48_000])
def test_features_at_other_rates(rate, recwarn):
    found = log_mel(read(WAV, rate=rate), rate)
    assert abs(len(found) - len(log_mel(SAMPLES, RATE))) <= 1
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-5)
    assert not recwarn.list  # of bands without a frequency


def test_silence_has_features_and_less_than_a_window_none():
    np.testing.assert_allclose(log_mel(np.zeros(8_000, np.float32), 8_000), np.zeros((98, 80)), atol=1e-6)
    assert log_mel(SAMPLES[:199], 8_000).shape == (0, 80)


def test_what_lasts_too_long_is_not_read():
    seconds = len(SAMPLES) / RATE
    assert read(WAV, most_seconds=seconds - 0.01) is None
    assert read(WAV, most_seconds=seconds) is not None


def lying_flac():
    """A FLAC whose header claims 2³⁶ − 1 samples."""
    sizes = int.from_bytes(FLAC[18:26], "big") | (1 << 36) - 1
    return FLAC[:18] + sizes.to_bytes(8, "big") + FLAC[26:]


def at_rate(rate):
    return WAV[:24] + struct.pack("<I", rate) + WAV[28:]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it must be audio, or is damaged"),
        (b"no sound" * 100, "it must be audio, or is damaged"),
        (WAV[:30], "it must be audio, or is damaged"),
        (WAV[: len(WAV) // 2], "it must hold the audio that its header claims, it ends before"),
        (AIFF[: len(AIFF) // 2], "it must hold the audio that its header claims, it ends before"),
        (FLAC[: len(FLAC) // 2], "it must be audio, or is damaged"),
        ((FOLDER / "12.ogg").read_bytes()[:2000], "it must hold audio, it has no sample|it must be audio"),
        (WAV[:40] + struct.pack("<I", 10**6) + WAV[44:], "it must hold the audio that its header claims"),
        (lying_flac(), "it must be audio, or is damaged"),
        (written(SAMPLES[:0], RATE, format="WAV"), "it must hold audio, it has no sample"),
        (at_rate(100), r"it must have a rate in 4000..384000 Hz, got 100"),
        (at_rate(2**31 - 1), "it must have a rate in 4000..384000 Hz, got 2147483647"),
        (written(SAMPLES * np.nan, RATE, format="WAV", subtype="FLOAT"), "it must hold finite samples"),
    ],
)  # fmt: skip
def test_audio_that_is_refused(content, says):
    with pytest.raises(InputError, match=says):
        read(content)


def test_the_length_of_a_stream_is_what_there_is():
    """As where a program wrote a WAV without knowing how long it would be."""
    assert len(read(WAV[:40] + b"\xff" * 4 + WAV[44:])) == len(SAMPLES)
