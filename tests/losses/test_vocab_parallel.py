"""Losses whose classes lie in several processes, against those of whole rows in float64."""

import multiprocessing
import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import labelsmooth as ls

K, ROWS, WIDTH = 13, (2, 6), 5
# columns of each process; with padding behind the last class in some, of which one has no class at all
SHARDS = {
    "uneven": ((4, 2, 7), None),
    "padded": ((5, 5, 5), None),
    "only padding": ((7, 7, 7), (0, 7, 14)),
    "four": ((4, 4, 4, 4), (0, 4, 8, 12)),
}
generator = torch.Generator().manual_seed(0)


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=generator, dtype=dtype)


LOGITS, HIDDEN, WEIGHT, BIAS = 3 * draw(*ROWS, K), draw(*ROWS, WIDTH), draw(K, WIDTH), draw(K)
LABELS = torch.randint(K, ROWS, generator=generator)
LABELS[0, 0], LABELS[1, 1] = -100, 12
LOGITS[0, 1, 3] = -torch.inf
LABELS[0, 1] = 2
LOGITS[0, 2, :9] -= 300
LABELS[0, 2] = 1  # 300 below the maximum, which another process has
LOGITS[1, 0] += 1e4
TABLE = torch.rand(K, K, generator=generator, dtype=torch.float64)
FREQUENCIES = torch.rand(K, generator=generator, dtype=torch.float64)
FINITE = LOGITS.nan_to_num(neginf=-40.0)
CASES = {
    "hard": {},
    "uniform": {"label_smoothing": 0.1},
    "sum": {"label_smoothing": 0.1, "reduction": "sum"},
    "none": {"label_smoothing": 0.1, "reduction": "none"},
    "unigram": {"label_smoothing": ls.prior(0.2, FREQUENCIES / FREQUENCIES.sum())},
    "others": {"label_smoothing": ls.others(0.2)},
    "class_conditional": {"label_smoothing": ls.class_conditional(0.2, TABLE / TABLE.sum(1, keepdim=True))},
    "rows": {"label_smoothing": ls.uniform(torch.linspace(0, 0.5, 12, dtype=torch.float64).reshape(ROWS))},
    "weights": {"label_smoothing": 0.1, "weight": torch.linspace(0, 2, K, dtype=torch.float64)},
    "row weights": {"label_smoothing": 0.1, "row_weight": torch.linspace(0, 1, 12).reshape(ROWS).double()},
    "z_loss": {"label_smoothing": 0.1, "z_loss": 1e-3},
    "denominator": {"label_smoothing": 0.1, "denominator": 77.0},
}
MORE_OF_LINEAR = {"capped": {"label_smoothing": 0.1, "scale": 0.5, "softcap": 3.0}}
# what only the second process is given, and what it says
WRONG_IN_ONE = {
    "float": {"first_class": 4.0},
    "text": {"first_class": "4"},
    "negative": {"first_class": -1},
    "labels": {"target": LABELS[0]},
    "no tensor": {"input": None},
    "backend": {"backend": "tpu"},
    "classes": {"num_classes": K - 1, "target": LABELS.clamp(max=0)},
}
SENTENCES = {
    "float": "InputTypeError: first_class must be an int, got float",
    "text": "InputTypeError: first_class must be an int, got str",
    "negative": "InputError: first_class must be at least 0, got -1",
    "labels": "InputError: class indices must have shape (2, 6), got (6,)",
    "no tensor": "InputTypeError: input must be a float16, bfloat16, float32 or float64 tensor, got NoneType",
    "backend": "InputError: backend must be 'auto', 'reference', 'cpu', 'gpu', got 'tpu'",
}
TARGETS = {
    "dense": torch.rand(*ROWS, K, generator=generator, dtype=torch.float64),
    "mixture": ls.mixup(LABELS.clamp(min=0), LABELS.flip(1).clamp(min=0), 0.3),
}


