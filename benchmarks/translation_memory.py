"""The memory of a training step of translation with a large vocabulary, by the fused loss and by full logits.

    python benchmarks/translation_memory.py --vocabulary 32000 --tokens 3000

Each step runs in a process of its own, and counts by how much it raises the peak of resident memory above the
network, its batch and the gradients. The network is `small`; what both steps share are the activations of its
layers.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from labelsmooth.bench.memory import extra_peak
from labelsmooth.bench.timing import Call
from labelsmooth.objectives import Objective, TrainingFacts
from labelsmooth.study.tasks.sequences.network import EncoderDecoder
from labelsmooth.study.tasks.sequences.sentences import token_inputs
from labelsmooth.study.tasks.translation.data import TranslationSummary
from labelsmooth.study.tasks.translation.models import build_translator

EPS = 0.1
WIDTH = 30  # tokens of a sentence


def network_of(vocabulary: int) -> EncoderDecoder:
    counts = dict.fromkeys(
        ("train_pairs", "validation_pairs", "test_pairs", "train_rows", "validation_rows", "test_rows"), 1
    )
    summary = TranslationSummary(
        sha256="", vocabulary="", pad=0, end=1, start=0, num_classes=vocabulary, max_tokens=WIDTH, **counts,
        repeated=0, too_long=0,
    )  # fmt: skip
    return build_translator("small", summary, seed=0, dropout=0.1)


def step(vocabulary: int, tokens: int, *, fused: bool) -> Call:
    network = network_of(vocabulary)
    shape = (max(tokens // WIDTH, 1), WIDTH)
    sources, labels = torch.randint(2, vocabulary, (2, *shape), generator=torch.Generator().manual_seed(0))
    inputs, rows = token_inputs(sources.tolist(), pad=0), labels.flatten()
    criterion = Objective.parse(f"uniform:{EPS}").criterion(
        TrainingFacts(class_counts=torch.ones(vocabulary, dtype=torch.int64), steps=1)
    )

    def run() -> tuple[Tensor, ...]:
        output = network(inputs, labels)
        if fused:
            loss = criterion(output, rows, denominator=len(rows)).value
        else:
            loss = F.cross_entropy(F.linear(*output), rows, label_smoothing=EPS)
        loss.backward()
        return (loss.detach(), *(weight.grad for weight in network.parameters() if weight.grad is not None))

    return Call(run=run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--tokens", type=int, default=3_000)
    arguments = parser.parse_args()
    peaks = {}
    for name, fused in (("full logits", False), ("fused", True)):
        make = partial(step, arguments.vocabulary, arguments.tokens, fused=fused)
        peaks[name] = extra_peak(make, partial(step, 300, WIDTH, fused=fused), threads=1)
        print(f"{name:12} {peaks[name] / 2**20:8.0f} MiB beyond network and gradients")
    logits = arguments.vocabulary * arguments.tokens * 4
    print(f"{'logits once':12} {logits / 2**20:8.0f} MiB")
    print(f"full logits take {peaks['full logits'] / peaks['fused']:.1f} times the memory of the fused loss")


if __name__ == "__main__":
    main()
