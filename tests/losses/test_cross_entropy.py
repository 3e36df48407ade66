"""cross_entropy and its kin against torch in float64, against the dense definition, and under torch's transforms."""

import copy
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

import labelsmooth as ls
from labelsmooth.backends import cpu

SMOOTHINGS = {
    "hard": lambda K: ls.uniform(0.0),
    "uniform": lambda K: ls.uniform(0.1),
    "one": lambda K: ls.uniform(1.0),
    "signed": lambda K: ls.uniform(-0.4, signed=True),
    "others": lambda K: ls.others(0.3),
    "prior": lambda K: ls.prior(0.2, ls.unigram(torch.arange(K))),  # with a zero in it
    "class_conditional": lambda K: ls.class_conditional(
        0.2, torch.rand(K, K, dtype=torch.float64).softmax(-1)
    ),
    "coincheung": lambda K: ls.convention("coincheung", 0.1),
    "leaky": lambda K: ls.convention("leaky", 0.1),
    "classy_vision": lambda K: ls.convention("classy_vision", 0.1),
    "excluded": lambda K: ls.uniform(0.1).exclude([1]),
    "pad": lambda K: ls.convention("opennmt", 0.1, pad=0),
    "prior excluded": lambda K: ls.prior(0.2, ls.unigram(torch.arange(1, K + 1))).exclude([0]),
}


def problem(rows, num_classes, seed=0, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*rows, num_classes, dtype=dtype, generator=generator)
    return logits.requires_grad_(), torch.randint(num_classes, rows, generator=generator)


def definition(logits, q, class_weight=None):
    """Σ_k c_k·q_k·(−log p_k) of each row, written out."""
    losses = -q * logits.log_softmax(-1)
    return (losses if class_weight is None else losses * class_weight).sum(-1)


def assert_same(ours: Tensor, theirs: Tensor, logits: Tensor, tol: float = 1e-12) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tol, atol=tol)
    (a,) = torch.autograd.grad(ours.sum(), logits, retain_graph=True)
    (b,) = torch.autograd.grad(theirs.sum(), logits, retain_graph=True)
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


@given(
    seed=st.integers(0, 10**6),
    num_classes=st.integers(2, 40),
    extra=st.lists(st.integers(1, 4), max_size=3),
    batch=st.integers(1, 6),
    eps=st.sampled_from([0.0, 0.1, 0.37, 1.0]),
    reduction=st.sampled_from(["none", "sum", "mean"]),
    weighted=st.booleans(),
    dense=st.booleans(),
    ignore_index=st.sampled_from([-100, 1, 255]),
)
def test_equals_torch(seed, num_classes, extra, batch, eps, reduction, weighted, dense, ignore_index):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(batch, num_classes, *extra, dtype=torch.float64, generator=generator)
    logits.requires_grad_()
    weight = torch.rand(num_classes, dtype=torch.float64, generator=generator) + 0.1 if weighted else None
    if dense:
        target = torch.rand(logits.shape, dtype=torch.float64, generator=generator)
    else:
        target = torch.randint(num_classes, (batch, *extra), generator=generator)
        if ignore_index != 1:
            target[torch.rand(target.shape, generator=generator) < 0.3] = ignore_index
        if bool((target == ignore_index).all()):
            target.view(-1)[0] = 0  # torch has NaN for no row at all
    args = {} if dense else {"ignore_index": ignore_index}
    args |= {"weight": weight, "reduction": reduction, "label_smoothing": eps}
    assert_same(ls.cross_entropy(logits, target, **args), F.cross_entropy(logits, target, **args), logits)
    module = ls.CrossEntropyLoss(**args)
    assert torch.equal(module(logits, target), ls.cross_entropy(logits, target, **args))


def test_a_single_row_without_a_batch_equals_torch():
    logits, target = problem((), 5)
    assert_same(
        ls.cross_entropy(logits, target, label_smoothing=0.1),
        F.cross_entropy(logits, target, label_smoothing=0.1),
        logits,
    )
    dense = torch.rand(5, dtype=torch.float64)
    assert_same(
        ls.cross_entropy(logits, dense, label_smoothing=0.1),
        F.cross_entropy(logits, dense, label_smoothing=0.1),
        logits,
    )


@pytest.mark.parametrize("name", SMOOTHINGS)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_smoothing_equals_the_dense_definition(name, weighted):
    logits, target = problem((40,), 7)
    smoothing = SMOOTHINGS[name](7)
    weight = torch.linspace(0.2, 2, 7, dtype=torch.float64) if weighted else None
    q = smoothing(target, 7).dense(7, torch.float64)
    ours = ls.cross_entropy(logits, target, weight, reduction="none", label_smoothing=smoothing)
    assert_same(ours, definition(logits, q, weight), logits)
    # one-hot rows are the same labels
    one_hot = ls.cross_entropy(
        logits, F.one_hot(target, 7).double(), weight, reduction="none", label_smoothing=smoothing
    )
    assert_same(one_hot, definition(logits, q, weight), logits)


def test_class_indices_out_of_order_and_layouts():
    logits, target = problem((3, 4, 5), 6)
    images = logits.movedim(-1, 1)  # a view, not contiguous
    smoothing = ls.others(0.2)
    ours = ls.cross_entropy(images, target, reduction="none", label_smoothing=smoothing)
    assert_same(ours, definition(logits, smoothing(target, 6).dense(6, torch.float64)), logits)


def test_per_row_eps_row_weights_and_mixtures():
    logits, target = problem((30,), 5)
    eps = torch.rand(30, dtype=torch.float64)
    eps[0], eps[1] = 0, 1
    row_weight = torch.rand(30, dtype=torch.float64)
    q = torch.stack([(1 - e) * F.one_hot(t, 5) + e / 5 for e, t in zip(eps, target, strict=True)])
    for smoothing, factor in ((ls.uniform(eps), 1.0), (ls.others(eps * 0.8), 1.0)):
        ours = ls.cross_entropy(
            logits, target, reduction="none", label_smoothing=smoothing, row_weight=row_weight
        )
        assert_same(ours, factor * row_weight * definition(logits, q), logits)


def test_the_gradient_reaches_a_learned_eps_and_learned_targets():
    logits, target = problem((6,), 4)
    eps = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    loss = ls.cross_entropy(logits, target, label_smoothing=ls.uniform(eps), reduction="sum")
    (grad,) = torch.autograd.grad(loss, eps)
    log_p = logits.log_softmax(-1)
    expected = (log_p[range(6), target] - log_p.mean(-1)).sum()
    torch.testing.assert_close(grad, expected.detach(), rtol=1e-12, atol=1e-12)
    dense = torch.rand(6, 4, dtype=torch.float64, requires_grad=True)
    ours, theirs = (f(logits, dense, label_smoothing=0.1) for f in (ls.cross_entropy, F.cross_entropy))
    assert_same(ours, theirs, dense)