def calls():
    """Every call by name: the loss, its leaves, its target, its settings."""
    for name, settings in CASES.items():
        logits = (
            LOGITS if name in ("hard", "others") else FINITE
        )  # a class of probability 0 has no smoothed loss
        yield name, "logits", logits, LABELS, settings
    for name, target in TARGETS.items():
        yield name, "logits", FINITE, target, {}
    for name, settings in (CASES | MORE_OF_LINEAR).items():
        yield f"linear, {name}", "linear", None, LABELS, settings | {"chunk_rows": 5}


def whole(kind, logits, target, settings):
    """Loss, statistics and gradients of whole rows."""
    leaves = [t.clone().requires_grad_() for t in ((logits,) if kind == "logits" else (HIDDEN, WEIGHT, BIAS))]
    if kind == "logits":
        loss, stats = ls.cross_entropy(*leaves, target, **settings, class_axis=-1, return_stats=True)
    else:
        x, weight, bias = leaves
        loss, stats = ls.linear_cross_entropy(
            x, weight, target, linear_bias=bias, **settings, return_stats=True
        )
    return loss, stats, torch.autograd.grad(loss.sum(), leaves)


def sharded(kind, logits, target, settings, widths, firsts, group, backend):
    """The same of this process's columns, and how its gradients are laid out."""
    rank = dist.get_rank(group)
    first = sum(widths[:rank])
    columns = torch.arange(first, first + widths[rank]).clamp(max=K - 1)  # padding holds some numbers too
    options = settings | {"num_classes": K, "group": group, "backend": backend}
    options["first_class"] = None if firsts is None else firsts[rank]
    if kind == "logits":
        leaves = [logits[..., columns].clone().requires_grad_()]
        loss, stats = ls.vocab_parallel_cross_entropy(*leaves, target, **options, return_stats=True)
    else:
        leaves = [t.clone().requires_grad_() for t in (HIDDEN, WEIGHT[columns], BIAS[columns])]
        x, weight, bias = leaves
        loss, stats = ls.vocab_parallel_linear_cross_entropy(
            x, weight, target, linear_bias=bias, **options, return_stats=True
        )
    return loss.detach(), stats, torch.autograd.grad(loss.sum(), leaves)


def put_together(kind, gradients, widths):
    """Give the gradients of the whole from those of the processes."""
    ends = torch.tensor((0, *widths)).cumsum(0)
    valid = [max(0, min(width, K - int(start))) for start, width in zip(ends, widths, strict=False)]
    for of_one, width in zip(gradients, valid, strict=True):
        for part in of_one if kind == "logits" else of_one[1:]:
            padding = part[..., width:] if kind == "logits" else part[width:]
            assert torch.equal(padding, torch.zeros_like(padding))
    if kind == "logits":
        return [torch.cat([one[..., :width] for (one,), width in zip(gradients, valid, strict=True)], -1)]
    for x, *_ in gradients:
        assert torch.equal(x, gradients[0][0])
    parts = [[part[:width] for part in of_one[1:]] for of_one, width in zip(gradients, valid, strict=True)]
    return [gradients[0][0], *map(torch.cat, zip(*parts, strict=True))]


def run(rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=2),  # for one that waits for a process that was refused alone
    )
    three = dist.new_group([0, 1, 2])
    results = {}
    for shards, (widths, firsts) in SHARDS.items():
        if rank >= len(widths):
            continue
        for name, *call in calls():
            for backend in ("auto", "reference") if shards == "uneven" else ("auto",):
                group = three if len(widths) == 3 else None
                results[shards, name, backend] = sharded(*call, widths, firsts, group, backend)
    results |= of_dtensors(rank)
    if rank < 3:
        results |= of_one_kind_each(three, rank)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()  # none leaves while another still talks to it
    dist.destroy_process_group()


