"""Scores and labels in every layout that people have them in, and the sentence that says what was made of it."""

import numpy as np
import pytest
import torch

from labelsmooth.errors import InputError
from labelsmooth.predictions import Names, Predictions

RNG = np.random.default_rng(5)
LOGITS = RNG.standard_normal((40, 4))
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
LABELS = RNG.integers(0, 4, 40)


def read(path, *, class_axis=-1, ignore_label=-100, names=None, **arrays):
    """Scores, labels and notes of an archive with these arrays, and what else a batch holds."""
    np.savez(path / "a.npz", **arrays)
    predictions = Predictions(
        path / "a.npz", names or Names(), class_axis=class_axis, ignore_label=ignore_label
    )
    scan = predictions.scan()
    predictions._rows_a_block = lambda: 7
    batches = list(predictions.batches())
    scores = torch.cat([batch.scores for batch in batches]).double().numpy()
    return scores, torch.cat([batch.labels for batch in batches]).numpy(), scan.notes, batches


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (LABELS.astype(np.float32), "Its labels in labels are floats, which are all whole."),
        (np.eye(4)[LABELS], "Its labels in labels are one-hot."),
        (np.eye(4, dtype=bool)[LABELS], "Its labels in labels are one-hot."),
        (LABELS[:, None], "Its labels in labels are an array of one column."),
        (LABELS.astype(str), "Its labels name the classes: 0, 1, 2, 3."),
        (np.array(list("zbcd"))[(LABELS + 1) % 4], "Its classes are its labels in alphabetical order: b, c, d, z."),
    ],
)  # fmt: skip
def test_labels(tmp_path, labels, note):
    scores, found, notes, _ = read(tmp_path, logits=LOGITS, labels=labels)
    np.testing.assert_array_equal(found, LABELS)
    np.testing.assert_array_equal(scores, LOGITS)
    assert notes == (note,)


def test_text_labels_whose_order_a_file_holds(tmp_path):
    """The order of the scores, and not that of the alphabet."""
    order = np.array(["cat", "ant", "dog", "bee"])
    _, found, notes, _ = read(tmp_path, logits=LOGITS, labels=order[LABELS], classes=order)
    np.testing.assert_array_equal(found, LABELS)
    assert notes == ("Its labels name the classes: cat, ant, dog, bee.",)
    with pytest.raises(
        InputError, match=r"names of the classes \(cat, ant, dog, bee\) in labels, got 'cow' in row 3"
    ):
        read(tmp_path, logits=LOGITS, labels=np.where(np.arange(40) == 3, "cow", order[LABELS]), classes=order)  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.eye(4)[LABELS] * 0.5, "labels or a single 1 in each row in labels, got none in row 0"),
        (np.where(np.arange(160).reshape(40, 4) < 159, np.eye(4)[LABELS], 1) + 0.0, "a single 1"),
        (np.array(["a", "b"])[LABELS % 2], r"names of the 4 classes .* text with 2 values"),
        (np.array(list("abcdefgh"))[np.arange(40) % 8], "text with more values"),
        (np.where(np.arange(40) == 8, np.inf, LABELS), r"labels in 0\.\.3 in labels, got inf in row 8$"),
        (
            np.where(np.arange(40) == 8, -(2**63), LABELS),
            r"got -9223372036854775808 in row 8 \(--ignore-label",
        ),
        (LABELS + 1, r"labels in 0\.\.3 in labels, got 4 in row \d+$"),
        (LABELS + 0j, "must hold integers or text in labels, got complex128"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, sentence):
    if sentence == "a single 1":
        labels[39] = 1
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, logits=LOGITS, labels=labels)


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.float64])
def test_ignored_rows_are_left_out_and_said(tmp_path, dtype):
    """Also with scores that are none, as a trainer pads them."""
    left_out = np.arange(40) % 3 == 0
    labels = np.where(left_out, -100, LABELS).astype(dtype)
    logits = np.where(left_out[:, None], np.nan, LOGITS)
    weights = np.arange(40.0)
    scores, found, notes, batches = read(tmp_path, predictions=logits, label_ids=labels, weights=weights)
    kept = ~left_out & (weights > 0)
    np.testing.assert_array_equal(scores, LOGITS[kept])
    np.testing.assert_array_equal(found, LABELS[kept])
    np.testing.assert_array_equal(torch.cat([b.weights for b in batches]).numpy(), weights[kept])
    assert "14 of its 40 rows have the label -100 and are left out." in notes
    with pytest.raises(InputError, match="must hold labels in label_ids other than -100, got none"):
        read(tmp_path, predictions=LOGITS, label_ids=np.full(40, -100))


