"""Hold the CPU's kernels against the reference in random calls; `make sanitize` does it under sanitizers.

    python benchmarks/fuzz_kernels.py --calls 5000

A call is made from `--seed` and its number, which is printed before it: what a sanitizer stops at is found
again with `--first NUMBER --calls 1`. The last value of an operand ends its memory, whatever its strides.
"""

from __future__ import annotations

import argparse
import random
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import labelsmooth as ls
from labelsmooth.backends import cpu, cpu_library, cpu_sigmoid, reference
from labelsmooth.backends.contract import Request, Statistics

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INF = float("inf")


class Draw(random.Random):
    """The random parts of one call."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        torch.manual_seed(self.getrandbits(32))
        self.rows = self.choice((0, 1, 2, 3, self.randint(4, 40), self.randint(41, 700)))
        most = 200_000 // max(1, self.rows) if self.flip(0.1) else 4000 // max(1, self.rows)
        self.columns = min(
            self.choice((1, 2, 3, 10, self.randint(4, 300), self.randint(4000, 9000))), max(1, most)
        )
        self.dtype = self.choice(DTYPES)

    def flip(self, chance: float = 0.5) -> bool:
        return self.random() < chance

    def layout(self, tensor: Tensor) -> Tensor:
        """The same values in memory of another layout, whose last value ends the memory."""
        if tensor.dim() == 0 or not tensor.numel():
            return tensor
        axis = self.randrange(tensor.dim())
        kind = self.choice(("contiguous", "apart", "permuted", "unaligned", "expanded"))
        if kind == "apart":
            apart = tensor.repeat_interleave(3, axis)
            return apart[(slice(None),) * axis + (slice(2, None, 3),)]
        if kind == "permuted":
            return tensor.movedim(axis, 0).contiguous().movedim(0, axis)
        if kind == "unaligned":
            return torch.cat([tensor.flatten()[:1], tensor.flatten()])[1:].view(tensor.shape)
        if kind == "expanded" and axis == 0 and tensor.dim() > 1:
            return tensor[:1].clone().expand(tensor.shape)
        return tensor.clone()

    def logits(self, *shape: int) -> Tensor:
        """Any numbers of the dtype, −∞ and NaN among them."""
        logits = self.choice((1, 3, 30)) * torch.randn(shape) + self.choice((0, 0, 0, 100))
        if self.flip(0.3):
            logits[torch.rand(shape) < self.choice((0.01, 0.3, 0.9))] = -INF
        if self.flip(0.1):
            logits[torch.rand(shape[:-1]) < 0.3] = -INF
        if self.flip(0.1):
            logits[torch.rand(shape) < 0.01] = self.choice((INF, float("nan")))
        return logits.to(self.dtype)

    def prior(self, *shape: int) -> Tensor:
        prior = torch.rand(shape)
        prior[torch.rand(shape) < self.choice((0, 0.5))] = 0
        prior[..., -1] += 0.1
        return prior / prior.sum(-1, keepdim=True)


def statistics(draw: Draw) -> None:
    """Every statistic and its gradient, of tables and images, whole or a block of columns."""
    batch = (draw.rows,) if draw.flip() else (draw.randint(1, 3), draw.rows)
    rows, columns = batch[0] * (batch[1] if len(batch) > 1 else 1), draw.columns
    first = draw.choice((0, 0, 1, 5))
    num_classes = columns + (first + draw.choice((0, 3)) if first else 0)
    kind = draw.choice(("none", "uniform", "vector", "table"))
    table = draw.randint(1, 5)
    prior = {
        "none": None,
        "uniform": "uniform",
        "vector": draw.prior(columns),
        "table": draw.prior(table, columns),
    }
    picks = draw.choice((None, 0, 1, 2, 9, 20))
    request = Request(
        index=None if picks is None else draw.layout(torch.randint(num_classes, (rows, picks))),
        prior=draw.layout(prior[kind]) if kind in ("vector", "table") else prior[kind],
        prior_row=draw.layout(torch.randint(table, (rows,))) if kind == "table" else None,
        counted=draw.layout(torch.rand(rows) < draw.choice((0, 0.5, 1))) if draw.flip() else None,
        num_classes=num_classes,
        first_class=first,
        finite_support=draw.flip(),
        log_sum_sq=draw.flip(0.4),
        mean_logit=draw.flip(0.4),
    )
    logits = draw.layout(draw.logits(*batch, columns))
    flat = logits.reshape(rows, columns)
    ours, exact = cpu.forward(logits, request), reference.forward(flat.double(), request)
    defined = ~(flat.isnan() | (flat == INF)).any(-1)
    if request.counted is not None:
        defined |= ~request.counted
    for name, part in ours._asdict().items():
        if part is not None:  # backends may differ in what else of a row they take as NaN
            here = defined if part.dim() and name not in ("max", "argmax", "log_sum") else ...
            close(part[here], getattr(exact, name)[here], 1 + largest(flat), name)

    shift_free = draw.flip()
    names = ("log_sum", "at_index", "at_prior", *(() if shift_free else ("max", "log_sum_sq", "mean_logit")))
    grads = {
        name: draw.layout(torch.randn(part.shape).to(part))
        for name in names
        if (part := getattr(ours, name)) is not None and draw.flip(0.7)
    }
    double = Statistics(**{name: grad.double() for name, grad in grads.items()})
    expected = reference.backward(flat.double(), request, exact, double, shift_free=shift_free)
    scale = sum(largest(grad) * (grad.shape[1] if grad.dim() > 1 else 1) for grad in grads.values())
    out = draw.choice((None, draw.layout(torch.empty(logits.shape, dtype=draw.dtype))))
    if out is not None and 0 in out.stride():  # its rows are one
        out = logits if logits.is_contiguous() else None
    gradient = cpu.backward(logits, request, ours, Statistics(**grads), out, shift_free=shift_free)
    gradient = gradient.reshape(rows, columns)
    close(gradient[defined], expected[defined], 8 * scale, f"gradient {sorted(grads)}")


def target_of(draw: Draw, *shape: int) -> tuple[Any, dict[str, Any]]:
    """A target of a batch shape and how it is smoothed."""
    columns, rows = draw.columns, shape
    index = torch.randint(columns, rows)
    smoothing: Any = draw.choice((0.0, 0.1, ls.others(0.2), ls.prior(0.2, draw.prior(columns))))
    if columns < 50 and draw.flip(0.2):
        smoothing = ls.class_conditional(0.3, torch.rand(columns, columns).softmax(-1))
    if draw.flip(0.3):
        picks = draw.choice((1, 2, 9))
        weight = draw.choice((0.25, torch.rand(*rows, picks)))
        index = torch.randint(columns, (*rows, picks))
        prior = draw.choice(({}, {"prior_weight": 0.3}, {"prior": draw.prior(columns), "prior_weight": 0.3}))
        return ls.Mixture(index=draw.layout(index), weight=weight, **prior), {}
    if draw.flip(0.4):
        index[torch.rand(rows) < draw.choice((0.3, 1))] = -100
    return draw.layout(index), {"label_smoothing": smoothing}


def options_of(draw: Draw, *shape: int) -> dict[str, Any]:
    """Settings that both losses take."""
    options: dict[str, Any] = {"reduction": draw.choice(("mean", "sum", "none"))}
    if draw.flip(0.2):
        options["weight"] = torch.rand(draw.columns)
    if draw.flip(0.2):
        options["row_weight"] = draw.layout(torch.rand(shape) * (torch.rand(shape) < 0.8))
    if draw.flip(0.2):
        options["z_loss"] = 1e-3
    return options


def loss(draw: Draw) -> None:
    """The loss of rows or of images, whose class axis is the second, and its gradient, in place too."""
    draw.columns = max(2, draw.columns)
    image = draw.flip(0.4)
    shape = (draw.randint(1, 3), draw.rows) if image else (draw.rows,)
    logits = draw.layout(draw.logits(*shape, draw.columns))
    logits = logits.movedim(-1, 1) if image else logits
    target, smoothing = target_of(draw, *shape)
    options = {**smoothing, **options_of(draw, *shape), "support": draw.choice(("all", "finite"))}
    distinct = 0 not in logits.stride()
    answers = []
    for backend, x in (("cpu", logits.detach()), ("reference", logits.detach().double())):
        inplace = {"inplace_backward": draw.flip()} if backend == "cpu" and distinct and x.numel() else {}
        leaf = x.requires_grad_()
        z = leaf.clone(memory_format=torch.preserve_format)
        value = ls.cross_entropy(z, target, **options, **inplace, backend=backend)
        answers.append((value.detach(), *torch.autograd.grad(value.sum(), leaf)))
    (value, gradient), (exact, expected) = answers
    compare(draw, logits.movedim(1, -1) if image else logits, options, value, exact)
    axis = 1 if image else -1
    defined = expected.movedim(axis, -1).isfinite().all(-1) & logits.movedim(axis, -1).nan_to_num(0, INF).lt(
        INF
    ).all(-1)
    if exact.isfinite().all():
        scale = 100 * max(1.0, largest(expected))
        close(gradient.movedim(axis, -1)[defined], expected.movedim(axis, -1)[defined], scale, "gradient")


def linear_loss(draw: Draw) -> None:
    """The loss of a linear layer, a chunk of rows at a time, and the gradients of the layer."""
    draw.columns = max(2, draw.columns)
    rows, features, dtype = draw.rows, draw.randint(1, 12), draw.dtype
    layer = [torch.randn(rows, features), torch.randn(draw.columns, features) / 4, torch.randn(draw.columns)]
    layer = [draw.layout(part).to(dtype) for part in layer[: 3 if draw.flip() else 2]]
    target, smoothing = target_of(draw, rows)
    options = {**smoothing, **options_of(draw, rows), "chunk_rows": draw.choice((None, 1, 3, 16, 200))}
    if options["chunk_rows"] == 1 and rows > 100:
        options["chunk_rows"] = 7
    answers = []
    for backend in ("cpu", "reference"):
        x, weight, *bias = leaves = [part.detach().requires_grad_() for part in layer]
        options["linear_bias"] = bias[0] if bias else None
        value = ls.linear_cross_entropy(x, weight, target, **options, backend=backend)
        answers.append((value.detach(), *torch.autograd.grad(value.sum(), leaves)))
    (value, *gradients), (exact, *expected) = answers
    compare(draw, torch.full((1,), 30.0), options, value, exact)
    for gradient, other, name in zip(gradients, expected, ("input", "weight", "bias"), strict=False):
        close(
            gradient, other.double(), largest(other) * 8 * torch.finfo(dtype).eps / rounding(dtype) + 1, name
        )


def compare(draw: Draw, logits: Tensor, options: dict[str, Any], value: Tensor, exact: Tensor) -> None:
    scale = (
        10
        * (1 + largest(logits))
        * (max(1, value.numel(), draw.rows * 3) if options["reduction"] == "sum" else 1)
    )
    close(value, exact.double(), scale, "loss")


def rounding(dtype: torch.dtype) -> float:
    """Of what is reckoned from logits of the dtype."""
    return torch.finfo(torch.promote_types(dtype, torch.float32)).eps


def largest(tensor: Tensor) -> float:
    finite = tensor.detach().double()[tensor.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def close(ours: Tensor, exact: Tensor, scale: float, name: str) -> None:
    """Equal to a rounding of the result, and a few of what it is reckoned from, as large as `scale`."""
    if not ours.dtype.is_floating_point:
        assert torch.equal(ours, exact), name
        return
    info = torch.finfo(ours.dtype)
    atol = 16 * rounding(ours.dtype) * scale + info.eps * info.smallest_normal
    torch.testing.assert_close(
        ours.double(), exact, rtol=4 * info.eps, atol=atol, equal_nan=True, msg=lambda m: f"{name}: {m}"
    )


def sigmoids(draw: Draw) -> None:
    """The losses of sigmoids and their gradient, beside torch's own formula in float64."""
    z = draw.layout(draw.logits(draw.rows, draw.columns)).detach().requires_grad_()
    labels = draw.layout(torch.rand(z.shape).round(decimals=draw.choice((0, 1))))
    options: dict[str, Any] = {
        "reduction": draw.choice(("none", "sum")),
        "pos_weight": 3 * torch.rand(draw.columns) if draw.flip() else None,
        "label_smoothing": draw.choice((0.0, 0.1)),
    }
    answers = []
    for logits in (z, z.detach().double().requires_grad_()):
        with torch.enable_grad():
            hindered = torch.autograd.forward_ad.dual_level() if logits is not z else nullcontext()
            with hindered:  # where the kernels do not serve
                value = ls.binary_cross_entropy_with_logits(logits, labels, **options)
        answers.append((value.detach(), *torch.autograd.grad(value.sum(), logits)))
    (value, gradient), (exact, expected) = answers
    scale = (1 + largest(z)) * (max(1, z.numel()) if options["reduction"] == "sum" else 1)
    close(value, exact, 4 * scale, "loss")
    close(gradient, expected, 4, "gradient")


