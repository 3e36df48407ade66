"""Time a study beside plain PyTorch loops that do the same work.

    python benchmarks/study.py [--only training trial study] [--data digits mnist5k] [--model mlp cnn]
                               [--epochs 10] [--repetitions 5]

The plain loop is what one would write: the same initial weights in torch's layout, the same batches and
learning rates, `F.cross_entropy(label_smoothing=0.1)` and `torch.optim.SGD`.

- training: `Training.epoch`, which also gives the loss and the accuracy of the training rows, against the
  loop, which records nothing.
- trial: `train_trial`, with all measures of the trained network, against the loop with the NLL and the
  accuracy of the validation rows after every epoch. The measures come once, so that their share falls with
  the epochs.
- study: `run_study` of four trials, with the start of its processes, reading the data in each and storing the
  results, against four such loops.

Everything trains on one thread, as the trials of a study do, and the time is that of the processor, all
processes taken together: other programs on the machine change it little. Trials side by side use as many
cores as there are, without waiting for each other.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from labelsmooth.bench.hardware import machine
from labelsmooth.bench.timing import Call, interleaved, ratio
from labelsmooth.study import Recipe, run_study
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.tasks.images import TASK
from labelsmooth.study.tasks.images.data import Data, load_data
from labelsmooth.study.training import Training, train_trial
from labelsmooth.study.trial import TrialConfig
from labelsmooth.tables import Table

EPS = 0.1
HEADER = ["work", "data, model", "rows/s", "plain rows/s", "ratio of throughputs (spread)"]


def plain_loop(config: TrialConfig, data: Data, *, validate: bool) -> nn.Module:
    """The network of a trial on uniform smoothing, trained by hand."""
    network = TASK.new_network(config, data.summary).to(memory_format=torch.contiguous_format)
    images, labels = data.train.images, data.train.labels
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=config.settings.learning_rate,
        momentum=config.settings.momentum,
        weight_decay=config.settings.weight_decay,
    )
    steps = config.settings.epochs * math.ceil(len(labels) / config.settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    generator = torch.Generator().manual_seed(config.seed)
    eps = 0.0 if config.objective == "hard" else EPS
    for _ in range(config.settings.epochs):
        network.train()
        for batch in torch.randperm(len(labels), generator=generator).split(config.settings.batch_size):
            loss = F.cross_entropy(network(images[batch]), labels[batch], label_smoothing=eps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if validate:
            network.eval()
            with torch.no_grad():
                logits = network(data.validation.images)
                F.cross_entropy(logits, data.validation.labels).item()
                (logits.argmax(-1) == data.validation.labels).float().mean().item()
    return network


def our_loop(config: TrialConfig, data: Data) -> nn.Module:
    training = Training(config, data, None, Placement())
    for _ in range(config.settings.epochs):
        training.epoch()
    return training.network


def apart(config: TrialConfig, data: Data) -> float:
    """The largest difference of a validation logit after two epochs; raises where it is not rounding."""
    config = replace(config, settings=replace(config.settings, epochs=2))
    networks = our_loop(config, data), plain_loop(config, data, validate=False)
    with torch.no_grad():
        ours, plain = (network.eval()(data.validation.images) for network in networks)
    difference = float((ours - plain).abs().max())
    if difference > 1e-3:
        raise RuntimeError(f"the loops did not do the same work: logits are {difference:g} apart")
    return difference


def processor_time() -> float:
    """Seconds of this process and of those that it has started and seen end."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def rows_of(name: str, model: str, only: list[str], epochs: int, repetitions: int) -> Iterator[list[str]]:
    data = load_data(name)
    recipe = Recipe(data=name, model=model, epochs=epochs, eps=(0.0, EPS), seeds=2)
    trials = recipe.trials(data.summary.sha256)
    config = trials[-1]
    print(f"{name}, {model}: logits are {apart(config, data):.1e} apart after two epochs", file=sys.stderr)

    def study() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            run_study(recipe, Path(folder), jobs=2)

    def loops() -> None:
        for trial in trials:
            plain_loop(trial, load_data(name), validate=True)

    contests: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "training": (lambda: our_loop(config, data), lambda: plain_loop(config, data, validate=False)),
        "trial": (
            lambda: train_trial(config, data, lambda: None),
            lambda: plain_loop(config, data, validate=True),
        ),
        "study": (study, loops),
    }
    for work in only:
        ours, plain = contests[work]
        times = interleaved({"ours": Call(ours), "plain": Call(plain)}, repetitions, processor_time)
        quotient = ratio(times["plain"], times["ours"])
        rows = len(data.train.labels) * epochs * (len(trials) if work == "study" else 1)
        yield [
            work,
            f"{name}, {model}",
            f"{rows / np.median(times['ours']):,.0f}",
            f"{rows / np.median(times['plain']):,.0f}",
            f"{quotient.median:.2f}× ({quotient.low:.2f}–{quotient.high:.2f})",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    works = ["training", "trial", "study"]
    parser.add_argument("--only", nargs="+", choices=works, default=works)
    parser.add_argument("--data", nargs="+", default=["digits", "mnist5k"])
    parser.add_argument("--model", nargs="+", default=["mlp", "cnn"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = machine()
    print(f"{where.cpu}, {where.system}; torch {where.torch}\n")
    lines = [HEADER]
    for name in options.data:
        for model in options.model:
            for line in rows_of(name, model, options.only, options.epochs, options.repetitions):
                lines.append(line)
                print("  ".join(line), file=sys.stderr)
    print(Table(head=lines[0], rows=lines[1:], words=2).text())


if __name__ == "__main__":
    main()
