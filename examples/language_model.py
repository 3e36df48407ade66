"""Train a small transformer language model twice: with `ls.linear_cross_entropy`, and with plain torch.

    python examples/language_model.py                      # some minutes on two cores; Linux or macOS
    python examples/language_model.py --text novel.txt     # on a text of your own

Prints the loss as it falls, the time of a step and the peak memory of each; then how far the two loss curves
are apart, and the ratios. Each loss trains in a process of its own, so that the peak is its own.

Without --text it learns the source of the modules in Python's standard library, since every Python brings it:
5 MB of English and code, 28,000 different words, under the licence of the Python Software Foundation.
"""

import argparse
import multiprocessing
import os
import re
import resource
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import labelsmooth as ls

WIDTH, LENGTH = 256, 128  # of the features; of a training sequence, in words
RARE = 0  # one class for all the words that the vocabulary leaves out


class LanguageModel(nn.Module):
    """A causal transformer. Its features become logits by `embedding.weight`, in the loss."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.position = nn.Embedding(LENGTH, WIDTH)
        for table in (self.embedding, self.position):
            nn.init.normal_(table.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )  # not ReLU: rounding grows at its kink, and two equal runs part by 1e-3 within 100 steps
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, words: Tensor) -> Tensor:  # (B, LENGTH) -> (B, LENGTH, WIDTH)
        x = WIDTH**0.5 * (self.embedding(words) + self.position.weight)
        return self.layers(x, mask=self.mask, is_causal=True)


class Run(NamedTuple):
    losses: list[float]
    seconds: float  # of the median step
    peak: int  # bytes of the whole process


def train(loss_name: str, words: Tensor, vocabulary: int, steps: int, batch: int) -> Run:
    torch.manual_seed(0)
    model = LanguageModel(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses, seconds = [], []
    for step in range(1, steps + 1):
        began = time.perf_counter()
        start = torch.randint(len(words) - LENGTH, (batch, 1))
        sequences = words[start + torch.arange(LENGTH + 1)]
        features = model(sequences[:, :-1]).flatten(0, 1)  # (B·LENGTH, WIDTH)
        target = sequences[:, 1:].flatten()
        weight = model.embedding.weight  # (vocabulary, WIDTH)
        if loss_name == "labelsmooth":
            loss = ls.linear_cross_entropy(features, weight, target, label_smoothing=0.1)
        else:
            loss = F.cross_entropy(F.linear(features, weight), target, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - began)
        if step % 10 == 0:
            print(f"{loss_name:>11}  step {step:4}  loss {losses[-1]:.5f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    run = Run(losses, statistics.median(seconds), peak)
    print(
        f"{loss_name:>11}  {1e3 * run.seconds:.0f} ms a step, peak memory {run.peak / 2**20:.0f} MiB",
        flush=True,
    )
    return run


def read_words(files: list[Path], most: int) -> tuple[Tensor, int]:
    """The text as one sequence of classes, (number of words,), and the number of classes."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    words = re.findall(r"\w+|[^\w\s]", text)
    common = Counter(words).most_common(most - 1)
    classes = {word: number for number, (word, _) in enumerate(common, start=RARE + 1)}
    return torch.tensor([classes.get(word, RARE) for word in words]), len(classes) + 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loss", choices=("labelsmooth", "torch"), help="train with this one only")
    parser.add_argument(
        "--text", type=Path, nargs="+", metavar="FILE", help="in UTF-8, instead of Python's source"
    )
    parser.add_argument(
        "--vocabulary", type=int, default=32_000, metavar="K", help="the K most frequent words"
    )
    parser.add_argument(
        "--batch", type=int, default=16, help=f"sequences of {LENGTH} words a step (default: 16)"
    )
    parser.add_argument("--steps", type=int, default=100, help="(default: 100)")
    options = parser.parse_args()

    files = options.text or sorted(Path(os.__file__).parent.glob("*.py"))
    words, vocabulary = read_words(files, options.vocabulary)
    rows = options.batch * LENGTH
    print(f"{len(words):,} words of {vocabulary:,} kinds, width {WIDTH}")
    print(f"{rows:,} words a step, whose logits take {4 * rows * vocabulary / 2**20:.0f} MiB")
    runs = {}
    for loss_name in [options.loss] if options.loss else ["labelsmooth", "torch"]:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            runs[loss_name] = process.apply(
                train, (loss_name, words, vocabulary, options.steps, options.batch)
            )
    if len(runs) == 2:
        ours, theirs = runs["labelsmooth"], runs["torch"]
        apart = max(abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True))
        print(f"largest difference of the loss curves: {apart:.1e}")
        print(f"time of a step, torch/labelsmooth: {theirs.seconds / ours.seconds:.2f}")
        print(f"peak memory, torch/labelsmooth: {theirs.peak / ours.peak:.2f}")


if __name__ == "__main__":
    main()