def of_dtensors(rank):
    """Losses of logits that are DTensors, with the classes on axis 1, over all processes or over two of four."""
    labels = distribute_tensor(LABELS, init_device_mesh("cpu", (4,)), [Replicate()])
    results = {}
    for name, shape, placements, target in (
        ("four", (4,), [Shard(1)], labels),
        ("two of four", (2, 2), [Replicate(), Shard(1)], LABELS),
        ("dense", (4,), [Shard(1)], TARGETS["dense"].movedim(-1, 1)),
    ):
        mesh = init_device_mesh("cpu", shape)
        logits = distribute_tensor(FINITE.movedim(-1, 1).contiguous(), mesh, placements).requires_grad_()
        loss, stats = ls.cross_entropy(logits, target, label_smoothing=0.1, return_stats=True)
        loss.backward()
        assert logits.grad.placements == tuple(placements)
        results[f"DTensor, {name}"] = loss.full_tensor().detach(), stats, logits.grad.full_tensor()
    for name, placements, settings in (
        ("rows too", [Shard(0), Shard(1)], {}),
        ("rows", [Replicate(), Shard(0)], {}),
        ("in full", [Replicate(), Replicate()], {}),
        ("class axis", [Replicate(), Replicate()], {"class_axis": 3}),
        ("finite", [Replicate(), Shard(1)], {"support": "finite"}),
    ):
        logits = distribute_tensor(
            FINITE.movedim(-1, 1).contiguous(), init_device_mesh("cpu", (2, 2)), placements
        )
        results[f"DTensor, {name}"] = error_of(lambda: ls.cross_entropy(logits, LABELS, **settings))  # noqa: B023
    head = distribute_tensor(WEIGHT, mesh, [Shard(0)])
    refused = {
        "labels": lambda: ls.cross_entropy(LOGITS, labels, class_axis=-1),
        "penalty": lambda: ls.confidence_penalty(logits, LABELS, beta=0.1),
        "features": lambda: ls.linear_cross_entropy(logits, WEIGHT, LABELS),
        "head": lambda: ls.linear_cross_entropy(HIDDEN, head, LABELS),
        "sharded": lambda: ls.vocab_parallel_cross_entropy(logits, LABELS, num_classes=K),
        "sharded head": lambda: ls.vocab_parallel_linear_cross_entropy(HIDDEN, head, LABELS, num_classes=K),
    }
    return results | {f"DTensor, {name}": error_of(call) for name, call in refused.items()}


