"""What torch builds on operators and losses: its own checks of an operator, compilation, autocast, several processes."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.parallel import DistributedDataParallel

import labelsmooth as ls
from labelsmooth.backends import cpu, op

needs_kernels = pytest.mark.skipif(cpu.INSTRUCTION_SET is None, reason="the CPU's kernels are not built")
FEEDS = ["reference", pytest.param("cpu", marks=needs_kernels)]


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pick(high, *shape, seed=1):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


# --- the operators

# index, prior, prior_row, counted, uniform, num_classes, first_class, finite, log_sum_sq, mean_logit
OPTIONS = {
    "bare": (None, None, None, None, False, 7, 0, False, False, False),
    "index": (pick(7, 4, 2), None, None, None, False, 7, 0, False, False, False),
    "uniform": (pick(7, 4, 1), None, None, None, True, 7, 0, False, True, True),
    "vector": (pick(7, 4, 3), torch.linspace(0, 1, 7), None, None, False, 7, 0, False, True, True),
    "finite": (None, torch.linspace(0, 1, 7), None, None, False, 7, 0, True, False, True),
    "table": (pick(7, 4, 1), draw(3, 7).softmax(-1), pick(3, 4), None, False, 7, 0, False, False, False),
    "counted": (pick(7, 4, 1), None, None, pick(2, 4) == 1, True, 7, 0, False, True, True),
    "block": (pick(21, 4, 2), torch.linspace(0, 1, 7), None, None, False, 21, 7, False, True, False),
}


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("transposed", [False, True])
def test_opcheck(options, dtype, transposed):
    """Schema, fake tensors and autograd of both operators, also with a number of rows that is not known.

    The operator of the gradient has no gradient of its own: a second derivative is the reference's.
    """
    logits, arguments = draw(4, 7, dtype=torch.float64).to(dtype), (*OPTIONS[options], "cpu")
    if transposed:
        logits = logits.t().contiguous().t()
    torch.library.opcheck(torch.ops.labelsmooth.row_stats, (logits.requires_grad_(), *arguments))

    logits = logits.detach()
    stats = torch.ops.labelsmooth.row_stats(logits, *arguments)
    wanted = op._wanted(logits, op._request(*arguments[:-1]))
    stats = [s if w else None for s, w in zip(stats, wanted, strict=True)]
    grads = [
        torch.ones_like(s) if s is not None and name in op.DIFFERENTIABLE else None
        for name, s in zip(wanted._fields, stats, strict=True)
    ]
    torch.library.opcheck(torch.ops.labelsmooth.row_stats_backward, (logits, *arguments, stats, grads))


@needs_kernels
def test_rows_of_a_table_that_do_not_exist_are_refused_in_a_graph():
    """Nothing is checked while tracing; the kernel must not read where there is nothing."""
    table = torch.full((10, 10), 0.1)

    @torch.compile(fullgraph=True, backend="eager")
    def loss(logits, row):
        return ls.cross_entropy(logits, ls.Mixture(prior=table, prior_weight=1.0, prior_row=row))

    row = torch.arange(8)
    torch.testing.assert_close(loss(draw(8, 10), row), ls.cross_entropy(draw(8, 10), table[row]))
    row[3] = 10**12
    with pytest.raises(ValueError, match="prior_row must lie in 0..9"):
        loss(draw(8, 10), row)


# --- numerical gradients

LOSSES = {
    "index": lambda z, y: ls.cross_entropy(z, y, label_smoothing=0.1),
    "rows": lambda z, y: ls.cross_entropy(z, y, reduction="none", label_smoothing=ls.others(0.2)),
    "stats": lambda z, y: ls.cross_entropy(z, y, label_smoothing=0.1, return_stats=True)[0],
    "z_loss": lambda z, y: ls.cross_entropy(z, y, label_smoothing=0.1, z_loss=0.01),
    "weights": lambda z, y: ls.cross_entropy(z, y, torch.linspace(0, 2, z.shape[1]).double(), label_smoothing=0.1),
    "dense": lambda z, y: ls.cross_entropy(z, F.one_hot(y.clamp(min=0), z.shape[1]).double() * 0.7, label_smoothing=0.1),
    "mixup": lambda z, y: ls.cross_entropy(z, ls.mixup(y.clamp(min=0), y.flip(0).clamp(min=0), 0.3, 0.1, z.shape[1])),
    "ls.row_stats": lambda z, y: ls.row_stats(z, y[:, None].clamp(min=0), "uniform", mean_logit=True).entropy,
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backend", FEEDS)
def test_gradcheck(monkeypatch, backend, loss):
    for name in ("cross_entropy", "linear_cross_entropy", "row_stats"):
        function = getattr(ls, name)
        monkeypatch.setattr(ls, name, lambda *a, _f=function, **k: _f(*a, **k, backend=backend))
    logits, target = draw(4, 5, dtype=torch.float64).requires_grad_(), pick(5, 4)
    target[1] = -100
    assert gradcheck(LOSSES[loss], (logits, target))
    assert gradgradcheck(LOSSES[loss], (logits, target))


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("backend", FEEDS)
def test_gradcheck_of_the_linear_loss(backend, reduction):
    layer = [
        draw(*shape, seed=i, dtype=torch.float64).requires_grad_()
        for i, shape in enumerate([(5, 3), (4, 3), (4,)])
    ]
    target = pick(4, 5)
    target[2] = -100

    def loss(x, weight, bias):
        return ls.linear_cross_entropy(
            x,
            weight,
            target,
            linear_bias=bias,
            label_smoothing=0.1,
            z_loss=0.01,
            reduction=reduction,
            chunk_rows=2,
            backend=backend,
        )

    assert gradcheck(loss, layer)
    assert gradgradcheck(loss, layer)


# --- torch.compile


@pytest.mark.parametrize("name", ["index", "rows", "stats", "z_loss", "weights", "dense", "mixup"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_without_a_break_and_for_any_number_of_rows(name, dtype):
    """Forward and backward equal those of the eager call; after the first change of the size none recompiles."""
    from torch._dynamo.testing import CompileCounterWithBackend  # seconds to import

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(LOSSES[name], fullgraph=True, backend=counter)
    frames = []
    for rows in (6, 9, 14, 3, 40):
        logits, target = draw(rows, 11).to(dtype).requires_grad_(), pick(11, rows)
        if name != "mixup":
            target[1] = -100
        ours, eager = compiled(logits, target), LOSSES[name](logits, target)
        assert ours.dtype == eager.dtype
        torch.testing.assert_close(ours, eager, rtol=1e-6, atol=1e-7)
        mine, its = (torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, eager))
        assert mine.dtype == dtype
        torch.testing.assert_close(mine, its, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
        frames.append(counter.frame_count)
    assert frames[1:] == [frames[1]] * 4
    assert frames[-1] <= 2


# --- torch.autocast


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.last = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x, target, loss):
        features = self.hidden(x).relu()
        if loss == "linear":
            return ls.linear_cross_entropy(
                features, self.last.weight, target, linear_bias=self.last.bias, label_smoothing=0.1
            )
        return {"ours": ls, "theirs": F}[loss].cross_entropy(self.last(features), target, label_smoothing=0.1)


@pytest.mark.parametrize("loss", ["ours", "linear"])
def test_autocast(loss):
    """Layers in bfloat16, loss in float32, gradients in the dtype of the parameters, as with F.cross_entropy."""
    x, target = draw(64, 6), pick(5, 64)
    results = {}
    for which in (loss, "theirs"):
        model = Model()
        seen = []
        model.last.register_forward_hook(lambda m, i, o, seen=seen: seen.append((i[0].dtype, o.dtype)))
        with torch.autocast("cpu", torch.bfloat16):
            value = model(x, target, which)
        assert value.dtype == torch.float32
        assert all(dtypes == (torch.bfloat16, torch.bfloat16) for dtypes in seen)
        value.backward()
        results[which] = [value.detach(), *(p.grad for p in model.parameters())]
        for parameter in model.parameters():
            assert parameter.grad.dtype == parameter.dtype
    for mine, its in zip(results[loss], results["theirs"], strict=True):
        assert (mine - its).abs().max() <= 0.02 * its.abs().max()


# --- two processes

ROWS = 12


def batch():
    x, target = draw(2 * ROWS, 6), pick(5, 2 * ROWS)
    target[[0, 1, 2, 3, 17]] = -100  # the two halves have 8 and 11 rows that count
    return x, target


class Trained(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.hidden, self.last = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x, target, denominator):
        features = self.hidden(x).relu()
        settings = {"label_smoothing": 0.1, "denominator": denominator}
        if self.kind == "linear":
            bias = self.last.bias
            return ls.linear_cross_entropy(
                features, self.last.weight, target, linear_bias=bias, chunk_rows=5, **settings
            )
        return ls.cross_entropy(self.last(features), target, **settings)


def one_of_two(rank, meeting, results):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = (
        "lo" if sys.platform == "linux" else "lo0"
    )  # nothing leaves the machine
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        x, target = (t[rank * ROWS : (rank + 1) * ROWS] for t in batch())
        count = (target != -100).sum()
        dist.all_reduce(count)
        for kind in ("logits", "linear"):
            model = DistributedDataParallel(Trained(kind))
            model(x, target, count / 2).backward()  # DDP takes the mean over the processes
            torch.save([p.grad for p in model.parameters()], f"{results}/{kind}{rank}.pt")
        dist.barrier()  # neither leaves while the other still talks to it
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_have_the_gradients_of_one(tmp_path):
    """With the number of rows that count in all of the batch for a denominator."""
    # from an interpreter of its own, to which no other test has done anything
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    x, target = batch()
    for kind in ("logits", "linear"):
        model = Trained(kind)
        model(x, target, None).backward()
        for rank in (0, 1):
            for theirs, p in zip(torch.load(tmp_path / f"{kind}{rank}.pt"), model.parameters(), strict=True):
                torch.testing.assert_close(theirs, p.grad, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    torch.multiprocessing.spawn(one_of_two, (f"{sys.argv[1]}/meeting", sys.argv[1]), nprocs=2)