def test_rows_of_errors_count_those_left_out(tmp_path):
    labels = np.where(np.arange(40) < 10, -100, LABELS)
    logits = LOGITS.copy()
    logits[23] = np.inf
    with pytest.raises(InputError, match="in row 23"):
        read(tmp_path, logits=logits, labels=labels)


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("labels", [LABELS % 2, LABELS % 2 == 1, np.eye(2)[LABELS % 2]])
def test_one_score_a_row(tmp_path, column, labels):
    z = LOGITS[:, :1] if column else LOGITS[:, 0]
    p = 1 / (1 + np.exp(-z))
    scores, found, notes, _ = read(tmp_path, logits=z, labels=labels)
    np.testing.assert_array_equal(scores, np.stack([np.zeros(40), LOGITS[:, 0]], -1))
    np.testing.assert_array_equal(found, LABELS % 2)
    assert notes[0] == "It holds one logit a row in logits, taken for that of class 1 of two."
    scores, found, notes, _ = read(tmp_path, y_prob=p, y_true=labels)
    np.testing.assert_allclose(scores[:, 1], p.reshape(-1), rtol=1e-15)
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-15)
    assert notes[0] == "It holds one probability a row in y_prob, taken for that of class 1 of two."


def test_tokens(tmp_path):
    logits, labels = RNG.standard_normal((10, 5, 4)), RNG.integers(0, 4, (10, 5))
    labels[:, 3:] = -100
    more = {"weights": np.arange(1.0, 11), "groups": labels % 2, "features": logits[..., :2]}
    scores, found, notes, batches = read(tmp_path, logits=logits, labels=labels, **more)
    np.testing.assert_array_equal(scores, logits[:, :3].reshape(-1, 4))
    np.testing.assert_array_equal(found, labels[:, :3].reshape(-1))
    np.testing.assert_array_equal(
        torch.cat([b.weights for b in batches]).numpy(), np.arange(1.0, 11).repeat(3)
    )
    np.testing.assert_array_equal(np.concatenate([b.groups for b in batches]), found % 2)
    np.testing.assert_array_equal(torch.cat([b.features for b in batches]).numpy(), scores[:, :2])
    assert notes == (
        "It holds 10×5×4 values in logits: its 5 positions are rows of their own, which intervals take for independent.",
        "20 of its 50 rows have the label -100 and are left out.",
    )


def test_maps(tmp_path):
    logits, labels = RNG.standard_normal((3, 4, 5, 6)), RNG.integers(0, 4, (3, 5, 6)).astype(np.uint8)
    labels[:, 0] = 255
    with pytest.raises(
        InputError, match=r"got the shape \(3, 5, 6\) .*: --class-axis 1 takes that axis for the classes"
    ):
        read(tmp_path, logits=logits, labels=labels)  # fmt: skip
    with pytest.raises(InputError, match=r"got 255 in row 0 \(--ignore-label 255 leaves such rows out\)"):
        read(tmp_path, logits=logits, labels=labels, class_axis=1)
    scores, found, notes, _ = read(tmp_path, logits=logits, labels=labels, class_axis=1, ignore_label=255)
    np.testing.assert_array_equal(scores, np.moveaxis(logits, 1, -1)[:, 1:].reshape(-1, 4))
    np.testing.assert_array_equal(found, labels[:, 1:].reshape(-1))
    assert "18 of its 90 rows have the label 255 and are left out." in notes
    one_hot = np.moveaxis(np.eye(4)[np.minimum(labels, 3)], -1, 1)
    _, found, notes, _ = read(tmp_path, logits=logits, labels=one_hot, class_axis=1)
    np.testing.assert_array_equal(found, np.minimum(labels, 3).reshape(-1))
    for axis in (4, -4, -5):
        with pytest.raises(
            InputError, match=f"must name an axis of logits in .* but the first, got {axis} for"
        ):
            read(tmp_path, logits=logits, labels=labels, class_axis=axis)


def test_batches_of_many_positions_are_small(tmp_path, monkeypatch):
    from labelsmooth.predictions import checked

    monkeypatch.setattr(checked, "_BLOCK_VALUES", 40)
    logits, labels = RNG.standard_normal((4, 50, 4)), RNG.integers(0, 4, (4, 50))
    *_, batches = read(tmp_path, logits=logits, labels=labels)
    assert max(len(batch.labels) for batch in batches) == 10
    assert sum(len(batch.labels) for batch in batches) == 200


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounded_probabilities_are_divided_by_their_sum(tmp_path, dtype):
    rounded = PROBS.round(2).astype(dtype)
    off = np.abs(rounded.astype(float).sum(-1) - 1) > 1e-3
    assert 0 < off.sum() < 40
    scores, _, notes, _ = read(tmp_path, probs=rounded, labels=LABELS)
    exact = rounded.astype(float)
    exact[off] /= exact[off].sum(-1, keepdims=True)
    np.testing.assert_allclose(scores, exact, rtol=1e-15)
    assert notes == (
        f"{off.sum()} of its rows sum to 1 but for the rounding of their probabilities to 2 decimals, "
        "and were divided by their sum.",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda p: np.where(np.arange(40)[:, None] == 6, p * 0.9, p),  # what no rounding to two does
        lambda p: np.where(np.arange(40)[:, None] == 6, [0.51, 0.52, 0, 0], p),  # zeros were not rounded up
        lambda p: np.where(np.arange(40)[:, None] == 6, [1.01, 0, 0, 0], p),
        lambda p: np.where(np.arange(40)[:, None] == 6, [np.nan, 0.5, 0.5, 0], p),
        lambda p: np.where(np.arange(40)[:, None] == 6, [0.98, 0, 0, 0], np.eye(4)[LABELS]) + 0.004,  # of 3 decimals
    ],
)  # fmt: skip
def test_sums_that_rounding_does_not_explain(tmp_path, change):
    with pytest.raises(InputError, match=r"must hold probabilities in probs, .* in row \d"):
        read(tmp_path, probs=change(PROBS.round(2)), labels=LABELS)