def error_of(call):
    try:
        call()
    except (ValueError, TypeError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def of_one_kind_each(group, rank):
    """Calls that have no other form: rows in shares, half the width, a second derivative, what is refused."""
    own = slice(4 * rank, 4 * rank + 4 + (rank == 2))
    flat, labels = HIDDEN.flatten(0, 1), LABELS.flatten()
    share = flat[4 * rank : 4 * rank + 4].clone().requires_grad_()
    loss = ls.vocab_parallel_linear_cross_entropy(
        share, WEIGHT[own], labels, num_classes=K, group=group, label_smoothing=0.1, sequence_parallel=True
    )
    results = {"rows in shares": (loss.detach(), *torch.autograd.grad(loss, share))}
    half = FINITE[..., own].bfloat16().requires_grad_()
    loss = ls.vocab_parallel_cross_entropy(half, LABELS, num_classes=K, group=group, label_smoothing=0.1)
    results["half"] = (loss.detach(), *torch.autograd.grad(loss, half))
    for rows in (0, 1, 5):  # of which the last is a chunk of its own
        x, y = HIDDEN.flatten(0, 1)[:rows].float().requires_grad_(), labels[1 : rows + 1]
        loss, stats = ls.vocab_parallel_linear_cross_entropy(
            x, WEIGHT[own].float(), y, num_classes=K, group=group, chunk_rows=4, return_stats=True
        )
        results[f"{rows} rows"] = loss.detach(), stats.lse, *torch.autograd.grad(loss, x)
    logits = FINITE[..., own].clone().requires_grad_()
    linear = torch.nn.Linear(WIDTH, own.stop - own.start, dtype=torch.float64)
    refused = {
        "second derivative": lambda: torch.autograd.grad(
            ls.vocab_parallel_cross_entropy(logits, LABELS, num_classes=K, group=group),
            logits,
            create_graph=True,
        ),
        "second derivative, linear": lambda: torch.autograd.grad(
            ls.vocab_parallel_linear_cross_entropy(HIDDEN, linear, LABELS, num_classes=K, group=group),
            linear.weight,
            create_graph=True,
        ),
        "too few": lambda: ls.vocab_parallel_cross_entropy(
            logits[..., :3], LABELS, num_classes=K, group=group
        ),
        "out of order": lambda: ls.vocab_parallel_cross_entropy(
            logits, LABELS, num_classes=K, group=group, first_class=0
        ),
        "transform": lambda: torch.func.grad(
            lambda z: ls.vocab_parallel_cross_entropy(z, LABELS, num_classes=K, group=group)
        )(logits.detach()),
        "dense": lambda: ls.vocab_parallel_cross_entropy(
            logits, TARGETS["dense"].clone().requires_grad_(), num_classes=K, group=group
        ),
        "weight": lambda: ls.vocab_parallel_cross_entropy(
            logits, LABELS, torch.ones(5), num_classes=K, group=group
        ),
    }
    for name, settings in WRONG_IN_ONE.items():
        own = settings if rank == 1 else {}
        refused[f"{name}, in one"] = lambda own=own: ls.vocab_parallel_cross_entropy(
            **{"input": logits, "target": LABELS, "num_classes": K, "group": group} | own
        )
        refused[f"{name}, in one, linear"] = lambda own=own: ls.vocab_parallel_linear_cross_entropy(
            **{"input": HIDDEN, "linear_weight": linear, "target": LABELS, "num_classes": K, "group": group}
            | own
        )
    return results | {name: error_of(call) for name, call in refused.items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of four processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(4)]


pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")


@pytest.mark.parametrize(
    ("shards", "backend"), [*((shards, "auto") for shards in SHARDS), ("uneven", "reference")]
)
def test_shards_give_loss_statistics_and_gradients_of_the_whole(results, shards, backend):
    widths, _ = SHARDS[shards]
    for name, kind, *call in calls():
        losses, stats, gradients = zip(
            *(results[rank][shards, name, backend] for rank in range(len(widths))), strict=True
        )
        loss, of_whole, exact = whole(kind, *call)
        for mine in losses:
            assert torch.equal(mine, losses[0]), name
        torch.testing.assert_close(losses[0], loss.detach(), rtol=1e-12, atol=1e-12)
        for mine, its in zip(put_together(kind, gradients, widths), exact, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)
        assert torch.equal(stats[0].argmax, of_whole.argmax)
        assert torch.equal(stats[0].counted, of_whole.counted)
        for number in ("max", "log_sum", "at_index", "at_prior", "log_sum_sq", "mean_logit"):
            mine, its = (getattr(one, number) for one in (stats[0], of_whole))
            assert (mine is None) == (its is None)
            if mine is not None:
                torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_rows_in_shares_get_their_gradients(results):
    """As by sequence parallelism."""
    x = HIDDEN.clone().requires_grad_()
    loss = ls.linear_cross_entropy(x, WEIGHT, LABELS, label_smoothing=0.1)
    (of_input,) = torch.autograd.grad(loss, x)
    for rank, share in enumerate(of_input.flatten(0, 1).split(4)):
        mine, gradient = results[rank]["rows in shares"]
        torch.testing.assert_close(mine, loss.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, share, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["four", "two of four", "dense"])
def test_dtensors_are_taken_as_they_are(results, name):
    target = TARGETS["dense"].movedim(-1, 1) if name == "dense" else LABELS
    logits = FINITE.movedim(-1, 1).clone().requires_grad_()
    exact, of_whole = ls.cross_entropy(logits, target, label_smoothing=0.1, return_stats=True)
    (gradient,) = torch.autograd.grad(exact, logits)
    for of_one in results:
        loss, stats, mine = of_one[f"DTensor, {name}"]
        torch.testing.assert_close(loss, exact.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(mine, gradient, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(stats.lse, of_whole.lse, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_few_rows_of_float32(results, rows):
    x = HIDDEN.flatten(0, 1)[:rows].clone().requires_grad_()
    exact, of_whole = ls.linear_cross_entropy(x, WEIGHT, LABELS.flatten()[1 : rows + 1], return_stats=True)
    (gradient,) = torch.autograd.grad(exact, x)
    for rank in range(3):
        for mine, its in zip(
            results[rank][f"{rows} rows"], (exact.detach(), of_whole.lse, gradient), strict=True
        ):
            torch.testing.assert_close(mine.double(), its, rtol=1e-5, atol=1e-6)


def test_half_the_width_has_float32_losses_and_rounded_gradients(results):
    half = FINITE.bfloat16()
    exact = half.double().requires_grad_()
    loss = ls.cross_entropy(exact, LABELS, label_smoothing=0.1, class_axis=-1)
    (gradient,) = torch.autograd.grad(loss, exact)
    losses, gradients = zip(*(results[rank]["half"] for rank in range(3)), strict=True)
    assert losses[0].dtype == torch.float32
    torch.testing.assert_close(losses[0].double(), loss.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.cat(gradients, -1).double(), gradient, rtol=2**-8, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("second derivative", "RuntimeError: a loss of sharded classes has no second derivative"),
        ("second derivative, linear", "RuntimeError: a loss of sharded classes has no second derivative"),
        ("too few", "InputError: the processes must have 13 columns in all, got [3, 3, 3]"),
        (
            "out of order",
            "InputError: blocks of [4, 4, 5] columns must begin at the classes [0, 4, 8], got [0, 0, 0]",
        ),
        (
            "transform",
            "InputError: a loss of sharded classes cannot be computed where it is inside a torch.func",
        ),
        ("dense", "InputError: a loss of sharded classes has a gradient in its logits"),
        *(
            (f"DTensor, {name}", "InputError: a DTensor of logits must be sharded on its classes over one")
            for name in ("rows too", "rows", "in full")
        ),
        ("DTensor, class axis", "InputError: input must have shape (…) with an axis 3, got (2, 13, 6)"),
        *(
            (f"DTensor, {name}", f"InputTypeError: {argument} must be a plain tensor, got a DTensor in (")
            for name, argument in {
                "labels": "target",
                "penalty": "input",
                "features": "input",
                "head": "linear_weight",
                "sharded": "input",
                "sharded head": "linear_weight",
            }.items()
        ),
        ("DTensor, finite", "InputError: logits sharded on their classes go without support='finite'"),
        ("weight", "InputError: weight must have shape (13,), got (5,)"),
    ],
)
def test_what_is_refused_is_refused_in_every_process(results, name, says):
    for rank in range(3):
        assert results[rank][name].startswith(says)


@pytest.mark.parametrize("name", SENTENCES)
@pytest.mark.parametrize("kind", ["", ", linear"])
def test_what_is_wrong_in_one_process_ends_all(results, kind, name):
    for rank in range(3):
        elsewhere = "InputError: the arguments of the processes [1] of the group were refused there"
        assert results[rank][f"{name}, in one{kind}"].startswith(SENTENCES[name] if rank == 1 else elsewhere)


@pytest.mark.parametrize("kind", ["", ", linear"])
def test_processes_that_differ_are_refused_in_all(results, kind):
    for rank in range(3):
        assert results[rank][f"classes, in one{kind}"] == (
            "InputError: the processes must have the same rows and num_classes, "
            "got [12, 12, 12] rows and num_classes=[13, 12, 13]"
        )


def test_without_processes_it_is_one_sentence():
    with pytest.raises(ValueError, match=r"processes of torch\.distributed, which is not initialised"):
        ls.vocab_parallel_cross_entropy(FINITE, LABELS, num_classes=K)


if __name__ == "__main__":
    # nothing leaves the machine
    os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    fork = multiprocessing.get_context("fork")  # of an interpreter that has computed nothing yet
    processes = [fork.Process(target=run, args=(rank, 4, sys.argv[1])) for rank in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in processes))
