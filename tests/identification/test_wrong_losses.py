"""Each wrong loss is told from the right ones, by the name of its mistake; its ε is found where it has one."""

from functools import partial

import pytest
import torch
import wrong_losses as wrong

import labelsmooth as ls

# convention and ε (None where there is none left), and the faults
WRONG = {
    "sum_over_classes": (None, 0.1, {"sum over classes"}),
    "fill_without_k": (None, 0.1, {"1/K forgotten"}),
    "eps_added_to_all": (None, 0.1, {"1/K forgotten"}),
    "kl_mean": ("torch", 0.1, {"mean over rows and classes"}),
    "twice_others": (None, 0.1, {"smoothed twice"}),
    "twice_mixed": (None, 0.1, {"smoothed twice"}),
    "divided_twice": (None, 0.1, {"divided by K twice"}),
    "hard_term_whole": (None, 0.1, {"mass off"}),
    "k_minus_1_and_own": (None, 0.1, {"mass off"}),
    "k_minus_2_without_pad": (None, 0.1, {"mass off"}),
    "padding_divided_wrong": (None, 0.1, {"mass off"}),
    "swapped": ("torch", 0.9, {"eps swapped"}),
    "smooth_term_lost": ("torch", 0.0, {"factor", "no smoothing"}),
    "negative": ("torch", 0.1, {"sign"}),
    "mean_over_classes": ("torch", 0.1, {"mean over classes"}),
    "uniform_term_leaks": ("torch", 0.1, {"ignored rows leak", "dense targets"}),
    "ignored_in_mean": ("torch", 0.1, {"ignored rows count in the mean"}),
    "ignored_constant": ("torch", 0.1, {"ignored rows leak"}),
    "ignored_as_class_0": ("torch", 0.1, {"ignored rows leak"}),
    "weight_on_hard_term": ("torch", 0.1, {"ignored rows leak", "class weights"}),
    "weight_squared": ("torch", 0.1, {"class weights"}),
    "weight_of_nothing": ("torch", 0.1, {"class weights"}),
    "two_softmaxes": (None, None, {"softmax twice"}),
    "softmax_over_rows": (None, None, {"softmax over the rows", "rows depend on each other"}),
    "no_softmax": (None, None, {"no softmax"}),
    "hidden_temperature": ("torch", 0.1, {"temperature"}),
    "focal": (None, None, {"focal loss"}),
    "log_of_softmax": ("torch", 0.1, {"large logits", "impossible class", "float16 overflow"}),
    "log_with_offset": ("torch", 0.1, {"large logits", "float16 overflow"}),
    "log_with_large_offset": ("torch", 0.1, {"inexact", "large logits", "float16 overflow"}),
    "without_maximum": ("torch", 0.1, {"large logits", "float16 overflow"}),
    "hard_times_log": ("torch", 0.0, {"impossible class"}),
    "sum_in_half": ("torch", 0.1, {"half precision"}),
    "label_plus_1": ("torch", 0.1, {"shifted labels"}),
    "labels_from_1": ("torch", 0.1, {"shifted labels"}),
    "label_out_of_range": ("torch", 0.1, {"shifted labels"}),
    "next_token": ("torch", 0.1, {"shifted labels"}),
    "writes_logits": ("torch", 0.1, {"input changed"}),
    "writes_labels": ("torch", 0.1, {"input changed", "dense targets"}),
    "hardest_rows": (None, None, {"no cross-entropy", "rows depend on each other"}),
    "centred_over_batch": (None, None, {"no cross-entropy", "rows depend on each other"}),
    "dense_not_smoothed": ("torch", 0.1, {"dense targets"}),
    "dense_cut_to_index": ("torch", 0.1, {"dense targets"}),
    "eps_by_label": (None, None, {"unknown target"}),
    "fixed_number_of_classes": (None, None, {"unknown target"}),
    "logits_clamped": ("torch", 0.1, {"large logits"}),
    "divided_by_root": ("torch", 0.1, {"scale"}),
    "wrong_sign_of_gradient": ("torch", 0.1, {"gradient"}),
    "gradient_without_mean": ("torch", 0.1, {"gradient"}),
    "smooth_term_detached": ("torch", 0.1, {"gradient"}),
    "SmoothingInEval": ("torch", 0.0, {"no smoothing in training"}),
    "Counting": ("torch", 0.1, {"state changed"}),
    "sigmoid_mass_off": (None, 0.1, {"mass off"}),
    "sigmoid_only_positives": (None, 0.1, {"mass off"}),
    "sigmoid_with_clamp": ("half", 0.1, {"large logits", "float16 overflow"}),
}
# a note is enough, as the training stays what it is, or a convention is a matter of choice
NOTED = {
    "kl_batchmean": ("torch", 0.1, "constant"),
    "twice": ("torch", 0.19, "smoothed twice?"),
    "halved": ("torch", 0.1, "factor"),
    "in_bits": ("torch", 0.1, "factor"),
    "constant_added": ("torch", 0.1, "constant"),
    "padding_smoothed": ("torch", 0.1, "padding class"),
    "prior_by_class": (None, 0.1, "prior"),
    "sigmoid_sum_over_labels": ("half", 0.1, "sum over labels"),
}


def identified(name):
    loss = getattr(wrong, name)
    sizes = (3, 1000) if name in ("sum_in_half", "fixed_number_of_classes") else (2, 3, 10)
    return ls.identify(loss() if isinstance(loss, type) else loss, sizes)


def agrees(found, convention, eps):
    assert found.convention == convention
    assert found.eps == (None if eps is None else pytest.approx(eps, abs=1e-4))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name):
    convention, eps, faults = WRONG[name]
    found = identified(name)
    agrees(found, convention, eps)
    assert {departure.name for departure in found.faults} == faults
    assert not found.right


@pytest.mark.parametrize("name", NOTED)
def test_what_leaves_the_training_as_it_is_is_a_note(name):
    convention, eps, note = NOTED[name]
    found = identified(name)
    agrees(found, convention, eps)
    assert note in {departure.name for departure in found.departures}
    assert found.faults == ()


def test_an_eps_that_is_known_tells_more():
    assert [d.name for d in ls.identify(wrong.twice, eps=0.1).faults] == ["smoothed twice"]
    assert [d.name for d in ls.identify(wrong.binary_formula, eps=0.1).faults] == ["binary formula"]
    assert [d.name for d in ls.identify(partial(wrong.swapped, label_smoothing=0.2)).faults] == [
        "eps swapped"
    ]
    assert [d.name for d in ls.identify(torch.nn.CrossEntropyLoss(), eps=0.1).faults] == ["no smoothing"]


def test_the_evidence_can_be_followed_by_hand():
    (leak,) = (d for d in identified("ignored_as_class_0").faults if d.name == "ignored rows leak")
    logits = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    p, q = logits.softmax(-1)[0], torch.tensor([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    loss = float(-(q * p.log()).sum())
    gradient = ", ".join(f"{float(x):.5g}" for x in (p - q) / 2)  # a mean of two rows
    assert leak.input == "logits [[0, 0, 1], [0, 0, 1]], labels [0, -100]"
    assert leak.got == f"loss {loss:.6g}, gradient of the second row [{gradient}]"
    assert leak.expected == f"loss {loss:.6g}, as without the second row, and gradient [0, 0, 0]"