def test_mixup_is_the_mean_of_the_two_losses():
    logits, target = problem((20,), 6)
    partner = target.flip(0)
    lam = torch.rand(20, dtype=torch.float64)
    for smoothing, K in (
        (0.1, None),
        (ls.others(0.2), 6),
        (ls.prior(0.3, ls.unigram(torch.arange(6))), None),
    ):
        mixture = ls.mixup(target, partner, lam, smoothing, K)
        ours = ls.cross_entropy(logits, mixture, reduction="none")
        a, b = (
            ls.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)
            for y in (target, partner)
        )
        assert_same(ours, lam * a + (1 - lam) * b, logits)
    assert_same(
        ls.cross_entropy(logits, ls.mixup(target, partner, 0.3)),
        0.3 * F.cross_entropy(logits, target) + 0.7 * F.cross_entropy(logits, partner),
        logits,
    )


def test_mixture_over_a_shared_target_broadcasts():
    logits, _ = problem((4, 3), 5)
    uniform = ls.Mixture(prior_weight=1.0)
    ours = ls.cross_entropy(logits.movedim(-1, 1), uniform, reduction="none")
    assert_same(ours, -logits.log_softmax(-1).mean(-1), logits)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_z_loss(reduction):
    logits, target = problem((9,), 5)
    target[2] = -100
    ours = ls.cross_entropy(logits, target, reduction=reduction, label_smoothing=0.1, z_loss=0.01)
    rows = F.cross_entropy(logits, target, reduction="none", label_smoothing=0.1)
    rows = rows + 0.01 * logits.logsumexp(-1) ** 2 * (target != -100)
    theirs = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / 8}[reduction]
    assert_same(ours, theirs, logits)


def test_denominators():
    logits, target = problem((10,), 5)
    target[:3] = -100
    row_weight = torch.ones(10)
    row_weight[3] = 0
    total = ls.cross_entropy(logits, target, reduction="sum", row_weight=row_weight)
    weight = torch.linspace(1, 2, 5, dtype=torch.float64)
    for denominator, expected in (
        (None, 6),
        ("valid", 6),
        ("rows", 10),
        (17, 17),
        (2.5, 2.5),
        (torch.tensor(17), 17),
    ):
        mean = ls.cross_entropy(logits, target, row_weight=row_weight, denominator=denominator)
        torch.testing.assert_close(mean, total / expected, rtol=1e-12, atol=0)
    weighted = ls.cross_entropy(logits, target, weight, reduction="sum", row_weight=row_weight)
    mean = ls.cross_entropy(logits, target, weight, row_weight=row_weight)
    torch.testing.assert_close(mean, weighted / weight[target[4:]].sum(), rtol=1e-12, atol=0)
    dense = torch.rand(10, 5, dtype=torch.float64)
    mean = ls.cross_entropy(logits, dense, weight, row_weight=row_weight)
    total = ls.cross_entropy(logits, dense, weight, reduction="sum", row_weight=row_weight)
    torch.testing.assert_close(mean, total / 9, rtol=1e-12, atol=0)


def test_accumulated_micro_batches_equal_the_whole_batch():
    logits, target = problem((12,), 5)
    target[[0, 1, 2, 7]] = -100
    tokens = (target != -100).sum()
    parts = [
        ls.cross_entropy(z, y, label_smoothing=0.1, denominator=tokens)
        for z, y in zip(logits.split(3), target.split(3), strict=True)
    ]
    assert_same(sum(parts), F.cross_entropy(logits, target, label_smoothing=0.1), logits)


@pytest.mark.parametrize("name", SMOOTHINGS)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradcheck(name, reduction):
    logits, target = problem((5,), 4)
    target[1] = -100
    smoothing = SMOOTHINGS[name](4)

    def loss(z):
        return ls.cross_entropy(
            z, target, reduction=reduction, label_smoothing=smoothing, z_loss=0.01, ignore_index=-100
        )

    assert gradcheck(loss, (logits,))
    assert gradgradcheck(loss, (logits,))


@given(seed=st.integers(0, 10**6), name=st.sampled_from(sorted(SMOOTHINGS)), num_classes=st.integers(3, 20))
def test_gradient_is_M_p_minus_q(seed, name, num_classes):
    """So its row sums are zero, whatever the mass M."""
    logits, target = problem((4,), num_classes, seed)
    smoothing = SMOOTHINGS[name](num_classes)
    q = smoothing(target, num_classes).dense(num_classes, torch.float64)
    loss = ls.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
    (grad,) = torch.autograd.grad(loss, logits)
    expected = q.sum(-1, keepdim=True) * logits.detach().softmax(-1) - q
    torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad.sum(-1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("offset", [1e4, -1e4, 2.0**24])
def test_nothing_is_lost_under_an_offset(offset):
    """float32 logits far from zero give what float64 makes of the very same numbers."""
    logits, target = problem((64,), 50, dtype=torch.float32)
    shifted = (logits.detach() + offset).requires_grad_()
    exact = shifted.detach().double().requires_grad_()
    for smoothing in (0.1, ls.others(0.1), ls.prior(0.1, ls.unigram(torch.arange(1, 51)))):
        ours = ls.cross_entropy(shifted, target, reduction="none", label_smoothing=smoothing)
        theirs = ls.cross_entropy(exact, target, reduction="none", label_smoothing=smoothing)
        q = ls.smoothing.as_smoothing(smoothing)(target, 50).dense(50, torch.float64)
        torch.testing.assert_close(theirs, definition(exact, q), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=2e-6)
        (grad,) = torch.autograd.grad(ours.sum(), shifted)
        (exact_grad,) = torch.autograd.grad(theirs.sum(), exact)
        torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_logits_give_the_float32_loss(dtype):
    logits, target = problem((256,), 1000)
    logits = logits.detach().to(dtype).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    ours = ls.cross_entropy(logits, target, label_smoothing=0.1)
    theirs = F.cross_entropy(exact, target, label_smoothing=0.1)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=0)
    (grad,) = torch.autograd.grad(ours, logits)
    (exact_grad,) = torch.autograd.grad(theirs, exact)
    assert grad.dtype == dtype
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(
        grad.double(), exact_grad, rtol=2 * rounding, atol=torch.finfo(dtype).smallest_normal + 1e-9
    )


