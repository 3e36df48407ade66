"""Row statistics against their definitions in float64, their merge, and mixtures and smoothings under them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import labelsmooth as ls
from labelsmooth.backends import cpu, cpu_library
from labelsmooth.backends.select import select

VALUES = ("max", "argmax", "log_sum", "at_index", "at_prior", "prior_mass", "log_sum_sq", "mean_logit")


def everything(logits, index, prior, **options):
    return ls.row_stats(logits, index, prior, log_sum_sq=True, mean_logit=True, **options)


def test_definitions():
    z = torch.randn(4, 3, 9, dtype=torch.float64) * 5
    index = torch.randint(9, (4, 3, 2))
    prior = torch.rand(9, dtype=torch.float64)
    stats = everything(z, index, prior)
    p, m = z.softmax(-1), z.amax(-1)
    close = {"rtol": 1e-13, "atol": 1e-13}
    assert torch.equal(stats.max, m)
    assert torch.equal(stats.argmax, z.argmax(-1))
    torch.testing.assert_close(stats.lse, z.logsumexp(-1), **close)
    torch.testing.assert_close(stats.at_index, z.gather(-1, index) - m[..., None], **close)
    torch.testing.assert_close(stats.at_prior, (prior * (z - m[..., None])).sum(-1), **close)
    torch.testing.assert_close(stats.prior_mass, prior.sum(), **close)
    torch.testing.assert_close(stats.sum_sq, p.square().sum(-1), **close)
    torch.testing.assert_close(stats.confidence, p.amax(-1), **close)
    torch.testing.assert_close(stats.entropy, torch.distributions.Categorical(p).entropy(), **close)
    label = index[..., 0]
    torch.testing.assert_close(stats.nll, F.cross_entropy(z.movedim(-1, 1), label, reduction="none"), **close)
    torch.testing.assert_close(stats.brier, (p - F.one_hot(label, 9)).square().sum(-1), **close)
    assert torch.equal(stats.correct, z.argmax(-1) == label)
    uniform = ls.row_stats(z, prior="uniform")
    torch.testing.assert_close(uniform.at_prior, z.mean(-1) - m, **close)
    table, row = torch.rand(5, 9, dtype=torch.float64), torch.randint(5, (4, 3))
    rows = ls.row_stats(z, prior=table, prior_row=row)
    torch.testing.assert_close(rows.at_prior, (table[row] * (z - m[..., None])).sum(-1), **close)
    torch.testing.assert_close(rows.prior_mass, table.sum(-1)[row], **close)


def test_gradients_of_every_statistic_to_second_order():
    z = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    index, prior = torch.randint(6, (3, 2)), torch.rand(6, dtype=torch.float64)

    def values(z):
        stats = everything(z, index, prior)
        return tuple(getattr(stats, name) for name in VALUES if name not in ("argmax", "prior_mass"))

    assert gradcheck(values, (z,))
    assert gradgradcheck(values, (z,))


@given(
    seed=st.integers(0, 10**6),
    num_classes=st.integers(3, 30),
    cuts=st.tuples(st.integers(1, 29), st.integers(1, 29)),
    order=st.permutations([0, 1, 2]),
    right_first=st.booleans(),
    holes=st.booleans(),
    vector=st.booleans(),
    support=st.sampled_from(["all", "finite"]),
)
def test_any_split_of_the_columns_merges_to_the_whole(
    seed, num_classes, cuts, order, right_first, holes, vector, support
):
    generator = torch.Generator().manual_seed(seed)
    z = 10 * torch.randn(5, num_classes, dtype=torch.float64, generator=generator)
    if holes:
        z[torch.rand(z.shape, generator=generator) < 0.6] = -float("inf")
        z[0] = -float("inf")
    z[1] = 3.0  # ties everywhere
    z.requires_grad_()
    index = torch.randint(num_classes, (5, 2), generator=generator)
    pi = torch.rand(num_classes, dtype=torch.float64, generator=generator)
    first, second = sorted((1 + cuts[0] % (num_classes - 1), 1 + cuts[1] % (num_classes - 1)))
    bounds = [(0, first), (first, second), (second, num_classes)]
    blocks = [
        everything(
            z[:, lo:hi],
            index,
            pi[lo:hi] if vector else "uniform",
            num_classes=num_classes,
            first_class=lo,
            support=support,
        )
        for lo, hi in bounds
        if hi > lo
    ]
    blocks = [blocks[i] for i in order if i < len(blocks)]
    if len(blocks) == 3 and right_first:
        merged = blocks[0].merge(blocks[1].merge(blocks[2]))
    else:
        merged = blocks[0]
        for block in blocks[1:]:
            merged = merged.merge(block)
    whole = everything(z, index, pi if vector else "uniform", support=support)
    for name in VALUES:
        mine, expected = getattr(merged, name), getattr(whole, name)
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-11)
    # gradients of all of them, with different weights so that none can stand in for another
    for name in ("log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit"):
        upstream = torch.randn(getattr(whole, name).shape, dtype=torch.float64, generator=generator)
        grads = [
            torch.autograd.grad(getattr(stats, name), z, upstream, retain_graph=True)[0][1:]
            for stats in (merged, whole)
        ]
        torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-11)


def test_merged_blocks_are_the_loss_of_a_sharded_vocabulary():
    z = torch.randn(8, 12, dtype=torch.float64, requires_grad=True)
    target = torch.randint(12, (8,))
    blocks = [
        ls.row_stats(part, target[:, None], "uniform", num_classes=12, first_class=4 * i)
        for i, part in enumerate(z.split(4, -1))
    ]
    stats = blocks[0].merge(blocks[1]).merge(blocks[2])
    loss = (stats.log_sum - 0.9 * stats.at_index[:, 0] - 0.1 * stats.at_prior).mean()
    expected = F.cross_entropy(z, target, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(loss, z)[0], torch.autograd.grad(expected, z)[0], rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("ignored", [0, 3, 8])
def test_means_leave_out_the_rows_that_do_not_count(ignored):
    z = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randint(5, (8,))
    counted = torch.arange(8) >= ignored
    stats = everything(z, target[:, None], "uniform", counted=counted if ignored else None)
    assert stats.counted.dtype == torch.bool
    assert torch.equal(stats.counted, counted)
    kept, label = z[counted], target[counted]
    p = kept.softmax(-1)
    expected = {
        "nll": F.cross_entropy(kept, label),
        "correct": (kept.argmax(-1) == label).double().mean(),
        "brier": (p - F.one_hot(label, 5)).square().sum(-1).mean(),
        "entropy": torch.special.entr(p).sum(-1).mean(),
        "confidence": p.max(-1).values.mean() if len(kept) else kept.sum(-1).mean(),
        "lse": kept.logsumexp(-1).mean(),
    }
    for name, value in expected.items():
        mean = stats.mean(name)
        torch.testing.assert_close(mean, value, rtol=1e-12, atol=1e-12, equal_nan=True)
        if name != "correct" and len(kept):
            ours, theirs = (torch.autograd.grad(v, z, retain_graph=True)[0] for v in (mean, value))
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stats.accuracy, expected["correct"], equal_nan=True)
    assert len(repr(stats)) < 200


def test_rows_of_minus_infinity_are_neutral():
    z = torch.tensor([[-torch.inf, -torch.inf]])
    stats = ls.row_stats(z, prior=torch.tensor([0.0, 0.0]))
    assert (stats.max, stats.log_sum, stats.at_prior) == (-torch.inf, -torch.inf, 0)


def test_the_backend_is_chosen_aloud(monkeypatch):
    device = torch.device("cpu")
    monkeypatch.setattr(cpu_library, "MISSING", None)
    assert select("reference", device) == ("reference", "asked for")
    assert select("auto", device) == ("cpu", f"C++ kernels, {cpu.INSTRUCTION_SET}")
    assert select("auto", device, "it rains") == ("reference", "cpu cannot serve: it rains")
    assert select("auto", torch.device("meta"))[0] == "reference"
    with pytest.raises(
        ValueError, match="'gpu' cannot serve this call: it serves CUDA and HIP devices, not cpu"
    ):
        select("gpu", device)
    z = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="'cpu' cannot serve this call: it is inside a torch.func transform"):
        torch.func.vmap(lambda row: ls.row_stats(row, backend="cpu").lse)(z)
    with pytest.raises(ValueError, match="the prior needs a gradient"):
        ls.row_stats(z, prior=torch.ones(3, requires_grad=True), backend="cpu")
    monkeypatch.setattr(cpu_library, "MISSING", "the package was installed where there was no C++ compiler")
    chosen, reason = select("auto", device)
    assert chosen == "reference"
    assert "no C++ compiler" in reason
    assert ls.row_stats(z).lse.shape == (2,)


def test_a_call_that_the_reference_serves_says_why(caplog):
    z, prior = torch.zeros(2, 3), torch.full((3,), 1 / 3, requires_grad=True)
    y = torch.tensor([0, 1])
    with caplog.at_level("DEBUG", logger="labelsmooth"):
        ls.cross_entropy(z, y, label_smoothing=ls.prior(0.1, prior))
        missing = cpu.unavailable(z.device)
        assert (
            f"the reference serves this call: cpu cannot serve: {missing or 'the prior needs a gradient'}"
            in (caplog.text)
        )
        caplog.clear()
        eps = torch.tensor(0.1, requires_grad=True)
        ls.linear_cross_entropy(z, torch.zeros(3, 3), y, label_smoothing=ls.uniform(eps))
        assert "full logits: more than the layer needs a gradient" in caplog.text
        caplog.clear()
        if cpu.INSTRUCTION_SET is not None:
            ls.cross_entropy(z, y, label_smoothing=0.1)
            assert not caplog.records


def test_reasons_and_errors():
    z = torch.zeros(2, 3)
    for call, says in (
        (lambda: ls.row_stats(z, torch.tensor([0, 1])), "index must have shape"),
        (lambda: ls.row_stats(z, torch.tensor([[0], [3]])), "index must lie in 0..2, got 3"),
        (lambda: ls.row_stats(z, prior=torch.ones(4)), "prior must be"),
        (lambda: ls.row_stats(z, prior=torch.ones(2, 3)), "prior_row goes with"),
        (lambda: ls.row_stats(z, prior="unigram"), "got 'unigram'"),
        (lambda: ls.row_stats(z, first_class=1), "must start at 0..0, got 1"),
        (lambda: ls.row_stats(z, num_classes=2), "at most num_classes = 2 columns, got 3"),
        (lambda: ls.row_stats(z, prior="uniform", prior_row=torch.tensor([0, 0])), "prior_row goes with"),
        (lambda: ls.row_stats(z, prior=torch.ones(2, 3), prior_row=torch.tensor([0, 2])), "0..1, got 2"),
        (lambda: ls.row_stats(z, counted=torch.ones(2)), "counted must be bool"),
        (lambda: ls.row_stats(z).merge(ls.row_stats(z, prior="uniform")), "has at_prior"),
        (lambda: ls.row_stats(z).merge(ls.row_stats(z[:1])), "same rows"),
        (
            lambda: ls.row_stats(z, z[:, :1].long()).merge(ls.row_stats(z, z[:, :1].long())),
            "only blocks of columns merge",
        ),
        (lambda: ls.row_stats(z).nll, "no label"),
        (lambda: ls.row_stats(z).entropy, "mean_logit=True"),
        (lambda: ls.row_stats(z).accuracy, "no label"),
        (lambda: ls.row_stats(z).mean("at_prior"), "made without at_prior"),
        (lambda: ls.row_stats(z).mean("loss"), "got 'loss'"),
        (lambda: ls.row_stats(z).sum_sq, "log_sum_sq=True"),
    ):
        with pytest.raises(ValueError, match=says.replace("(", r"\(")):
            call()
    with pytest.raises(TypeError, match="got torch.int64"):
        ls.row_stats(z.long())
