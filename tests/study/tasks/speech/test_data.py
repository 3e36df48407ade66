"""Utterances as features and tokens, in parts that share no text and no audio."""

import pytest
import soundfile
import torch
from recordings import FILE, FOLDER

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.vocabulary import learn_characters, learn_vocabulary
from labelsmooth.study.tasks.speech.audio import log_mel, read_audio
from labelsmooth.study.tasks.speech.data import MARKS, load_speech, speech_inputs

LINES = FILE.read_text(encoding="utf-8").splitlines()
PARTS = ("train", "validation", "test")


def load(file=FILE, **changes):
    settings = {"sample_rate": 8_000, "vocabulary_size": 0, "max_seconds": 10.0}
    return load_speech(f"manifest:{file}", **{**settings, **changes})


def manifest(folder, lines):
    file = folder / "manifest.tsv"
    file.write_text("".join(f"{line if '/' in line else f'{FOLDER}/{line}'}\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def data():
    return load()


def test_every_utterance_has_its_features_and_its_text(data):
    texts, trained = {}, set("".join(data.train.targets))
    for part in PARTS:
        utterances = getattr(data, part)
        known = ["".join(x if x in trained else "\ufffd" for x in text) for text in utterances.targets]
        assert data.vocabulary.decode(utterances.target_tokens) == known
        texts.update(zip(utterances.targets, utterances.features, strict=True))
    assert len(texts) == len(data.train) + len(data.validation) + len(data.test) == 48
    content = (FOLDER / "day-1.ogg").read_bytes()
    expected = log_mel(read_audio(content, "", rate=8_000, most_seconds=10), 8_000)
    assert (texts["monday"] == expected).all()
    summary = data.summary
    assert summary.max_frames == max(map(len, texts.values()))
    assert summary.test_rows == sum(len(text) + 1 for text in data.test.targets)
    assert summary.train_seconds == pytest.approx(sum(map(len, data.train.features)) / 100)
    assert summary.repeated == summary.too_long == summary.too_short == 0


def test_the_vocabulary_is_that_of_the_texts_to_train_on(data):
    assert data.vocabulary == learn_characters(data.train.targets, **MARKS)
    assert data.summary.num_classes == 3 + len(set("".join(data.train.targets)))
    subwords = load(vocabulary_size=270)
    assert subwords.vocabulary == learn_vocabulary(data.train.targets, 270, **MARKS)
    assert subwords.vocabulary.decode(subwords.test.target_tokens) == list(data.test.targets)
    for vocabulary in (data.vocabulary, subwords.vocabulary):
        assert (vocabulary.encode(["one"])[0][-1], vocabulary.pad, vocabulary.start) == (0, 1, 0)


def test_a_batch_is_padded_with_silence_that_does_not_count(data):
    inputs = speech_inputs(data.test.features[:3])
    frames = list(map(len, data.test.features[:3]))
    assert inputs["attention_mask"].sum(1).tolist() == frames
    assert inputs["input_features"].shape == (3, max(frames) + 8, 80)
    assert torch.equal(inputs["input_features"][1, : frames[1]], torch.from_numpy(data.test.features[1]))
    assert not inputs["input_features"][1, frames[1] :].any()


def test_an_utterance_that_recurs_stays_on_one_side(tmp_path, data):
    """By its text, in another voice or spelling, and by its audio under another text."""
    held_out = data.test.targets[0]
    name = next(line.split("\t")[0] for line in LINES if line.split("\t")[1].lower() == held_out)
    added = [f"0.ogg\t{held_out.upper()}!", f"{name}\tsomething else"]
    found = load(manifest(tmp_path, [*added * 10, *LINES]))
    tested = {features.tobytes() for features in found.test.features}
    for part in ("train", "validation"):
        utterances = getattr(found, part)
        assert not set(utterances.targets) & set(found.test.targets)
        assert not {features.tobytes() for features in utterances.features} & tested
    assert found.summary.repeated > 0


def test_what_does_not_fit_is_left_out_and_counted(tmp_path):
    short = load(max_seconds=0.95)
    seconds = [soundfile.info(FOLDER / line.split("\t")[0]).duration for line in LINES]
    assert short.summary.too_long == sum(each > 0.95 for each in seconds) > 0
    sentence = "a text that nobody can have spoken in the time that it takes to say a number"
    found = load(manifest(tmp_path, [f"{LINES[0].split(chr(9))[0]}\t{sentence}", *LINES[1:]]))
    assert found.summary.too_short == 1
    with pytest.raises(
        InputError, match="max_seconds must leave at least half of the 48 utterances of manif"
    ):
        load(max_seconds=0.5)
    with pytest.raises(InputError, match="must last 40 ms or more for each token of their text, 0 to train"):
        load(manifest(tmp_path, [f"{line} {sentence}" for line in LINES]))
    with pytest.raises(InputError, match="must have at least 30 utterances, got 20"):
        load(manifest(tmp_path, LINES[:20]))


def test_damaged_audio_is_named_before_anything_is_trained(tmp_path):
    (tmp_path / "0.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"/0.wav must be audio, or is damaged"):
        load(manifest(tmp_path, [*LINES, f"{tmp_path}/0.wav\tzero"]))


def test_the_hash_knows_audio_texts_rate_and_vocabulary(tmp_path, data):
    other = manifest(tmp_path, [*LINES[:-1], LINES[-1].replace("fourtieth", "fortieth")])
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    again = load(manifest(swapped, ["1.ogg\tzero", *LINES[1:7], "0.ogg\tone", *LINES[8:]]))
    found = {load(other).summary.sha256, again.summary.sha256, load(sample_rate=16_000).summary.sha256}
    found |= {load(vocabulary_size=270).summary.sha256, data.summary.sha256}
    assert len(found) == 5
    assert load(manifest(tmp_path, LINES)).summary.sha256 == data.summary.sha256