def test_minus_infinity():
    inf = float("inf")
    z = torch.tensor([[1.0, -inf, 2.0], [0.5, -inf, -inf], [-inf, 0.0, 1.0]], dtype=torch.float64)
    z.requires_grad_()
    target = torch.tensor([2, 0, 1])
    hard = ls.cross_entropy(z, target, reduction="none")
    assert_same(hard, F.cross_entropy(z, target, reduction="none"), z)
    assert hard[1] == 0  # one class left
    # an impossible class with a share of the target: infinite, as the mathematics says
    everywhere = ls.cross_entropy(z, target, reduction="none", label_smoothing=0.1)
    assert everywhere.tolist() == [inf, inf, inf]
    (grad,) = torch.autograd.grad(everywhere.sum(), z)
    q = ls.uniform(0.1)(target, 3).dense(3, torch.float64)
    torch.testing.assert_close(grad, z.detach().softmax(-1) - q, rtol=1e-12, atol=1e-12)
    # a prior with no mass there: finite
    prior = ls.prior(0.1, torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64))
    row = ls.cross_entropy(z[:1], target[:1], label_smoothing=prior)
    torch.testing.assert_close(row, 0.95 * hard[0] + 0.05 * (hard[0] + 1), rtol=1e-12, atol=0)
    # ε = 0 in a tensor is no smoothing either, in its own gradient too
    eps = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rows = ls.cross_entropy(z, target, reduction="none", label_smoothing=ls.uniform(eps))
    assert_same(rows, F.cross_entropy(z, target, reduction="none"), z)


def test_finite_support_smooths_over_the_classes_that_are_possible():
    inf = float("inf")
    z = torch.tensor(
        [[1.0, -inf, 2.0, 0.0], [0.5, -inf, -inf, -inf]], dtype=torch.float64, requires_grad=True
    )
    target = torch.tensor([2, 0])
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    keep = [0, 2, 3]
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    for smoothing, pi in (
        (ls.uniform(0.1), torch.full((3,), 1 / 3, dtype=torch.float64)),
        (ls.prior(0.1, p), p[keep] / p[keep].sum()),
        (ls.class_conditional(0.1, p.expand(4, 4)), p[keep] / p[keep].sum()),
    ):
        for c in (None, weight):
            loss = ls.cross_entropy(
                z, target, c, reduction="none", label_smoothing=smoothing, support="finite"
            )
            q = 0.1 * pi + 0.9 * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
            expected = definition(z[0, keep], q, None if c is None else c[keep])
            torch.testing.assert_close(loss[0], expected, rtol=1e-12, atol=0)
            assert loss[1] == 0
            (grad,) = torch.autograd.grad(loss.sum(), z, retain_graph=True)
            (wanted,) = torch.autograd.grad(expected, z)
            torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=1e-12)
    with_all = ls.cross_entropy(torch.randn(2, 4), target, label_smoothing=0.1, support="finite")
    assert with_all.isfinite()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_no_row_counts(reduction):
    for rows, ignored in ((0, False), (3, True)):
        logits, target = problem((rows,), 4)
        if ignored:
            target[:] = -100
        loss = ls.cross_entropy(logits, target, reduction=reduction, label_smoothing=0.1, z_loss=0.1)
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        assert torch.equal(loss, torch.zeros_like(loss))
        assert torch.equal(grad, torch.zeros_like(logits))
    logits, _ = problem((3,), 4)
    dense = ls.cross_entropy(logits, torch.rand(3, 4), row_weight=torch.zeros(3))
    assert dense == 0


def test_rows_that_do_not_count_leak_nothing():
    logits, target = problem((4,), 5)
    with torch.no_grad():
        logits[1] = float("nan")
        logits[2] = -float("inf")
    target[1:3] = -100
    kept = torch.tensor([0, 3])
    loss = ls.cross_entropy(logits, target, label_smoothing=0.1)
    (grad,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, F.cross_entropy(logits[kept], target[kept], label_smoothing=0.1))
    assert torch.equal(grad[1:3], torch.zeros(2, 5, dtype=torch.float64))


def test_return_stats_are_the_batch_as_it_is():
    logits, target = problem((50,), 6)
    target[5] = -100
    loss, stats = ls.cross_entropy(logits, target, label_smoothing=0.1, return_stats=True)
    plain = ls.cross_entropy(logits, target, label_smoothing=0.1)
    torch.testing.assert_close(loss, plain, rtol=1e-14, atol=0)
    p, kept = logits.detach().softmax(-1), target != -100
    assert torch.equal(stats.correct, (logits.argmax(-1) == target) & kept)
    torch.testing.assert_close(stats.nll, F.cross_entropy(logits.detach(), target, reduction="none"))
    torch.testing.assert_close(stats.confidence[kept], p.amax(-1)[kept])
    brier = (p - F.one_hot(target.clamp(min=0), 6)).square().sum(-1) * kept
    torch.testing.assert_close(stats.brier, brier)
    torch.testing.assert_close(stats.entropy[kept], torch.special.entr(p).sum(-1)[kept])
    assert not stats.nll.requires_grad
    dense_loss, dense = ls.cross_entropy(logits, p, return_stats=True)
    assert dense_loss.isfinite()
    with pytest.raises(ValueError, match="no label"):
        _ = dense.nll


def test_label_dropout_has_the_smoothed_target_for_its_mean():
    logits, target = problem((5,), 4)
    generator = torch.Generator().manual_seed(7)
    draws, p = 40_000, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for prior, smoothing in ((None, ls.uniform(0.3)), (p, ls.prior(0.3, p))):
        sampled = ls.label_dropout(target.expand(draws, 5), 4, 0.3, prior, generator)
        seen = F.one_hot(sampled, 4).double().mean(0)
        q = smoothing(target, 4).dense(4, torch.float64)
        assert (seen - q).abs().max() < 5 * (0.25 / draws) ** 0.5  # five standard errors
        losses = ls.cross_entropy(
            logits.expand(draws, 5, 4).reshape(-1, 4), sampled.reshape(-1), reduction="none"
        )
        mean = losses.reshape(draws, 5).mean(0)
        error = losses.reshape(draws, 5).std(0) / draws**0.5
        exact = ls.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        assert ((mean - exact).abs() < 5 * error).all()
    kept = ls.label_dropout(torch.tensor([-100, 2]), 4, 1.0, generator=generator)
    assert kept[0] == -100
    assert torch.equal(ls.label_dropout(target, 4, 0.0), target)


@pytest.mark.parametrize("name", ["uniform", "others", "class_conditional", "pad"])
def test_torch_func(name):
    logits, target = problem((6,), 5)
    smoothing = SMOOTHINGS[name](5)

    def loss(z, y):
        return ls.cross_entropy(z, y, label_smoothing=smoothing)

    expected = ls.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(torch.func.vmap(loss)(logits, target), expected)
    per_row = torch.func.vmap(torch.func.grad(loss))(logits, target)
    torch.testing.assert_close(per_row, torch.autograd.grad(expected.sum(), logits)[0])
    hessian = torch.func.hessian(lambda z: loss(z, target[0]))(logits[0].detach())
    p = logits[0].detach().softmax(-1)
    torch.testing.assert_close(hessian, p.diag() - p.outer(p), rtol=1e-12, atol=1e-12)


