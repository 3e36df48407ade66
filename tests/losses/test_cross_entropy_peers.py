"""Losses and gradients that the implementations of the conventions really returned (fixtures/peer_losses.json)."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import labelsmooth as ls

FIXTURE = json.loads((Path(__file__).parents[1] / "fixtures" / "peer_losses.json").read_text())
CASES = {case["name"]: case for case in FIXTURE["cases"]}


def numbers(nested) -> Tensor:
    """Nested lists as float64; the fixture writes nan and −inf as strings."""
    if isinstance(nested, list):
        return torch.stack([numbers(item) for item in nested])
    return torch.tensor(float(nested), dtype=torch.float64)


def logits_of(case) -> Tensor:
    """The logits with the class axis where `cross_entropy` has it."""
    logits = numbers(case["logits"])
    if case["class_axis"] == -1:
        logits = logits.movedim(-1, min(1, logits.dim() - 1))
    return logits.contiguous().requires_grad_()


def targets_of(case) -> Tensor:
    return torch.tensor(case["targets"]) if case["target_kind"] == "index" else numbers(case["targets"])


def assert_matches(case, logits: Tensor, loss: Tensor) -> None:
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    if case["class_axis"] == -1:
        grad = grad.movedim(min(1, grad.dim() - 1), -1)
    rtol, atol = case["tolerance"]["rtol"], case["tolerance"]["atol"]
    torch.testing.assert_close(loss.detach(), numbers(case["expected_loss"]), rtol=rtol, atol=atol)
    torch.testing.assert_close(grad, numbers(case["expected_grad"]), rtol=rtol, atol=atol)


def negative_entropy(case) -> Tensor:
    """Σ q log q of each row, which KL forms add; rows that do not count have no q."""
    q = numbers(case["canonical"]["q"])
    return torch.special.xlogy(q, q).sum(-1)


def weight(case) -> Tensor:
    return numbers(case["args"]["weight"])


def torch_like(**extra):
    """The case through the torch convention with the case's own reduction and arguments."""

    def loss(case, z, y):
        args = {key: value for key, value in case["args"].items() if key == "ignore_index"}
        if "weight" in case["args"]:
            args["weight"] = weight(case)
        name = case["name"].split("/")[0]
        eps = ls.convention(extra.get("convention", name), case["eps"])
        return ls.cross_entropy(
            z, y, reduction=extra.get("reduction", case["reduction"]), label_smoothing=eps, **args
        )

    return loss


def fairseq_mask(case, z, y):
    mask = numbers(case["args"]["mask"])
    return ls.cross_entropy(z, y, label_smoothing=ls.convention("torch", case["eps"]), row_weight=mask)


def kl_over_pad(name, pad):
    def loss(case, z, y):
        smoothing = ls.convention(name, case["eps"], pad=case["args"][pad])
        ignore = case["args"][pad]
        return (
            ls.cross_entropy(z, y, label_smoothing=smoothing, ignore_index=ignore, reduction="sum")
            + negative_entropy(case).sum()
        )

    return loss


def espnet(case, z, y):
    batch, kept = y.shape[0], int((y != -1).sum())
    over = kept if case["args"]["normalize_length"] else batch
    smoothing = ls.convention("espnet", case["eps"])
    loss = ls.cross_entropy(z, y, label_smoothing=smoothing, ignore_index=-1, denominator=over)
    return loss + negative_entropy(case).sum() / over


def tensor2tensor_constant(case) -> float:
    """What t2t and t5x subtract from every row."""
    on, others = 1 - case["eps"], case["K"] - 1
    off = case["eps"] / others
    return -(on * math.log(on) + others * off * math.log(off + 1e-20))


def t5x(case, z, y):
    row_weight = numbers(case["args"]["weights"])
    loss = ls.cross_entropy(
        z,
        y,
        label_smoothing=ls.convention("t5x", case["eps"]),
        row_weight=row_weight,
        z_loss=case["args"]["z_loss"],
        reduction="sum",
    )
    return loss - tensor2tensor_constant(case) * row_weight.sum()


def t2t(case, z, y):
    loss = ls.cross_entropy(
        z, y, label_smoothing=ls.convention("tensor2tensor", case["eps"]), reduction="none"
    )
    return loss - tensor2tensor_constant(case)


