"""confidence_penalty, max_suppression and margin_smoothing against their papers' formulas and their authors' code."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import labelsmooth as ls
from labelsmooth.backends import cpu

INF, NAN = float("inf"), float("nan")
BACKENDS = ["reference", *(["cpu"] if cpu.INSTRUCTION_SET else [])]
PEERS = json.loads((Path(__file__).parents[1] / "fixtures" / "peer_penalties.json").read_text())["cases"]


def entropy_of(z: Tensor) -> Tensor:  # (..., K)
    return torch.special.entr(z.softmax(-1)).sum(-1)


def top_over_mean(z: Tensor) -> Tensor:
    return z.max(-1).values - z.mean(-1)


def beyond(z: Tensor, margin: float) -> Tensor:
    return F.relu(z.max(-1, keepdim=True).values - z - margin).mean(-1)


# the loss, its own settings, and the penalty as the paper writes it, factor included
LOSSES = {
    "confidence_penalty": (ls.confidence_penalty, {"beta": 0.3}, lambda z: -0.3 * entropy_of(z)),
    "max_suppression": (ls.max_suppression, {"eps": 0.2}, lambda z: 0.2 * top_over_mean(z)),
    "margin_smoothing": (ls.margin_smoothing, {"lam": 0.4, "margin": 2.5}, lambda z: 0.4 * beyond(z, 2.5)),
}
FACTORS = {"confidence_penalty": "beta", "max_suppression": "eps", "margin_smoothing": "lam"}


def problem(rows, num_classes, seed=0, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*rows, num_classes, dtype=dtype, generator=generator)
    return logits.requires_grad_(), torch.randint(num_classes, rows, generator=generator)


def assert_same(ours: Tensor, theirs: Tensor, leaf: Tensor, tol: float = 1e-12) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tol, atol=tol)
    (a,) = torch.autograd.grad(ours.sum(), leaf, retain_graph=True)
    (b,) = torch.autograd.grad(theirs.sum(), leaf, retain_graph=True)
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def test_of_peers():
    """What the code of the papers returned, in float64, and its gradient."""
    for case in PEERS:
        args = case["args"]
        logits = torch.tensor(case["logits"], dtype=torch.float64, requires_grad=True)
        target = torch.tensor(case["targets"])
        ignored = {"ignore_index": args["ignore_index"]} if "ignore_index" in args else {}
        match case["name"].split("/")[0]:
            case "confidence_penalty":  # the entropy averaged over the classes too
                loss = ls.confidence_penalty(logits, target, beta=args["alpha"] / logits.shape[1], **ignored)
            case "margin_smoothing":
                loss = ls.margin_smoothing(
                    logits, target, lam=args["alpha"], margin=args["margin"], **ignored
                )
            case "max_suppression":
                loss = ls.max_suppression(logits, target, eps=args["eps"])
            case "generalised":
                smoothing = ls.uniform(args["smooth_rate"], signed=True)
                loss = ls.cross_entropy(logits, target, label_smoothing=smoothing)
        (grad,) = torch.autograd.grad(loss, logits)
        expected = torch.tensor(case["loss"], dtype=torch.float64)
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=1e-12, msg=case["name"])
        expected = torch.tensor(case["grad"], dtype=torch.float64)
        torch.testing.assert_close(grad, expected, rtol=1e-12, atol=1e-12, msg=case["name"])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_papers_formula(name, backend):
    """With what torch makes of cross-entropy beside it, each of the two reduced as if it were alone."""
    loss, settings, penalty = LOSSES[name]
    weight = torch.linspace(0.2, 2, 6, dtype=torch.float64)
    for shape, reduction, c, dense in itertools.product(
        [(7,), (2, 3, 2), ()], ["none", "sum", "mean"], [None, weight], [False, True]
    ):
        logits, target = problem(shape, 6)
        images = logits.movedim(-1, min(1, len(shape)))
        counts = torch.ones(shape, dtype=torch.bool)
        if dense:
            target = torch.rand(images.shape, dtype=torch.float64)
        elif shape:
            target[0] = -100
            counts[0] = False
        of_rows = torch.where(counts, penalty(logits), 0)
        mean = of_rows.sum() / counts.sum()
        of_rows = {"none": of_rows, "sum": of_rows.sum(), "mean": mean}[reduction]
        expected = F.cross_entropy(images, target, c, reduction=reduction) + of_rows
        ours = loss(images, target, **settings, weight=c, reduction=reduction, backend=backend)
        assert_same(ours, expected, logits)


@pytest.mark.parametrize("name", LOSSES)
def test_row_weights_and_denominators(name):
    loss, settings, penalty = LOSSES[name]
    logits, target = problem((9,), 5)
    target[2] = 1
    row_weight = torch.rand(9, dtype=torch.float64)
    row_weight[4] = 0
    rows = (F.cross_entropy(logits, target, reduction="none") + penalty(logits)) * row_weight
    kept = target != 1
    for denominator, expected in (
        (None, int((kept & (row_weight != 0)).sum())),
        ("valid", int((kept & (row_weight != 0)).sum())),
        ("rows", 9),
        (torch.tensor(4.5), 4.5),
    ):
        ours = loss(
            logits, target, **settings, ignore_index=1, row_weight=row_weight, denominator=denominator
        )
        assert_same(ours, rows[kept].sum() / expected, logits)


@pytest.mark.parametrize("backend", BACKENDS)
def test_targets_of_every_kind(backend):
    """Also those with a prior of their own, which max-suppression must not take for the uniform one."""
    logits, target = problem((8,), 5)
    weight = torch.linspace(0.2, 2, 5, dtype=torch.float64)
    table = torch.rand(5, 5, dtype=torch.float64).softmax(-1)
    mixtures = [
        ls.mixup(target, target.flip(0), 0.3),
        ls.mixup(target, target.flip(0), 0.3, 0.1),
        ls.uniform(0.1)(target, 5),
        ls.prior(0.1, ls.unigram(torch.arange(5)))(target, 5),
        ls.class_conditional(0.1, table)(target, 5),
        ls.uniform(-0.4, signed=True)(target, 5),
        ls.Mixture(prior_weight=1.0),
    ]
    for (loss, settings, penalty), mixture, c in itertools.product(LOSSES.values(), mixtures, (None, weight)):
        q = mixture.dense(5, torch.float64) * (1 if c is None else c)
        expected = -(q * logits.log_softmax(-1)).sum(-1) + penalty(logits)
        ours = loss(logits, mixture, **settings, weight=c, reduction="none", backend=backend)
        assert_same(ours, expected, logits)


@pytest.mark.parametrize("smoothing", [0.1, ls.others(0.2), ls.uniform(-0.4, signed=True)])
def test_confidence_penalty_of_a_smoothed_target(smoothing):
    logits, target = problem((8,), 5)
    ours = ls.confidence_penalty(logits, target, beta=0.3, label_smoothing=smoothing)
    expected = ls.cross_entropy(logits, target, label_smoothing=smoothing) - 0.3 * entropy_of(logits).mean()
    assert_same(ours, expected, logits)


def test_how_they_meet():
    logits, target = problem((40,), 5)
    margin_0 = ls.margin_smoothing(logits, target, lam=0.1, margin=0)
    assert_same(ls.max_suppression(logits, target, eps=0.1), margin_0, logits)
    # uniform smoothing pulls down the label, max-suppression the prediction: the same where it is right
    right = logits.argmax(-1)
    smoothed = ls.cross_entropy(logits, right, label_smoothing=0.1)
    assert_same(ls.max_suppression(logits, right, eps=0.1), smoothed, logits)
    wrong = ls.max_suppression(logits, target, eps=0.1) - ls.cross_entropy(
        logits, target, label_smoothing=0.1
    )
    above = logits.amax(-1) - logits.gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(wrong, 0.1 * above.mean(), rtol=1e-12, atol=1e-12)
    # β·KL(p‖u) but for a constant
    plain = F.cross_entropy(logits, target)
    kl = (logits.softmax(-1) * (logits.log_softmax(-1) + math.log(5))).sum(-1).mean()
    assert_same(ls.confidence_penalty(logits, target, beta=0.3), plain + 0.3 * (kl - math.log(5)), logits)
    # nothing to penalise
    assert_same(ls.margin_smoothing(logits, target, lam=0.1, margin=100), plain, logits)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck_also_of_the_factor(name, backend):
    loss, settings, penalty = LOSSES[name]
    logits, target = problem((5,), 4)
    target[1] = -100
    factor = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def of(z, f, reduction):
        return loss(z, target, **(settings | {FACTORS[name]: f}), reduction=reduction, backend=backend)

    for reduction in ("none", "mean"):
        assert gradcheck(lambda z, f, r=reduction: of(z, f, r), (logits, factor))
        assert gradgradcheck(lambda z, f, r=reduction: of(z, f, r), (logits, factor))
    (grad,) = torch.autograd.grad(of(logits, factor, "mean"), factor)
    kept = target != -100
    per_unit = penalty(logits.detach())[kept].mean() / settings[FACTORS[name]]
    torch.testing.assert_close(grad, per_unit, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_logits_give_the_float32_loss(name, dtype, backend):
    loss, settings, penalty = LOSSES[name]
    logits, target = problem((256,), 1000)
    logits = logits.detach().to(dtype).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    ours = loss(logits, target, **settings, backend=backend)
    theirs = F.cross_entropy(exact, target) + penalty(exact).mean()
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=0)
    (grad,) = torch.autograd.grad(ours, logits)
    (exact_grad,) = torch.autograd.grad(theirs, exact)
    assert grad.dtype == dtype
    info = torch.finfo(dtype)
    # the terms of a gradient cancel, so beside its own rounding there is that of the largest, in float32
    wide = 4 * torch.finfo(torch.float32).eps * exact_grad.abs().max().item()
    torch.testing.assert_close(grad.double(), exact_grad, rtol=2 * info.eps, atol=info.smallest_normal + wide)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("offset", [1e4, -1e4, 2.0**24])
def test_nothing_is_lost_under_an_offset(name, offset):
    loss, settings, penalty = LOSSES[name]
    logits, target = problem((64,), 50, dtype=torch.float32)
    shifted = logits.detach() + offset
    exact = shifted.double()
    ours = loss(shifted, target, **settings, reduction="none")
    expected = F.cross_entropy(exact, target, reduction="none") + penalty(exact)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_minus_infinity(backend):
    z = torch.tensor([[1.0, -INF, 2.0], [0.5, -INF, -INF]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([2, 0])
    # classes that cannot be cost an entropy nothing: what is left are two classes, and one
    left = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    expected = F.cross_entropy(left, torch.tensor(1)) - 0.3 * entropy_of(left)
    ours = ls.confidence_penalty(z, target, beta=0.3, reduction="none", backend=backend)
    torch.testing.assert_close(ours, torch.stack([expected, 0 * expected]), rtol=1e-12, atol=1e-12)
    (grad,), (wanted,) = torch.autograd.grad(ours.sum(), z), torch.autograd.grad(expected, left)
    torch.testing.assert_close(grad[0, [0, 2]], wanted, rtol=1e-12, atol=1e-12)
    assert grad[0, 1] == 0
    assert torch.equal(grad[1], torch.zeros(3, dtype=torch.float64))
    for loss, settings in (
        (ls.max_suppression, {"eps": 0.2}),
        (ls.margin_smoothing, {"lam": 0.2, "margin": 1.0}),
    ):
        infinite = loss(z, target, **settings, reduction="none", backend=backend)
        assert infinite.tolist() == [INF, INF]
        (grad,) = torch.autograd.grad(infinite.sum(), z)
        assert grad.isfinite().all()
        for nothing in (0.0, torch.tensor(0.0)):
            switched_off = settings | {FACTORS[loss.__name__]: nothing}
            off = loss(z, target, **switched_off, reduction="none", backend=backend)
            assert_same(off, F.cross_entropy(z, target, reduction="none"), z)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_that_do_not_count_leak_nothing(name, backend):
    loss, settings, penalty = LOSSES[name]
    logits, target = problem((5,), 4)
    with torch.no_grad():
        logits[1], logits[2], logits[4] = NAN, -INF, NAN
    target[1:3] = -100
    factor = torch.tensor(settings[FACTORS[name]], dtype=torch.float64, requires_grad=True)
    row_weight = torch.tensor([1.0, 1.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    ours = loss(
        logits, target, **(settings | {FACTORS[name]: factor}), row_weight=row_weight, backend=backend
    )
    grad, grad_factor = torch.autograd.grad(ours, (logits, factor))
    kept = torch.tensor([0, 3])
    expected = F.cross_entropy(logits[kept], target[kept]) + penalty(logits[kept]).mean()
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(grad[[1, 2, 4]], torch.zeros(3, 4, dtype=torch.float64))
    assert grad_factor.isfinite()
    for rows in (0, 3):
        logits, target = problem((rows,), 4)
        target[:] = -100
        for reduction in ("none", "sum", "mean"):
            nothing = loss(logits, target, **settings, reduction=reduction, backend=backend)
            (grad,) = torch.autograd.grad(nothing.sum(), logits)
            assert torch.equal(nothing, torch.zeros_like(nothing))
            assert torch.equal(grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_torch_func_and_many_gradients(name):
    loss, settings, _ = LOSSES[name]
    logits, target = problem((6,), 5)

    def one(z, y):
        return loss(z, y, **settings)

    rows = loss(logits, target, **settings, reduction="none")
    torch.testing.assert_close(torch.func.vmap(one)(logits, target), rows)
    per_row = torch.func.vmap(torch.func.grad(one))(logits, target)
    torch.testing.assert_close(per_row, torch.autograd.grad(rows.sum(), logits)[0])

    def of(z):
        return loss(z, target, **settings, reduction="none")

    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(of, logits, vectorize=True), jacobian(of, logits))


@pytest.mark.parametrize("name", LOSSES)
def test_compiles_as_one_graph_and_a_schedule_does_not_recompile(name):
    loss, settings, penalty = LOSSES[name]
    torch._dynamo.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    @torch.compile(fullgraph=True, backend=count)
    def step(z, y, f):
        return loss(z, y, **(settings | {FACTORS[name]: f}))

    logits, target = problem((6,), 5)
    for factor in (0.0, 0.1, 0.2):
        ours = step(logits, target, torch.tensor(factor, dtype=torch.float64))
        expected = penalty(logits) * (factor / settings[FACTORS[name]])
        assert_same(ours, F.cross_entropy(logits, target) + expected.mean(), logits)
    assert len(graphs) == 1


def test_what_they_do_to_a_network():
    """Digits, 64-64-10: each brings down what it penalises; negative smoothing after a warm-up sharpens."""
    x, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
    x = (x / 16).float()

    def train(loss_of_epoch, epochs=60):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for epoch in range(epochs):
            optimizer.zero_grad()
            loss_of_epoch(epoch)(network(x), y).backward()
            optimizer.step()
        return network(x).detach()

    hard = train(lambda _: ls.cross_entropy)
    results = {
        "entropy": train(lambda _: lambda z, y: ls.confidence_penalty(z, y, beta=0.5)),
        "top": train(lambda _: lambda z, y: ls.max_suppression(z, y, eps=0.2)),
        "margin": train(lambda _: lambda z, y: ls.margin_smoothing(z, y, lam=0.3, margin=6.0)),
    }
    negative = ls.CrossEntropyLoss()

    def after_warm_up(epoch):
        negative.label_smoothing = 0.0 if epoch < 40 else ls.uniform(-0.2, signed=True)
        return negative

    signed = train(after_warm_up)
    assert entropy_of(results["entropy"]).mean() > 5 * entropy_of(hard).mean()
    assert top_over_mean(results["top"]).mean() < 0.7 * top_over_mean(hard).mean()
    assert beyond(results["margin"], 6.0).mean() < 0.2 * beyond(hard, 6.0).mean()
    assert top_over_mean(signed).mean() > 1.1 * top_over_mean(hard).mean()
    for logits in (hard, signed, *results.values()):
        assert (logits.argmax(-1) == y).float().mean() > 0.95


ROWS = torch.zeros(3, 4)
LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: ls.confidence_penalty(ROWS, LABELS, beta=-0.1), ValueError, "beta must be at least 0, got -0.1"),
        (lambda: ls.confidence_penalty(ROWS, LABELS, beta="a"), TypeError, "beta must be a number or a tensor, got str"),
        (lambda: ls.confidence_penalty(ROWS, LABELS, beta=True), TypeError, "beta must be a number or a tensor, got bool"),
        (lambda: ls.confidence_penalty(ROWS, LABELS, beta=torch.ones(4)), ValueError, "beta must be 0-d, got shape (4,)"),
        (lambda: ls.confidence_penalty(ROWS, LABELS, beta=0.1, label_smoothing=2.0), ValueError, "in [0, 1], got 2.0"),
        (lambda: ls.confidence_penalty(ROWS, LABELS, beta=0.1, backend="tpu"), ValueError, "backend must be"),
        (lambda: ls.max_suppression(ROWS, LABELS, eps=NAN), ValueError, "eps must be at least 0, got nan"),
        (lambda: ls.max_suppression(ROWS, LABELS, eps=torch.tensor(-1.0)), ValueError, "eps must be at least 0, got -1.0"),
        (lambda: ls.max_suppression(ROWS, LABELS + 2, eps=0.1), ValueError, "target must lie in 0..3, got 4"),
        (lambda: ls.max_suppression(ROWS[:, :1], LABELS, eps=0.1), ValueError, "at least 2 classes, got 1"),
        (lambda: ls.max_suppression(ROWS.long(), LABELS, eps=0.1), TypeError, "got torch.int64"),
        (lambda: ls.max_suppression(ROWS, LABELS, weight=ROWS[0] * NAN, eps=0.1), ValueError, "weight must not contain NaN"),
        (lambda: ls.max_suppression(ROWS, LABELS, eps=0.1, row_weight=ROWS), ValueError, "row_weight must have shape (3,)"),
        (lambda: ls.margin_smoothing(ROWS, LABELS, lam=-1, margin=10), ValueError, "lam must be at least 0, got -1"),
        (lambda: ls.margin_smoothing(ROWS, LABELS, lam=0.1, margin=-10), ValueError, "margin must be at least 0, got -10"),
        (lambda: ls.margin_smoothing(ROWS, LABELS, lam=0.1, margin=None), TypeError, "margin must be a number or a tensor"),
        (lambda: ls.margin_smoothing(ROWS, LABELS, lam=0.1, margin=10, reduction="avg"), ValueError, "reduction must be"),
        (lambda: ls.margin_smoothing(ROWS, LABELS[:2], lam=0.1, margin=10), ValueError, "class indices must have shape"),
        (lambda: ls.cross_entropy(ROWS, LABELS, z_loss="a"), TypeError, "z_loss must be a number or a tensor, got str"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(call, error, says):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