def test_torch_func_over_ensembles_and_stats():
    logits, target = problem((3, 6), 5)
    eps = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)

    def loss(z, e):
        return ls.cross_entropy(z, target[0], label_smoothing=ls.uniform(e), return_stats=True)

    losses, stats = torch.func.vmap(loss)(logits, eps)
    for i in range(3):
        torch.testing.assert_close(
            losses[i], F.cross_entropy(logits[i], target[0], label_smoothing=eps[i].item())
        )
        torch.testing.assert_close(stats.nll[i], F.cross_entropy(logits[i], target[0], reduction="none"))


@pytest.mark.parametrize("make", [ls.uniform, ls.others, lambda e: ls.others(e).exclude([0])])
def test_compiles_as_one_graph_and_eps_does_not_recompile(make):
    torch._dynamo.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    @torch.compile(fullgraph=True, backend=count)
    def step(z, y, e):
        return ls.cross_entropy(z, y, label_smoothing=make(e), return_stats=True, z_loss=1e-4)

    logits, target = problem((6,), 5)
    target[0] = -100
    for eps in (0.0, 0.1, 0.3):
        loss, stats = step(logits, target, torch.tensor(eps, dtype=torch.float64))
        eager, eager_stats = ls.cross_entropy(
            logits, target, label_smoothing=make(eps), return_stats=True, z_loss=1e-4
        )
        assert_same(loss, eager, logits)
        torch.testing.assert_close(stats.nll, eager_stats.nll)
    assert len(graphs) == 1


def test_compiled_by_the_default_backend():
    torch._dynamo.reset()
    logits, target = problem((8,), 5, dtype=torch.float32)
    module = torch.compile(ls.CrossEntropyLoss(label_smoothing=0.1), fullgraph=True)
    assert_same(module(logits, target), F.cross_entropy(logits, target, label_smoothing=0.1), logits, 1e-5)


def test_autocast():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 8, generator=generator)
    layer = ls.LinearCrossEntropyLoss(8, 5, label_smoothing=0.1, bias=True)
    target = torch.arange(16) % 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = layer(x, target)
        logits = layer.linear(x)
        plain = ls.cross_entropy(logits, target, label_smoothing=0.1)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == plain.dtype == torch.float32
    exact = F.cross_entropy(logits.double(), target, label_smoothing=0.1)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    loss.backward()
    assert layer.linear.weight.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(7,), (2, 3), ()])
def test_linear_cross_entropy_is_the_loss_of_the_layers_logits(shape):
    generator = torch.Generator().manual_seed(1)
    draw = {"dtype": torch.float64, "generator": generator}
    x = torch.randn(*shape, 4, **draw).requires_grad_()
    weight, bias = torch.randn(5, 4, **draw).requires_grad_(), torch.randn(5, **draw).requires_grad_()
    target = torch.randint(5, shape, generator=generator)
    dense = torch.rand(*shape, 5, **draw)
    row_weight = torch.rand(shape, **draw)
    for y, extra in itertools.product((target, dense), ({}, {"z_loss": 0.1, "row_weight": row_weight})):
        ours = ls.linear_cross_entropy(x, weight, y, linear_bias=bias, label_smoothing=0.1, **extra)
        logits = (x @ weight.T + bias).reshape(-1, 5)
        rows = F.cross_entropy(
            logits, y.reshape(-1, 5) if y is dense else y.reshape(-1), label_smoothing=0.1, reduction="none"
        )
        if extra:
            rows = (rows + 0.1 * logits.logsumexp(-1) ** 2) * row_weight.reshape(-1)
        for leaf in (x, weight, bias):
            assert_same(ours, rows.mean(), leaf)
    loss, stats = ls.linear_cross_entropy(x, weight, target, return_stats=True)
    assert stats.nll.shape == shape
    torch.testing.assert_close(loss, stats.nll.mean())


def test_linear_module_equals_torch():
    layer = ls.LinearCrossEntropyLoss(6, 4, bias=True, dtype=torch.float64, label_smoothing=0.2)
    theirs = torch.nn.LinearCrossEntropyLoss(6, 4, bias=True, dtype=torch.float64, label_smoothing=0.2)
    theirs.load_state_dict(layer.state_dict())
    x, target = torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 4
    torch.testing.assert_close(layer(x, target), theirs(x, target), rtol=1e-12, atol=1e-12)


def test_modules_move_save_and_describe_themselves():
    loss = ls.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), label_smoothing=ls.others(0.1))
    assert list(loss.state_dict()) == ["weight"]
    assert loss.double().weight.dtype == torch.float64
    assert "others(0.1)" in repr(loss)
    assert "class" not in repr(ls.uniform(torch.tensor([0.1, 0.2])))


def test_the_repr_of_a_module_shows_what_differs_from_the_defaults():
    assert repr(ls.CrossEntropyLoss(torch.ones(3), reduction="sum", z_loss=0.1)) == (
        "CrossEntropyLoss(label_smoothing=0.0, reduction='sum', ignore_index=-100, weight=tensor(3,), z_loss=0.1)"
    )


def test_the_module_is_one_of_torchs():
    ours, theirs = ls.CrossEntropyLoss(torch.ones(3)), torch.nn.CrossEntropyLoss(torch.arange(3.0))
    assert isinstance(ours, torch.nn.CrossEntropyLoss)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.weight, theirs.weight)
    theirs.load_state_dict(ours.state_dict())
    assert ours.reduction == theirs.reduction == "mean"


@pytest.mark.parametrize("kind", ["logits", "linear"])
def test_modules_return_statistics(kind):
    x, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, -100])
    make = (
        ls.CrossEntropyLoss
        if kind == "logits"
        else lambda **settings: ls.LinearCrossEntropyLoss(3, 3, **settings)
    )
    criterion = make(label_smoothing=0.1)
    loss = criterion(x, target)
    assert isinstance(loss, Tensor)
    logits = x if kind == "logits" else criterion.linear(x)
    with_stats = make(label_smoothing=0.1, return_stats=True)
    with_stats.load_state_dict(criterion.state_dict())
    for same, stats in (criterion(x, target, return_stats=True), with_stats(x, target)):
        torch.testing.assert_close(same, loss)
        torch.testing.assert_close(stats.mean("nll"), F.cross_entropy(logits, target))
        torch.testing.assert_close(stats.accuracy, (logits.argmax(-1) == target)[:5].float().mean())
    assert isinstance(with_stats(x, target, return_stats=False), Tensor)


class LinearOfItsOwn(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class SameLinear(torch.nn.Linear):
    """A subclass that multiplies as its parent does."""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [torch.nn.Linear, SameLinear])
