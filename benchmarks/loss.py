"""Time the loss against F.cross_entropy(label_smoothing=0.1), forward and backward, in one interleaved run.

    python benchmarks/loss.py

Prints, for each shape and dtype, the median time of both, and the median and range of their ratio over the
repetitions: above 1 ours is faster.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import labelsmooth as ls

SHAPES = ((128, 10), (256, 1000), (4096, 1000), (2048, 32000), (512, 128256))
REPETITIONS = 9


def seconds(loss: Callable[..., Tensor], logits: Tensor, target: Tensor, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        logits.grad = None
        loss(logits, target, label_smoothing=0.1).backward()
    return (time.perf_counter() - start) / calls


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {REPETITIONS} repetitions")
    print("  rows×classes  dtype      torch ms    ours ms  torch/ours         range")
    for dtype in (torch.float32, torch.bfloat16):
        for rows, classes in SHAPES:
            generator = torch.Generator().manual_seed(0)
            logits = torch.randn(rows, classes, generator=generator).to(dtype).requires_grad_()
            target = torch.randint(classes, (rows,), generator=generator)
            calls = max(1, 2_000_000 // (rows * classes))
            theirs, ours = [], []
            for _ in range(REPETITIONS + 1):
                theirs.append(seconds(F.cross_entropy, logits, target, calls))
                ours.append(seconds(ls.cross_entropy, logits, target, calls))
            theirs, ours = theirs[1:], ours[1:]  # the first repetition warms up
            ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
            print(
                f"{f'{rows}×{classes}':>14}  {str(dtype).removeprefix('torch.'):8}"
                f"  {1e3 * statistics.median(theirs):9.3f}  {1e3 * statistics.median(ours):9.3f}"
                f"  {statistics.median(ratios):10.2f}  {min(ratios):5.2f}–{max(ratios):5.2f}"
            )


if __name__ == "__main__":
    main()
