"""The contests: the work, its size, the peers, and the goals for ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from labelsmooth import losses
from labelsmooth.bench.contest import Contest, Goal, Peer, Size, Unavailable
from labelsmooth.bench.timing import Call

EPS = 0.1
GROUPS = {
    "loss": "The mean loss at ε = 0.1 and the gradient of its logits, which are a leaf.",
    "classes": "Loss and gradient for few classes, once as rows of a table and once as images of 128×128 "
    "pixels, whose class axis is the second. There is no goal.",
    "inplace": "Loss and gradient with `inplace_backward=True`, where the gradient takes the place of the "
    "logits; these are not a leaf, and are restored between the runs, off the clock.",
    "forward": "The mean loss at ε = 0.1 alone, under `torch.no_grad`.",
    "compile": "Loss and gradient, against torch's loss compiled by inductor for that very shape, "
    "off the clock.",
    "accuracy": "How far the mean loss of bfloat16 logits is from that of the same logits in float64.",
    "smoothing": "The cost of ε = 0.1 over ε = 0 in our loss and gradient.",
    "linear": "A linear layer and the mean loss of its logits at ε = 0.1, with the gradients of the layer's "
    "input and weight. The memory is what a call takes at its peak beyond its inputs and these gradients.",
}

Loss = Callable[..., Tensor]
_ours: Loss = losses.cross_entropy
_our_linear: Loss = losses.linear_cross_entropy
_BLOCK = 1 << 24  # logits that are float64 at a time


def contests(groups: Sequence[str] = tuple(GROUPS), scale: float = 1.0) -> list[Contest]:
    """Return the contests of the groups, in the order of `GROUPS`.

    Args:
        groups: keys of `GROUPS`.
        scale: the share of the rows to take, in (0, 1], at least one row; classes and features stay.
    """
    return [
        replace(contest, size=replace(contest.size, rows=math.ceil(contest.size.rows * scale)))
        for contest in _all_contests()
        if contest.group in groups
    ]


_BOTH, _TORCH = "loss, forward and backward", "F.cross_entropy"


def _all_contests() -> list[Contest]:
    vocabulary = (Size(rows=2048, classes=32000), Size(rows=512, classes=128256))
    return [
        *_loss(vocabulary),
        *_few_classes(),
        *_in_place(vocabulary),
        *_forward_alone(vocabulary),
        *_compiled(vocabulary),
        *_accuracy(vocabulary),
        *_cost_of_smoothing(vocabulary),
        *_linear(Size(rows=1024, features=512, classes=32000)),
    ]


def _loss(vocabulary: tuple[Size, ...]) -> list[Contest]:
    return [
        Contest(
            group="loss",
            work=_BOTH,
            size=size,
            inputs=_logits,
            ours=partial(_backward, _ours),
            peers=(
                Peer(name=_TORCH, make=partial(_backward, F.cross_entropy), goal=_faster(limit)),
                *([Peer(name="logits.clone()", make=_clone, goal=_faster(1))] if with_clone else ()),
            ),
        )
        for size, limit, with_clone in [
            (Size(rows=128, classes=10), 1, False),
            (Size(rows=256, classes=1000), 2.5, False),
            (Size(rows=4096, classes=1000), 5, False),
            *((size, 9, True) for size in vocabulary),
            *((_half(size), 6, False) for size in vocabulary),
        ]
    ]


def _few_classes() -> list[Contest]:
    return [
        Contest(
            group="classes",
            work=_BOTH + (", pixels of images" if inputs is _pixels else ""),
            size=Size(rows=131072, classes=classes),
            inputs=inputs,
            ours=partial(_backward, _ours),
            peers=(Peer(name=_TORCH, make=partial(_backward, F.cross_entropy)),),
        )
        for inputs in (_logits, _pixels)
        for classes in (2, 21)
    ]


def _in_place(vocabulary: tuple[Size, ...]) -> list[Contest]:
    return [
        Contest(
            group="inplace",
            work="loss, forward and in-place backward",
            size=size,
            inputs=_logits,
            ours=partial(_backward_to_activation, partial(_ours, inplace_backward=True)),
            peers=(
                Peer(
                    name=_TORCH,
                    make=partial(_backward_to_activation, F.cross_entropy),
                    goal=_faster(limit),
                ),
            ),
        )
        for size, limit in [
            *((size, 12) for size in vocabulary),
            *((_half(size), 9) for size in vocabulary),
        ]
    ]


def _forward_alone(vocabulary: tuple[Size, ...]) -> list[Contest]:
    return [
        Contest(
            group="forward",
            work="loss, forward alone",
            size=size,
            inputs=_logits,
            ours=partial(_forward, _ours),
            peers=(Peer(name=_TORCH, make=partial(_forward, F.cross_entropy), goal=_faster(limit)),),
        )
        for size, limit in [(vocabulary[0], 8), (_half(vocabulary[0]), 5)]
    ]


def _compiled(vocabulary: tuple[Size, ...]) -> list[Contest]:
    return [
        Contest(
            group="compile",
            work=_BOTH,
            size=size,
            inputs=_logits,
            ours=partial(_backward, _ours),
            peers=(
                Peer(name="torch.compile(F.cross_entropy)", make=_compiled_backward, goal=_faster(limit)),
            ),
        )
        for size, limit in [(Size(rows=4096, classes=1000), 2), *((size, 3) for size in vocabulary)]
    ]


def _accuracy(vocabulary: tuple[Size, ...]) -> list[Contest]:
    return [
        Contest(
            group="accuracy",
            work="value of the mean loss",
            size=_half(size),
            unit="relative error",
            inputs=_logits,
            ours=partial(_relative_error, _ours),
            peers=(
                Peer(
                    name=_TORCH,
                    make=partial(_relative_error, F.cross_entropy),
                    goal=Goal(of="ours", limit=1e-6),
                ),
            ),
        )
        for size in vocabulary
    ]


def _cost_of_smoothing(vocabulary: tuple[Size, ...]) -> list[Contest]:
    return [
        Contest(
            group="smoothing",
            work=_BOTH,
            size=size,
            inputs=_logits,
            ours=partial(_backward, _ours),
            peers=(
                Peer(
                    name="ours at ε = 0",
                    make=partial(_backward, _ours, eps=0.0),
                    goal=Goal(of="cost", limit=1.02),
                ),
            ),
        )
        for size in (Size(rows=4096, classes=1000), vocabulary[0])
    ]


def _linear(size: Size) -> list[Contest]:
    eager = "F.linear, F.cross_entropy"
    # torch cannot smooth in chunks; it chooses small ones, and eight take the memory that ours may take
    chunked = "F.linear_cross_entropy, ε = 0, its choice of chunks"
    in_eight = "F.linear_cross_entropy, ε = 0, 8 chunks"
    ours = partial(_layer_backward, _our_linear)
    smaller_chunks = tuple(
        Peer(
            name=f"ours with chunk_rows={rows}",
            make=partial(_layer_backward, partial(_our_linear, chunk_rows=rows)),
        )
        for rows in (256, 128)
    )
    return [
        Contest(
            group="linear",
            work="layer and loss, forward and backward",
            size=size,
            inputs=_layer,
            ours=ours,
            peers=(
                Peer(
                    name="its three matrix products alone", make=_products, goal=Goal(of="cost", limit=1.04)
                ),
                Peer(name=eager, make=partial(_layer_backward, _through_logits), goal=_faster(1.25)),
                Peer(name=chunked, make=_chunked, goal=_faster(2)),
                Peer(name=in_eight, make=partial(_chunked, chunks=8)),
                *smaller_chunks,
            ),
        ),
        Contest(
            group="linear",
            work="extra peak memory of that",
            size=size,
            unit="bytes",
            inputs=_layer,
            ours=ours,
            peers=(
                Peer(
                    name=eager,
                    make=partial(_layer_backward, _through_logits),
                    goal=Goal(of="ours", limit=size.rows * size.classes * size.dtype.itemsize / 8),
                ),
                Peer(name=chunked, make=_chunked),
                Peer(name=in_eight, make=partial(_chunked, chunks=8)),
                *smaller_chunks,
            ),
        ),
    ]


def _faster(limit: float) -> Goal:
    return Goal(of="speed-up", limit=limit)


def _half(size: Size) -> Size:
    return replace(size, dtype=torch.bfloat16)


def _logits(size: Size) -> tuple[Tensor, Tensor]:  # (N, K), (N,)
    """Return logits, a leaf, and target."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(size.rows, size.classes, generator=generator).to(size.dtype)
    return logits.requires_grad_(), torch.randint(size.classes, (size.rows,), generator=generator)