def test_the_linear_loss_takes_a_layer(kind, bias):
    layer, x = kind(3, 5, bias=bias), torch.randn(7, 3)
    torch.nn.utils.parametrizations.weight_norm(layer)  # whose weight is made anew when it is asked for
    target = torch.randint(5, (7,))
    expected = F.cross_entropy(layer(x), target, label_smoothing=0.1)
    ours = ls.linear_cross_entropy(x, layer, target, label_smoothing=0.1)
    torch.testing.assert_close(ours, expected)
    for mine, its in zip(
        *(torch.autograd.grad(v, list(layer.parameters())) for v in (ours, expected)), strict=True
    ):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)
    criterion = ls.LinearCrossEntropyLoss.from_linear(layer, label_smoothing=0.1)
    assert criterion.linear is layer
    torch.testing.assert_close(criterion(x, target), expected)


def test_the_linear_loss_of_a_tied_layer():
    embedding, head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    criterion = ls.LinearCrossEntropyLoss.from_linear(head)
    assert [p.data_ptr() for p in criterion.parameters()] == [embedding.weight.data_ptr()]
    assert criterion.linear.bias is None
    criterion(embedding(torch.tensor([1, 2])), torch.tensor([2, 3])).backward()
    assert embedding.weight.grad is not None


def hooked(register):
    layer = torch.nn.Linear(4, 4)
    getattr(layer, register)(lambda *_: None)
    return layer


def patched():
    layer = torch.nn.Linear(4, 4)
    layer.forward = lambda x: x
    return layer


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: LinearOfItsOwn(4, 4), ValueError, "LinearOfItsOwn with a forward of its own"),
        (patched, ValueError, "a forward of its own"),
        (lambda: hooked("register_forward_hook"), ValueError, "with hooks"),
        (lambda: hooked("register_forward_pre_hook"), ValueError, "with hooks"),
        (lambda: hooked("register_full_backward_hook"), ValueError, "with hooks"),
        (
            lambda: torch.nn.Sequential(torch.nn.Linear(4, 4)),
            TypeError,
            "got torch.nn.modules.container.Sequential",
        ),
    ],
)
def test_layers_that_do_more_than_multiply_are_refused(make, error, says):
    with pytest.raises(error, match=says):
        ls.linear_cross_entropy(torch.zeros(3, 4), make(), LABELS)
    with pytest.raises(error, match=says):
        ls.LinearCrossEntropyLoss.from_linear(make())
    criterion = ls.LinearCrossEntropyLoss(4, 4)
    criterion.linear = make()  # as those do who put an adapter in a layer's place
    with pytest.raises(error, match=says):
        criterion(torch.zeros(3, 4), LABELS)