CALLS: tuple[Callable[[Draw], None], ...] = (statistics, statistics, loss, loss, linear_loss, sigmoids)


class Packed:
    """The packer of a record, with an instruction set in the place of the one that was asked for."""

    def __init__(self, record: struct.Struct, isa: int) -> None:
        self._record, self._isa = record, isa

    def pack(self, _: int, *fields: float) -> bytes:
        return self._record.pack(self._isa, *fields)


def every_instruction_set() -> range:
    assert cpu.INSTRUCTION_SET is not None
    return range(cpu_library.INSTRUCTION_SETS.index(cpu.INSTRUCTION_SET) + 1)


def read_beyond_the_end() -> None:
    """What a sanitizer must stop: fewer indices than rows."""
    request = Request(torch.zeros(1, 1, dtype=torch.int64), None, None, None, 2, 0, False, False, False)
    cpu.forward(torch.zeros(1000, 2), request)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--library", type=Path, help="a build of the kernels, instead of the one installed")
    parser.add_argument(
        "--sanitized", action="store_true", help="see first that an access out of bounds is stopped"
    )
    parser.add_argument("--read-beyond-the-end", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library is not None:
        cpu_library.KERNELS, cpu_library.MISSING = cpu_library.load(options.library)
    assert cpu_library.MISSING is None, cpu_library.MISSING
    if options.read_beyond_the_end:
        read_beyond_the_end()
    if options.sanitized:
        command = [sys.executable, *sys.argv, "--read-beyond-the-end"]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "AddressSanitizer: heap-buffer-overflow" in child.stderr, child.stderr

    start, done = time.monotonic(), Counter[str]()
    for number in range(options.first, options.first + options.calls):
        draw = Draw(f"{options.seed} {number}")
        isa, call = draw.choice(every_instruction_set()), draw.choice(CALLS)
        cpu.CALL = Packed(cpu_library.CALL, isa)
        cpu_sigmoid.SIGMOIDS = Packed(cpu_library.SIGMOIDS, isa)
        torch.set_num_threads(draw.choice((1, 2)))
        print(f"\rseed {options.seed} call {number}", end="", file=sys.stderr, flush=True)
        name = f"{call.__name__} {cpu_library.INSTRUCTION_SETS[isa]}"
        try:
            call(draw)
        except Exception:
            print(f"\n{name} {draw.rows}×{draw.columns} {draw.dtype}")
            raise
        done[name] += 1
    print(f"\n{options.calls} calls in {time.monotonic() - start:.0f} s: {dict(sorted(done.items()))}")


if __name__ == "__main__":
    main()