def test_rows_that_are_ignored_may_hold_anything(tmp_path):
    labels = np.where(np.arange(40) == 6, -100, LABELS)
    probs = np.where(labels[:, None] == -100, np.nan, PROBS.round(2))
    assert len(read(tmp_path, probs=probs, labels=labels)[0]) == 39


def test_log_probabilities_are_logits(tmp_path):
    scores, _, notes, _ = read(tmp_path, log_probs=np.log(PROBS), y_true=LABELS)
    np.testing.assert_array_equal(scores, np.log(PROBS))
    assert notes == ()


def test_predictions_of_a_trainer_give_way_to_other_names(tmp_path):
    """Elsewhere `predictions` are classes."""
    scores, *_ = read(tmp_path, logits=LOGITS, predictions=LOGITS.argmax(-1), labels=LABELS)
    np.testing.assert_array_equal(scores, LOGITS)


def test_options_of_a_question_padded_with_probability_0(tmp_path):
    logits = LOGITS.copy()
    logits[::2, 3] = -np.inf
    labels = np.minimum(LABELS, 2)
    scores, *_ = read(tmp_path, logits=logits, labels=labels)
    np.testing.assert_array_equal(scores, logits)


def test_a_single_map(tmp_path):
    """Classes first, as a network gives it for one image."""
    probs, labels = PROBS.T.reshape(4, 5, 8), LABELS.reshape(5, 8)
    weights, groups = np.arange(40.0).reshape(5, 8), (np.arange(40) % 3).reshape(5, 8)
    more = {"weights": weights, "groups": groups, "classes": np.array(list("abcd"))}
    for texts in (labels, np.array(list("abcd"))[labels]):
        scores, found, notes, batches = read(tmp_path, class_axis=0, probs=probs, labels=texts, **more)
        np.testing.assert_array_equal(scores, PROBS[1:])  # of a weight above 0
        np.testing.assert_array_equal(found, LABELS[1:])
        assert "It holds 1×4×5×8 values in probs: its 40 positions are rows of their own" in notes[0]
        np.testing.assert_array_equal(np.concatenate([batch.weights for batch in batches]), np.arange(1, 40))
        np.testing.assert_array_equal(
            np.concatenate([batch.groups for batch in batches]), np.arange(1, 40) % 3
        )
    scores, found, _, _ = read(tmp_path, class_axis=0, logits=LOGITS.T, labels=LABELS)
    np.testing.assert_array_equal(scores, LOGITS)
    np.testing.assert_array_equal(found, LABELS)


def test_the_axis_of_the_classes_is_suggested(tmp_path):
    with pytest.raises(InputError, match=r"got 5 and 4: --class-axis 0 takes that axis for the classes$"):
        read(tmp_path, probs=PROBS.T.reshape(4, 5, 8), labels=LABELS.reshape(5, 8))
    with pytest.raises(InputError, match=r"labels.*: --class-axis 1 takes that axis for the classes$"):
        read(tmp_path, class_axis=0, probs=PROBS, labels=LABELS)
    with pytest.raises(InputError, match=r"as many rows in labels as in probs, got 0 and 1$"):
        read(tmp_path, class_axis=0, probs=PROBS, labels=np.int64(1))


def test_a_single_map_is_read_from_files_of_tensors_too(tmp_path):
    probs, labels = torch.from_numpy(PROBS.T.reshape(4, 5, 8)), torch.from_numpy(LABELS.reshape(5, 8))
    torch.save({"probs": probs, "labels": labels}, tmp_path / "a.pt")
    (batch,) = Predictions(tmp_path / "a.pt", Names(), class_axis=0).batches()
    np.testing.assert_array_equal(batch.scores, PROBS)
    np.testing.assert_array_equal(batch.labels, LABELS)