def fastai_weighted(case, z, y):
    # its class weights reach the hard term only; the smoothing term is a plain mean
    eps = case["eps"]
    hard = ls.cross_entropy(z, y, weight=weight(case))
    smooth = ls.cross_entropy(z, ls.Mixture(prior_weight=1.0))
    return (1 - eps) * hard + eps * smooth


def dense_as_given(case, z, y):
    return ls.cross_entropy(z, y, reduction="mean")


def paddle_prior(case, z, y):
    return ls.cross_entropy(z, y, label_smoothing=ls.prior(case["eps"], numbers(case["args"]["prior_dist"])))


BY_CONVENTION = {
    "torch/index/mean": torch_like(),
    "torch/index/sum": torch_like(),
    "torch/index/none": torch_like(),
    "torch/index/mean/ignore-100": torch_like(),
    "torch/index/none/ignore-100": torch_like(),
    "torch/index/mean/ignore-valid-class": torch_like(),
    "torch/index/mean/weight": torch_like(),
    "torch/index/sum/weight": torch_like(),
    "torch/probs/mean": torch_like(),
    "torch/probs/none/eps0": torch_like(),
    "torch/probs/mean/weight": torch_like(),
    "torch/index/mean/NCHW/ignore255": torch_like(),
    "torch/index/mean/eps0+weight": torch_like(),
    "timm/LabelSmoothingCrossEntropy": torch_like(),
    "timm/SoftTargetCrossEntropy/unnormalised": dense_as_given,
    "fastai/mean": torch_like(),
    "fastai/none": torch_like(),
    "fastai/mean/weight": fastai_weighted,
    "fairseq/label_smoothed_nll_loss/reduce": torch_like(),
    "fairseq/nat_loss/index+mask": fairseq_mask,
    "opennmt-py2/LabelSmoothingLoss": kl_over_pad("opennmt", "ignore_index"),
    "annotated-transformer/LabelSmoothing": kl_over_pad("annotated_transformer", "padding_idx"),
    "espnet/LabelSmoothingLoss/normalize_length=False": espnet,
    "espnet/LabelSmoothingLoss/eps0": espnet,
    "megatron/vocab_parallel_cross_entropy/TP1": torch_like(),
    "hf/LabelSmoother": torch_like(reduction="mean"),
    "coincheung/V1/mean": torch_like(reduction="mean"),
    "mmpretrain/original": torch_like(convention="torch"),
    "mmpretrain/classy_vision": torch_like(convention="classy_vision"),
    "optax/smooth_labels+softmax_cross_entropy": torch_like(),
    "t5x/compute_weighted_cross_entropy/sum": t5x,
    "keras/CategoricalCrossentropy/logits": torch_like(reduction="mean"),
    "tf/losses.softmax_cross_entropy": torch_like(convention="tensorflow", reduction="mean"),
    "t2t/smoothing_cross_entropy": t2t,
    "paddle/label_smooth+cross_entropy": torch_like(),
    "paddle/label_smooth/prior_dist": paddle_prior,
    "paddle/cross_entropy/label_smoothing": torch_like(),
    "liger/mean/ignore": torch_like(),
}

# What the peer does here is a defect or a choice that we depart from; a test below says which and why.
DEPARTURES = {
    "torch/index/mean/eps-negative",
    "torch/index/mean/K1",
    "torch/index/mean/all-ignored",
    "torch/index/mean/zero-weight-targets",
    "fastai/mean/ignored-rows-leak",
    "optax/softmax_cross_entropy/neg-inf",
    "paddle/cross_entropy/label_smoothing+ignore_index=1",
}


def test_every_case_is_covered_once():
    assert set(BY_CONVENTION) | DEPARTURES == set(CASES)
    assert not set(BY_CONVENTION) & DEPARTURES


@pytest.mark.parametrize("name", BY_CONVENTION)
def test_by_the_name_of_the_convention(name):
    case = CASES[name]
    logits, target = logits_of(case), targets_of(case)
    if case["target_kind"] == "probs" and case["class_axis"] == -1:
        target = target.movedim(-1, 1)
    assert_matches(case, logits, BY_CONVENTION[name](case, logits, target))