def _pixels(size: Size) -> tuple[Tensor, Tensor]:  # (B, K, 128, 128), (B, 128, 128)
    """Return logits, a leaf, and target of whole images, at least one."""
    images = -(-size.rows // 128**2)
    logits, target = _logits(replace(size, rows=images * 128**2))
    square = (images, 128, 128)
    return logits.detach().reshape(images, size.classes, 128, 128).requires_grad_(), target.reshape(square)


def _layer(size: Size) -> tuple[Tensor, Tensor, Tensor]:  # (N, H), (K, H), (N,)
    """Return input and weight of the layer, both leaves, and target."""
    assert size.features is not None
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(size.rows, size.features, generator=generator)
    weight = torch.randn(size.classes, size.features, generator=generator).mul_(size.features**-0.5)
    return (
        features.to(size.dtype).requires_grad_(),
        weight.to(size.dtype).requires_grad_(),
        torch.randint(size.classes, (size.rows,), generator=generator),
    )


def _backward(loss: Loss, logits: Tensor, target: Tensor, eps: float = EPS) -> Call:
    def run() -> Tensor | None:
        loss(logits, target, label_smoothing=eps).backward()  # type: ignore[no-untyped-call]
        gradient, logits.grad = logits.grad, None
        return gradient

    return Call(run)


def _compiled_backward(logits: Tensor, target: Tensor) -> Call:
    torch.compiler.reset()  # else the shapes of earlier contests count as recompilations
    compiled = torch.compile(F.cross_entropy, dynamic=False)
    call = _backward(compiled, logits, target)
    try:
        call.run()
    except RuntimeError as error:  # of Dynamo or inductor, with a page of advice after the first line
        raise Unavailable(str(error).strip().splitlines()[0]) from error
    return call


def _backward_to_activation(loss: Loss, logits: Tensor, target: Tensor) -> Call:
    activation = logits.clone()  # has a history, as the output of a layer does, and the backward ends there

    def prepare() -> None:
        activation.detach().copy_(logits.detach())

    def run() -> Tensor:
        (gradient,) = torch.autograd.grad(loss(activation, target, label_smoothing=EPS), activation)
        return gradient

    return Call(run, prepare)


def _forward(loss: Loss, logits: Tensor, target: Tensor) -> Call:
    def run() -> Tensor:
        with torch.no_grad():
            return loss(logits, target, label_smoothing=EPS)

    return Call(run)


def _clone(logits: Tensor, target: Tensor) -> Call:  # noqa: ARG001
    return Call(logits.detach().clone)


def _relative_error(loss: Loss, logits: Tensor, target: Tensor) -> Call:
    def run() -> float:
        with torch.no_grad():
            return abs(loss(logits, target, label_smoothing=EPS).item() / _exact(logits, target) - 1)

    return Call(run)


def _exact(logits: Tensor, target: Tensor) -> float:
    """Compute the mean loss in float64, by torch, a few rows at a time."""
    rows = max(1, _BLOCK // logits.shape[1])
    total = math.fsum(
        F.cross_entropy(block.double(), labels, label_smoothing=EPS, reduction="sum").item()
        for block, labels in zip(torch.split(logits, rows), torch.split(target, rows), strict=True)
    )
    return total / len(logits)


def _layer_backward(loss: Loss, features: Tensor, weight: Tensor, target: Tensor, eps: float = EPS) -> Call:
    def run() -> tuple[Tensor | None, ...]:
        loss(features, weight, target, label_smoothing=eps).backward()  # type: ignore[no-untyped-call]
        gradients = features.grad, weight.grad
        features.grad = weight.grad = None
        return gradients

    return Call(run)


def _through_logits(features: Tensor, weight: Tensor, target: Tensor, *, label_smoothing: float) -> Tensor:
    return F.cross_entropy(F.linear(features, weight), target, label_smoothing=label_smoothing)


def _chunked(features: Tensor, weight: Tensor, target: Tensor, chunks: int | None = None) -> Call:
    """Return torch's chunked loss and gradient, in so many chunks or in as many as torch chooses."""
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise Unavailable(f"torch has it from 2.13 on, and this is {torch.__version__}")
    rows = None if chunks is None else math.ceil(len(features) / chunks)
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows)
    return _layer_backward(
        partial(F.linear_cross_entropy, options=options), features, weight, target, eps=0.0
    )


def _products(features: Tensor, weight: Tensor, target: Tensor) -> Call:  # noqa: ARG001
    x, w = features.detach(), weight.detach()
    logits = x.new_empty(len(x), len(w))
    slope = torch.randn_like(logits)
    x_slope, w_slope = torch.empty_like(x), torch.empty_like(w)

    def run() -> None:
        torch.mm(x, w.T, out=logits)
        torch.mm(slope, w, out=x_slope)
        torch.mm(slope.T, x, out=w_slope)

    return Call(run)
