"""Rows, labels and weights as every measure takes them."""

import math
import warnings

import numpy as np
import pytest
import torch

from labelsmooth import measure
from labelsmooth.measure.inputs import weighted_rows

MEASURES = ["accuracy", "nll", "brier", "ece", "mce", "classwise_ece", "smece"]


def maps(classes=4, dtype=torch.int64):
    """Logits (2, K, 3, 5), labels with ignored pixels, and the rows that count."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 3, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (2, 3, 5), generator=generator).to(dtype)
    ignored = torch.rand(2, 3, 5, generator=generator) < 0.3
    return logits, labels, ignored, logits.permute(0, 2, 3, 1)[~ignored], labels[~ignored].long()


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("probs", [False, True])
@pytest.mark.parametrize(("ignore_index", "dtype"), [(-100, torch.int64), (255, torch.uint8)])
def test_ignored_pixels_of_maps_are_left_out(name, probs, ignore_index, dtype):
    logits, labels, ignored, rows, kept = maps(dtype=dtype)
    if probs:
        logits, rows = logits.softmax(1), rows.softmax(-1)
    labels[ignored] = ignore_index
    function = getattr(measure, name)
    got = function(logits, labels, probs=probs, ignore_index=ignore_index, class_axis=1)
    assert got == pytest.approx(function(rows, kept, probs=probs), rel=1e-12)


def test_a_narrow_label_does_not_wrap_into_the_ignored_one():
    """Class 156 of uint8 has the bits of -100."""
    logits, target = torch.zeros(2, 200), torch.tensor([156, 0], dtype=torch.uint8)
    rows, labels, _ = weighted_rows(logits, target, None, "logits", ignore_index=-100)
    assert (len(rows), labels.tolist()) == (2, [156, 0])


def test_weights_go_with_the_rows_that_are_left():
    logits, labels, ignored, rows, kept = maps()
    labels[ignored] = -1
    weight = torch.rand(labels.shape, dtype=torch.float64)
    got = measure.nll(logits, labels, weight=weight, ignore_index=-1, class_axis=1)
    losses = torch.nn.functional.cross_entropy(rows.double(), kept, reduction="none")
    assert got == pytest.approx(float((losses * weight[~ignored]).sum() / weight[~ignored].sum()), rel=1e-6)


@pytest.mark.parametrize("layout", [lambda w: w.T, lambda w: w.reshape(-1), lambda w: w[..., None]])
def test_weights_of_another_layout_are_refused(layout):
    logits, target, weight = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3)
    for given in (layout(weight), layout(weight).numpy()):
        with pytest.raises(ValueError, match=r"weight must have the shape of target, \(2, 3\), got \("):
            measure.nll(logits, target, weight=given)


def test_both_sides_of_a_comparison_leave_out_the_same_rows():
    logits, labels, ignored, rows, kept = maps()
    labels[ignored] = 255
    got = measure.compare(logits, logits / 2, labels, ignore_index=255, class_axis=1)
    expected = measure.compare(rows, rows / 2, kept)
    assert {name: difference.value for name, difference in got.items()} == pytest.approx(
        {name: difference.value for name, difference in expected.items()}, rel=1e-12
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"class_axis": 2}, ValueError, r"shape \(…\) with an axis 2, got \(2, 3\)"),
        ({"class_axis": 1.0}, TypeError, "class_axis must be an int, got float"),
        ({"ignore_index": 1.0}, TypeError, "ignore_index must be an int, got float"),
        ({"class_axis": 0}, ValueError, r"whose axis 0 is left out, got target \(2,\) with logits \(2, 3\)"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        measure.nll(torch.zeros(2, 3), torch.tensor([0, 1]), **options)


def test_labels_before_scores_are_refused():
    with pytest.raises(
        TypeError, match="logits must hold floating-point values, got torch.int64; logits come before target"
    ):
        measure.ece(np.array([0, 1]), np.array([[0.5, 0.5], [0.2, 0.8]]))


PROBS = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
TARGET = torch.tensor([1, 0])


@pytest.mark.parametrize(
    "measured",
    [
        lambda: measure.ece(PROBS, TARGET),
        lambda: measure.Calibration().update(PROBS.numpy(), TARGET),
        lambda: measure.compare(PROBS, PROBS, TARGET),
    ],
)
def test_probabilities_as_logits_are_warned_of_where_they_are_given(measured):
    with pytest.warns(UserWarning, match="lies in 0..1 and sums to 1.*update_probs") as caught:
        measured()
    assert {warning.filename for warning in caught} == {__file__}


def test_logits_of_which_some_look_like_probabilities_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure.ece(torch.tensor([[0.25, 0.75], [0.5, -0.5]]), TARGET)
        measure.ece(PROBS.log(), TARGET)
        measure.ece(torch.eye(2), TARGET)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_rounding_puts_below_zero_counts_as_zero(dtype):
    rounding = 4 * torch.finfo(dtype).eps
    probs = torch.tensor([[1 + rounding, -rounding], [0.25, 0.75]], dtype=dtype)
    assert measure.nll(probs, torch.tensor([1, 0]), probs=True) == float("inf")
    assert measure.nll(probs, torch.tensor([0, 1]), probs=True) == pytest.approx(
        (-np.log1p(rounding) - np.log(0.75)) / 2, rel=1e-6
    )
    with pytest.raises(ValueError, match="probs must lie in 0..1, got -"):
        measure.nll(torch.tensor([[1.0, -1.5 * rounding]], dtype=dtype), torch.tensor([0]), probs=True)


CALLS = {
    "nll": measure.nll,
    "aurc": measure.aurc,
    "temperature": measure.temperature,
    "equivalent_smoothing": measure.equivalent_smoothing,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_row_of_weight_0_counts_nowhere_whatever_it_holds(name):
    logits = torch.randn(40, 3, dtype=torch.float64)
    labels = torch.randint(3, (40,))
    weight = torch.ones(40)
    weight[[3, 7]] = 0
    kept = weight > 0
    expected = CALLS[name](logits[kept], labels[kept], weight=weight[kept])
    logits[3], labels[7] = math.nan, -5
    assert CALLS[name](logits, labels, weight=weight) == expected


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_arrays_of_the_other_byte_order_are_read(dtype):
    logits = np.random.default_rng(0).normal(size=(9, 3)).astype(dtype)
    labels = np.arange(9).astype(">i8") % 3
    assert measure.nll(logits, labels) == measure.nll(logits.astype(dtype[1:]), labels.astype("i8"))


def test_numbers_wider_than_64_bits_are_refused():
    with pytest.raises(TypeError, match="at most 64 bits, got dtype float128"):
        measure.nll(np.zeros((2, 2), np.longdouble), np.zeros(2, int))


def test_an_ignored_label_may_be_an_integer_of_numpy():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, -1, 2, -1])
    assert measure.nll(logits, labels, ignore_index=np.int64(-1)) == measure.nll(
        logits, labels, ignore_index=-1
    )