class Stubborn(torch.Tensor):
    """A subclass that takes no other tensor beside its own, as those of frameworks do in part."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        assert all(kind in (cls, Tensor, torch.nn.Parameter) for kind in types)
        return super().__torch_function__(func, types, args, kwargs)


class AlsoStubborn(Stubborn):
    pass


def test_tensors_of_a_subclass_are_checked_and_served_as_plain_ones():
    logits, target = torch.randn(3, 4, requires_grad=True), LABELS
    wrapped, labels = logits.as_subclass(Stubborn), target.as_subclass(AlsoStubborn)
    for backend in ["auto", *(["cpu"] if cpu.INSTRUCTION_SET else [])]:
        loss, stats = ls.cross_entropy(
            wrapped, labels, logits[0].detach().abs().as_subclass(AlsoStubborn), label_smoothing=0.1,
            row_weight=torch.ones(3).as_subclass(AlsoStubborn), denominator=(labels >= 0).sum(),
            return_stats=True, backend=backend,
        )  # fmt: skip
        expected = ls.cross_entropy(
            logits, target, logits[0].detach().abs(), label_smoothing=0.1, denominator=3
        )
        torch.testing.assert_close(loss, expected)
        assert type(loss) is type(stats.nll) is Tensor
        ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (loss, expected))
        torch.testing.assert_close(ours, theirs)
    eps = torch.tensor([0.1, 0.1, 1.7]).as_subclass(Stubborn)
    for call, says in (
        (lambda: ls.uniform(eps), "eps must be in"),
        (lambda: ls.mixup(target, target, eps), "lam must be in"),
        (lambda: ls.cross_entropy(wrapped, labels + 2), "target must lie in 0..3, got 4"),
        (lambda: ls.row_stats(wrapped, (labels + 2)[:, None]), "index must lie in 0..3, got 4"),
        (
            lambda: ls.cross_entropy(
                logits, target, torch.tensor([1, 1, 1, float("nan")]).as_subclass(Stubborn)
            ),
            "NaN",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            call()


@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 4, 2)])
def test_labels_that_hold_together_are_warned_of(shape):
    logits = torch.randn(shape)
    several = torch.zeros(shape)
    several.movedim(min(1, len(shape) - 1), 0)[:2] = 1
    with pytest.warns(UserWarning, match="several ones in a row"):
        loss = ls.cross_entropy(logits, several)
    torch.testing.assert_close(loss, F.cross_entropy(logits, several))  # torch's, all the same
    for distribution in (several / 2, several * 0.9, several * 0):
        ls.cross_entropy(logits, distribution)  # warnings are errors here


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_integer_type(dtype):
    """Narrow types must not wrap around: 156 is −100 in uint8, and 255 marks nothing in most masks."""
    num_classes = 100 if dtype == torch.int8 else 256
    logits, target = problem((50,), num_classes)
    target[0] = 99 if dtype == torch.int8 else 156
    weight = torch.rand(num_classes, dtype=torch.float64)
    narrow = target.to(dtype)
    assert_same(ls.cross_entropy(logits, narrow), F.cross_entropy(logits, target), logits)
    void = int(target[3])
    assert_same(
        ls.cross_entropy(logits, narrow, weight, ignore_index=void, label_smoothing=0.1),
        F.cross_entropy(logits, target, weight, ignore_index=void, label_smoothing=0.1),
        logits,
    )
    generator = torch.Generator().manual_seed(0)
    assert (ls.label_dropout(narrow, num_classes, 1.0, generator=generator) != target).sum() > 40


def test_finite_support_leaves_the_target_itself_alone():
    """An impossible label costs +inf, whichever way it is written."""
    inf = float("inf")
    z = torch.tensor([[0.0, -inf, 1.0]], dtype=torch.float64)
    impossible = torch.tensor([1])
    for eps in (0.0, 0.1):
        for target in (impossible, F.one_hot(impossible, 3).double()):
            assert ls.cross_entropy(z, target, label_smoothing=eps, support="finite") == inf
    possible = torch.tensor([2])
    for smoothing in (
        ls.uniform(0.1),
        ls.others(0.1),
        ls.others(0.1).exclude([0]),
        ls.prior(0.1, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)),
        ls.class_conditional(0.1, torch.rand(3, 3, dtype=torch.float64).softmax(-1)),
    ):
        by_index, by_row = (
            ls.cross_entropy(z, target, label_smoothing=smoothing, support="finite")
            for target in (possible, F.one_hot(possible, 3).double())
        )
        torch.testing.assert_close(by_index, by_row, rtol=1e-12, atol=0)
    # nothing of the prior is possible: the row goes without it
    nowhere = ls.prior(0.1, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    loss = ls.cross_entropy(z, possible, label_smoothing=nowhere, support="finite")
    torch.testing.assert_close(loss, 0.9 * F.cross_entropy(z, possible), rtol=1e-12, atol=0)
    mixture = ls.uniform(0.1)(F.one_hot(possible, 3).double(), 3)
    with pytest.raises(ValueError, match="cannot tell smoothing from target"):
        ls.cross_entropy(z, mixture, support="finite")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_targets_are_smoothed_in_single(dtype):
    logits, target = problem((50,), 1000)
    eps = torch.full((50,), 0.1).to(dtype)
    exact = eps.double()
    for make in (ls.uniform, ls.others):
        q = make(eps)(target, 1000).dense(1000, torch.float64)
        torch.testing.assert_close(q, make(exact)(target, 1000).dense(1000), rtol=1e-6, atol=1e-7)
    dense = torch.rand(50, 1000).to(dtype)
    ours = ls.cross_entropy(logits, dense, label_smoothing=0.1)
    assert_same(ours, F.cross_entropy(logits, dense.double(), label_smoothing=0.1), logits, 1e-6)
    table = ls.class_conditional(0.3, torch.rand(5, 5).softmax(-1))
    rows = torch.rand(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = table(rows, 5).dense(5)
    assert torch.equal(under_autocast, table(rows, 5).dense(5))


def test_class_weights_of_another_dtype_and_an_empty_dense_batch():
    logits, target = problem((20,), 5)
    weight = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    assert_same(
        ls.cross_entropy(logits, target, weight, label_smoothing=0.1),
        F.cross_entropy(logits, target, weight.double(), label_smoothing=0.1),
        logits,
    )
    whole = torch.tensor([1, 2, 0, 3, 1])
    assert_same(
        ls.cross_entropy(logits, target, whole), F.cross_entropy(logits, target, whole.double()), logits
    )
    assert ls.cross_entropy(torch.zeros(0, 5), torch.zeros(0, 5)) == 0


def test_the_number_of_rows_of_images():
    logits, target = problem((2, 3, 4), 5)
    total = ls.cross_entropy(logits.movedim(-1, 1), target, reduction="sum")
    for denominator in ("rows", "valid", None):
        mean = ls.cross_entropy(logits.movedim(-1, 1), target, denominator=denominator)
        torch.testing.assert_close(mean, total / 24, rtol=1e-12, atol=0)


def test_modules_pass_on_every_setting():
    logits, target = problem((6,), 4)
    with torch.no_grad():
        logits[0, (target[0] + 1) % 4] = -torch.inf
    row_weight = torch.rand(6, dtype=torch.float64)
    weight = torch.rand(4, dtype=torch.float64)
    settings = {
        "weight": weight,
        "ignore_index": int(target[1]),
        "label_smoothing": ls.others(0.2),
        "z_loss": 0.1,
        "denominator": 7,
    }
    module = ls.CrossEntropyLoss(**settings, support="finite")
    expected = ls.cross_entropy(logits, target, **settings, support="finite", row_weight=row_weight)
    assert expected.isfinite()
    assert torch.equal(module(logits, target, row_weight=row_weight), expected)
    layer = ls.LinearCrossEntropyLoss(3, 4, bias=True, dtype=torch.float64, **settings)
    x = torch.randn(6, 3, dtype=torch.float64)
    expected = ls.cross_entropy(layer.linear(x), target, **settings, row_weight=row_weight)
    torch.testing.assert_close(layer(x, target, row_weight=row_weight), expected, rtol=1e-14, atol=0)
    clone = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    assert torch.equal(clone(logits, target), module(logits, target))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # of torch's own tracer
def test_tracing():
    """Values do not exist there, so nothing is checked, and the graph is that of the eager call."""
    logits, target = problem((4,), 5)
    logits = logits.detach()

    def loss(z, y):
        return ls.cross_entropy(z, y, label_smoothing=0.1)

    expected = loss(logits, target)
    torch.testing.assert_close(make_fx(loss)(logits, target)(logits, target), expected)
    output, tangent = torch.func.linearize(lambda z: loss(z, target), logits)
    direction = torch.randn_like(logits)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(tangent(direction), (torch.func.grad(loss)(logits, target) * direction).sum())
    _, jvp = torch.func.jvp(lambda z: loss(z, target), (logits,), (direction,))
    torch.testing.assert_close(jvp, tangent(direction))
    with FakeTensorMode():
        assert loss(torch.randn(4, 5), torch.zeros(4, dtype=torch.long)).shape == ()

    class Model(torch.nn.Module):
        def forward(self, z, y):
            return loss(z, y)

    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(Model(), (logits, target), dynamic_shapes=({0: batch}, {0: batch}))
    torch.testing.assert_close(exported.module()(logits[:3], target[:3]), loss(logits[:3], target[:3]))


def test_out_of_range_labels_are_an_error_where_values_cannot_be_looked_at():
    logits, target = problem((4,), 5)
    target[2] = 5
    with pytest.raises((RuntimeError, IndexError), match="out of bounds|out of range"):
        torch.func.vmap(lambda z, y: ls.cross_entropy(z, y))(logits, target)
    for backend, says in (("reference", "out of bounds|out of range"), ("auto", "out of bounds|0..4, got 5")):
        torch._dynamo.reset()
        compiled = torch.compile(ls.cross_entropy, fullgraph=True, backend="eager")
        with pytest.raises((RuntimeError, IndexError, ValueError), match=says):
            compiled(logits, target, backend=backend)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": ls.others(0.1)}, {"row_weight": torch.rand(6)}])
def test_targets_changed_before_the_backward_are_noticed(settings):
    logits, target = problem((6,), 4)
    loss = ls.cross_entropy(logits, target, **settings)
    target.add_(0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_targets_on_another_device_are_refused():
    logits, target = problem((4,), 5)
    table = torch.full((5, 5), 0.2, device="meta")
    for call in (
        lambda: ls.cross_entropy(logits, target.to("meta")),
        lambda: ls.cross_entropy(logits, ls.Mixture(prior=table, prior_weight=1.0, prior_row=target)),
        lambda: ls.cross_entropy(logits, target, row_weight=torch.ones(4, device="meta")),
        lambda: ls.linear_cross_entropy(logits.detach(), torch.ones(7, 5, device="meta").double(), target),
        lambda: ls.row_stats(logits, target[:, None].to("meta")),
        lambda: ls.row_stats(logits, counted=torch.ones(4, dtype=torch.bool, device="meta")),
    ):
        with pytest.raises(ValueError, match="must be on the device of the logits, cpu, got meta"):
            call()


def test_a_default_device_changes_nothing():
    logits, target = problem((4,), 5)
    expected = ls.cross_entropy(logits, target, label_smoothing=0.1)
    with torch.device("meta"):
        plain = ls.cross_entropy(logits, target, label_smoothing=0.1)
        full, _ = ls.cross_entropy(logits, target, label_smoothing=0.1, return_stats=True)
    assert_same(plain, expected, logits)
    assert_same(full, expected, logits)


@pytest.mark.parametrize("settings", [{}, {"return_stats": True}, {"z_loss": 0.1}])
def test_many_gradients_at_once(settings):
    logits, target = problem((4,), 5)

    def losses(z):
        loss = ls.cross_entropy(z, target, reduction="none", label_smoothing=0.1, **settings)
        return loss[0] if "return_stats" in settings else loss

    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(losses, logits, vectorize=True), jacobian(losses, logits))
    weight = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    for reduction in ("none", "mean"):

        def of_layer(w, reduction=reduction):
            return ls.linear_cross_entropy(logits.detach(), w, target, reduction=reduction)

        torch.testing.assert_close(jacobian(of_layer, weight, vectorize=True), jacobian(of_layer, weight))


def test_lazily_negated_logits():
    logits = torch.randn(4, 5, dtype=torch.complex128).conj().imag
    assert logits.is_neg()
    target = torch.randint(5, (4,))
    torch.testing.assert_close(ls.cross_entropy(logits, target), F.cross_entropy(logits, target))


def test_checkpointing():
    logits, target = problem((6,), 5)
    plain = ls.cross_entropy(logits, target, label_smoothing=0.1)
    again = torch.utils.checkpoint.checkpoint(
        lambda z: ls.cross_entropy(z, target, label_smoothing=0.1), logits, use_reentrant=False
    )
    assert_same(again, plain, logits)


ROWS = torch.zeros(3, 4)
LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: ls.cross_entropy(ROWS, torch.tensor([0, 1, 4])), ValueError, "target must lie in 0..3, got 4"),
        (lambda: ls.cross_entropy(ROWS, torch.tensor([0, -1, 2])), ValueError, "target must lie in 0..3, got -1"),
        (lambda: ls.cross_entropy(ROWS, LABELS[:2]), ValueError, "class indices must have shape"),
        (lambda: ls.cross_entropy(ROWS, LABELS.bool()), TypeError, "integer class indices, got torch.bool"),
        (lambda: ls.cross_entropy(ROWS, ROWS[:, :3]), ValueError, "must have shape (3, 4)"),
        (lambda: ls.cross_entropy(ROWS.long(), LABELS), TypeError, "got torch.int64"),
        (lambda: ls.cross_entropy(ROWS[:, :1], LABELS), ValueError, "at least 2 classes, got 1"),
        (lambda: ls.cross_entropy(torch.tensor(1.0), LABELS[0]), ValueError, "must have shape"),
        (lambda: ls.cross_entropy(ROWS, LABELS, label_smoothing=1.5), ValueError, "eps must be in [0, 1], got 1.5"),
        (lambda: ls.cross_entropy(ROWS, LABELS, label_smoothing="0.1"), TypeError, "eps must be a number"),
        (lambda: ls.uniform(float("nan")), ValueError, "got nan"),
        (lambda: ls.uniform(-float("inf"), signed=True), ValueError, "got -inf"),
        (lambda: ls.uniform(torch.tensor([0.1, -0.2])), ValueError, "eps must be in [0, 1], got -0.2"),
        (lambda: ls.uniform(torch.tensor([1, 0])), TypeError, "floating-point"),
        (lambda: ls.uniform(torch.zeros(2))(LABELS, 4), ValueError, "one value per row"),
        (lambda: ls.cross_entropy(ROWS, LABELS, ROWS[0] * float("nan")), ValueError, "weight must not contain NaN"),
        (lambda: ls.cross_entropy(ROWS, LABELS, ROWS[0, :2]), ValueError, "weight must have shape (4,)"),
        (lambda: ls.cross_entropy(ROWS, LABELS, row_weight=ROWS), ValueError, "row_weight must have shape (3,)"),
        (lambda: ls.cross_entropy(ROWS, LABELS, reduction="avg"), ValueError, "reduction must be"),
        (lambda: ls.cross_entropy(ROWS, LABELS, reduction="sum", denominator=3), ValueError, "goes with"),
        (lambda: ls.cross_entropy(ROWS, LABELS, denominator=0), ValueError, "positive, got 0"),
        (lambda: ls.cross_entropy(ROWS, LABELS, denominator="tokens"), ValueError, "got 'tokens'"),
        (lambda: ls.cross_entropy(ROWS, LABELS, support="some"), ValueError, "support must be"),
        (lambda: ls.cross_entropy(ROWS, LABELS, backend="tpu"), ValueError, "backend must be"),
        (lambda: ls.cross_entropy(ROWS, LABELS, z_loss=-1), ValueError, "z_loss must be at least 0"),
        (lambda: ls.CrossEntropyLoss(label_smoothing=2.0), ValueError, "got 2.0"),
        (lambda: ls.linear_cross_entropy(ROWS, torch.nn.Linear(4, 4), LABELS, linear_bias=ROWS[0]), ValueError, "linear_bias as well"),
        (lambda: ls.linear_cross_entropy(ROWS, [1.0], LABELS), TypeError, "got builtins.list"),
        (lambda: ls.linear_cross_entropy(ROWS, ROWS, LABELS, scale=0), ValueError, "scale must be positive and finite, got 0"),
        (lambda: ls.linear_cross_entropy(ROWS, ROWS, LABELS, softcap="30"), TypeError, "softcap must be a number, got str"),
        (lambda: ls.LinearCrossEntropyLoss(4, 3, softcap=-30.0), ValueError, "softcap must be positive and finite, got -30"),
        (lambda: ls.linear_cross_entropy(ROWS, ROWS, LABELS, softcap=10**400), ValueError, "softcap must be positive and finite, got 1000"),
        (lambda: ls.linear_cross_entropy(ROWS, ROWS, LABELS, scale=1e39), ValueError, "scale must lie in 1.2e-38..3.4e+38"),
        (lambda: ls.linear_cross_entropy(ROWS, ROWS, LABELS, softcap=1e-40), ValueError, "softcap must lie in 1.2e-38..3.4e+38"),
        (lambda: ls.linear_cross_entropy(ROWS, ROWS, LABELS, scale=1e20, softcap=1e-20), ValueError, "got 1e+40"),
        (lambda: ls.linear_cross_entropy(ROWS.long(), ROWS, LABELS), TypeError, "input must be"),
        (lambda: ls.cross_entropy(ROWS, ls.uniform(0.1)(LABELS, 4), label_smoothing=ROWS[:, 0]), ValueError, "smoothed already"),
        (lambda: ls.LinearCrossEntropyLoss(4, 1), ValueError, "at least 2 classes"),
        (lambda: ls.linear_cross_entropy(ROWS, ROWS[:, :2], LABELS), ValueError, "must share H"),
        (
            lambda: ls.cross_entropy(ROWS, ls.uniform(0.1)(LABELS, 4), label_smoothing=0.1),
            ValueError,
            "smoothed already",
        ),
        (lambda: ls.cross_entropy(ROWS, ls.mixup(LABELS + 2, LABELS, 0.5)), ValueError, "must lie in 0..3, got 4"),
        (lambda: ls.cross_entropy(ROWS, ls.uniform(0.1)(LABELS[:2], 4)), ValueError, "batch shape"),
        (
            lambda: ls.cross_entropy(ROWS, LABELS, label_smoothing=ls.prior(0.1, torch.tensor([0.5, 0.5]))),
            ValueError,
            "must cover the 4 classes",
        ),
        (lambda: ls.prior(0.1, torch.tensor([0.5, 0.6])), ValueError, "sum to 1, got 1.1"),
        (lambda: ls.prior(0.1, torch.tensor([1.5, -0.5])), ValueError, "negative or NaN, got -0.5"),
        (lambda: ls.class_conditional(0.1, torch.full((2, 4), 0.25)), ValueError, "square"),
        (lambda: ls.unigram(torch.tensor([0, 0])), ValueError, "positive sum"),
        (lambda: ls.convention("pytorch", 0.1), ValueError, "unknown convention 'pytorch'"),
        (lambda: ls.convention("opennmt", 0.1), ValueError, "needs the padding class"),
        (lambda: ls.convention("torch", 0.1, pad=1), ValueError, "no padding class"),
        (lambda: ls.others(0.1).exclude([7])(LABELS, 4), ValueError, "got 7"),
        (lambda: ls.others(0.1).exclude([0, 1, 2])(LABELS, 4), ValueError, "must stay"),
        (lambda: ls.mixup(LABELS, LABELS, 1.2), ValueError, "lam must be in [0, 1], got 1.2"),
        (lambda: ls.mixup(LABELS, LABELS, 0.5, ls.others(0.1)), ValueError, "needs num_classes"),
        (lambda: ls.Mixture(index=LABELS[:, None]), ValueError, "together"),
        (lambda: ls.Mixture(), ValueError, "neither"),
        (lambda: ls.label_dropout(LABELS, 2, 0.1), ValueError, "must lie in 0..1, got 2"),
        (lambda: ls.label_dropout(LABELS, 4, torch.full((1, 3), 0.1)), ValueError, "one value per row (3,)"),
        (lambda: ls.mixup(LABELS, LABELS, torch.tensor([0.5, 0.5, 1.5])), ValueError, "got 1.5"),
        (lambda: ls.mixup(LABELS, LABELS, torch.tensor([0.5])), ValueError, "one value per row (3,)"),
        (lambda: ls.mixup(ROWS, ROWS, 0.5, num_classes=4), TypeError, "integer class indices"),
        (lambda: ls.cross_entropy(ROWS, [0, 1, 2]), TypeError, "target must be a tensor, got list"),
        (lambda: ls.cross_entropy(ROWS, LABELS, [1.0] * 4), TypeError, "weight must be a tensor, got list"),
        (lambda: ls.cross_entropy(ROWS, LABELS, ignore_index=None), TypeError, "ignore_index must be an int"),
        (lambda: ls.cross_entropy(ROWS, LABELS, z_loss=torch.ones(3, 1)), ValueError, "0-d"),
        (lambda: ls.cross_entropy(ROWS, LABELS, z_loss=torch.tensor(-1.0)), ValueError, "at least 0, got -1.0"),
        (lambda: ls.cross_entropy(ROWS, LABELS, denominator=torch.ones(2)), ValueError, "0-d"),
        (lambda: ls.cross_entropy(ROWS, LABELS, denominator=torch.tensor(-2)), ValueError, "got -2.0"),
        (lambda: ls.uniform(0.1).exclude(5), TypeError, "a list of ints, got int"),
        (lambda: ls.uniform(0.1).exclude([1.7]), TypeError, "must be ints, got 1.7"),
        (lambda: ls.unigram(torch.tensor([1.0, float("inf")])), ValueError, "finite and not negative, got inf"),
        (lambda: ls.prior(0.1, torch.tensor([0.501, 0.5])), ValueError, "sum to 1, got 1.00"),
        (lambda: ls.Mixture(index=LABELS[:, None], weight=torch.ones(3, 3)), ValueError, "same batch shape"),
        (lambda: ls.Mixture(index=LABELS, weight=torch.ones(4, 3)), ValueError, "same batch shape"),
        (lambda: ls.Mixture(index=[[0]], weight=1.0), TypeError, "must be a tensor, got list"),
        (lambda: ls.CrossEntropyLoss(backend="tpu"), ValueError, "backend must be"),
        (lambda: ls.CrossEntropyLoss(torch.tensor([1.0, float("nan")])), ValueError, "NaN"),
        (lambda: ls.LinearCrossEntropyLoss(8, 3, weight=torch.ones(5)), ValueError, "shape (3,), got (5,)"),
        (
            lambda: ls.LinearCrossEntropyLoss(8, 3, label_smoothing=ls.prior(0.1, torch.full((5,), 0.2))),
            ValueError,
            "must cover the 3 classes",
        ),
        (
            lambda: ls.cross_entropy(
                ROWS, ls.Mixture(prior=torch.ones(2, 4), prior_weight=1.0, prior_row=LABELS)
            ),
            ValueError,
            "prior_row must lie in 0..1, got 2",
        ),
        (
            lambda: ls.cross_entropy(
                ROWS, ls.Mixture(index=LABELS[:, None], weight=torch.full((1,), float("nan")))
            ),
            ValueError,
            "weight must not contain NaN",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(call, error, says):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "call",
    [
        lambda logits, dense: ls.cross_entropy(logits, dense),
        lambda logits, dense: ls.CrossEntropyLoss()(logits, dense),
        lambda logits, dense: ls.linear_cross_entropy(logits, torch.eye(4), dense),
        lambda logits, dense: ls.LinearCrossEntropyLoss(4, 4)(logits, dense),
    ],
)
def test_a_warning_names_the_line_of_the_caller(call):
    with pytest.warns(UserWarning, match="several ones in a row") as caught:
        call(torch.zeros(2, 4), torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0]]))
    assert {warning.filename for warning in caught} == {__file__}