@pytest.mark.parametrize(
    "name", [name for name in CASES if "canonical" in CASES[name] and CASES[name]["K"] > 1]
)
def test_by_its_dense_target(name):
    """Also the quirks: whatever a peer's target was, the dense target gives its loss."""
    case = CASES[name]
    logits = logits_of(case)
    canonical = case["canonical"]
    q, scale = numbers(canonical["q"]), numbers(canonical["scale"])
    rows = logits.movedim(min(1, logits.dim() - 1), -1).reshape(-1, case["K"])
    loss = ls.cross_entropy(rows, q, reduction="none", row_weight=scale, z_loss=canonical.get("zcoef", 0.0))
    if "const" in canonical:
        loss = loss + numbers(canonical["const"])
    expected = numbers(case["expected_loss"])
    assert_matches(case, logits, loss.sum() if expected.dim() == 0 else loss.reshape(expected.shape))


def test_torch_takes_a_negative_eps_for_zero_and_we_refuse_it():
    case = CASES["torch/index/mean/eps-negative"]
    logits, target = logits_of(case), targets_of(case)
    with pytest.raises(ValueError, match=r"eps must be in \[0, 1\], got -0.1"):
        ls.cross_entropy(logits, target, label_smoothing=case["eps"])
    assert_matches(case, logits, ls.cross_entropy(logits, target))
    # what a negative ε means: beyond the one-hot label
    signed = ls.cross_entropy(logits, target, label_smoothing=ls.uniform(case["eps"], signed=True))
    uniform = -logits.log_softmax(-1).mean()
    assert torch.allclose(signed, 1.1 * ls.cross_entropy(logits, target) - 0.1 * uniform, rtol=1e-12)


def test_one_class_is_refused_where_torch_gives_zero():
    case = CASES["torch/index/mean/K1"]
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        ls.cross_entropy(logits_of(case), targets_of(case), label_smoothing=case["eps"])


@pytest.mark.parametrize("name", ["torch/index/mean/all-ignored", "torch/index/mean/zero-weight-targets"])
def test_zero_where_torch_divides_by_zero(name):
    """A micro-batch without a row that counts must not poison the step with NaN."""
    case = CASES[name]
    logits = logits_of(case)
    args = {"weight": weight(case)} if "weight" in case["args"] else {}
    loss = ls.cross_entropy(logits, targets_of(case), label_smoothing=case["eps"], **args)
    (grad,) = torch.autograd.grad(loss, logits)
    assert case["expected_loss"] == "nan"
    assert loss.item() == 0
    assert torch.equal(grad, torch.zeros_like(grad))


def test_ignored_rows_do_not_leak_as_in_fastai():
    """fastai keeps the uniform term of rows it was told to ignore."""
    case = CASES["fastai/mean/ignored-rows-leak"]
    logits, target = logits_of(case), targets_of(case)
    loss = ls.cross_entropy(logits, target, label_smoothing=case["eps"])
    kept = target != -100
    expected = torch.nn.functional.cross_entropy(logits[kept], target[kept], label_smoothing=case["eps"])
    (grad,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert torch.allclose(loss, expected, rtol=1e-12)
    assert torch.equal(grad[~kept], torch.zeros_like(grad[~kept]))
    assert abs(loss.item() - case["expected_loss"]) > 1e-3


def test_zero_times_minus_infinity_is_zero_where_optax_has_nan():
    case = CASES["optax/softmax_cross_entropy/neg-inf"]
    logits, target = logits_of(case), targets_of(case)
    loss = ls.cross_entropy(logits, target, reduction="none")
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    expected = numbers(case["expected_loss"])
    expected[0] = math.log(1 + math.exp(logits[0, 0].item() - logits[0, 1].item()))
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, logits.detach().softmax(-1) - target, rtol=1e-12, atol=1e-12)


def test_ignore_index_works_with_smoothing_where_paddle_loses_it():
    """paddle compares ignore_index with smoothed probabilities, drops no row and divides by N·K."""
    case = CASES["paddle/cross_entropy/label_smoothing+ignore_index=1"]
    logits, target = logits_of(case), targets_of(case)
    loss = ls.cross_entropy(
        logits, target, ignore_index=1, label_smoothing=ls.convention("paddle", case["eps"])
    )
    kept = target != 1
    expected = torch.nn.functional.cross_entropy(logits[kept], target[kept], label_smoothing=case["eps"])
    assert torch.allclose(loss, expected, rtol=1e-12)
    assert abs(loss.item() - case["expected_loss"]) > 1
