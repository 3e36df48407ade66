"""Trials of one network trained as one, stacked by `torch.func.vmap`: is that faster, and is it the same?

    python benchmarks/stacked.py [--data digits mnist5k] [--model linear cnn mlp800 mlp] [--repetitions 9]

A stack holds the weights of S trials in tensors with S in front, and takes a step of all of them at once:
each on its own batch, with its own ε, by the gradient of the sum of their losses. SGD does to the stacked
weights what it does to each of them. Alone, each takes the same step by `Training.step`.

On a CPU one thread does it, and the time is that of the processor: several processes of one thread each use
every core in either case. `speed` is that of a step alone: where it is near what a core can do, nothing is
left to save. Where a study would train on a GPU, so does this, in wall time.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import labelsmooth as ls
from labelsmooth.bench.hardware import machine
from labelsmooth.bench.timing import Call, interleaved, ratio
from labelsmooth.objectives import Objective
from labelsmooth.study import Recipe
from labelsmooth.study.engines.placement import Placement
from labelsmooth.study.engines.select import make_placement
from labelsmooth.study.tasks.images import TASK
from labelsmooth.study.tasks.images.data import Data, load_data
from labelsmooth.study.training import Training
from labelsmooth.study.trial import TrialConfig
from labelsmooth.tables import Table

SIZES = (3, 9)
EPS = (0.0, 0.05, 0.1)
HEADER = ["data, model", "trials", "step alone", "speed", "alone / stacked (spread)", "NLL apart"]


class Stack:
    """Trials of one network that differ in their seeds and their ε."""

    def __init__(self, configs: list[TrialConfig], data: Data, placement: Placement) -> None:
        networks = [TASK.new_network(config, data.summary).to(placement.device) for config in configs]
        self.weights, _ = stack_module_state(networks)
        skeleton = copy.deepcopy(networks[0]).to("meta")
        self._forward = vmap(lambda weights, images: functional_call(skeleton, weights, (images,)))
        self._eps = torch.tensor([Objective.parse(config.objective).eps for config in configs])
        self._data = data
        self._device = placement.device
        self._optimizer = torch.optim.SGD(
            list(self.weights.values()),
            lr=configs[0].settings.learning_rate,
            momentum=configs[0].settings.momentum,
            weight_decay=configs[0].settings.weight_decay,
            fused=True,
        )

    def logits(self, images: Tensor) -> Tensor:  # (S, B, ...) -> (S, B, K)
        result: Tensor = self._forward(self.weights, images)
        return result

    def step(self, batches: Tensor) -> tuple[Tensor, Tensor]:  # (S, B), row numbers
        """The mean loss of each batch, and how many of its rows were right, both (S,)."""
        labels = self._data.train.labels[batches].to(self._device)
        logits = self.logits(self._data.train.images[batches].to(self._device))
        losses = ls.cross_entropy(
            logits.flatten(0, 1),
            labels.flatten(),
            label_smoothing=ls.uniform(self._eps.repeat_interleave(batches.shape[1]).to(self._device)),
            reduction="none",
        )
        losses = losses.reshape(batches.shape).mean(1)
        self._optimizer.zero_grad()
        losses.sum().backward()
        self._optimizer.step()
        return losses.detach(), (logits.argmax(-1) == labels).sum(1)


class Alone:
    """The same trials, each by itself."""

    def __init__(self, configs: list[TrialConfig], data: Data, placement: Placement) -> None:
        self._data = data
        self.trainings = [Training(config, data, None, placement) for config in configs]

    def step(self, batches: Tensor) -> list[tuple[Tensor, Tensor]]:
        rows = [(self._data.train.images[batch], self._data.train.labels[batch]) for batch in batches]
        return [training.step(batch)[:2] for training, batch in zip(self.trainings, rows, strict=True)]


def plan(name: str, model: str, size: int) -> tuple[list[TrialConfig], Data, Tensor]:
    """Trials, their data, and a batch of each."""
    data = load_data(name)
    recipe = Recipe(data=name, model=model, eps=EPS, seeds=size // len(EPS))
    generator = torch.Generator().manual_seed(0)
    rows = len(data.train.labels)
    batches = torch.stack(
        [torch.randperm(rows, generator=generator)[: recipe.batch_size] for _ in range(size)]
    )
    return list(recipe.trials(data.summary.sha256)), data, batches


def apart(configs: list[TrialConfig], data: Data, placement: Placement, steps: int = 20) -> float:
    """The largest difference of a trial's validation NLL, in nats, after some steps stacked and alone."""
    stack, alone = Stack(configs, data, placement), Alone(configs, data, placement)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        batches = torch.randint(len(data.train.labels), (len(configs), 128), generator=generator)
        stack.step(batches)
        alone.step(batches)
    images, labels = (part.to(placement.device) for part in (data.validation.images, data.validation.labels))
    with torch.no_grad():
        ours = stack.logits(images.expand(len(configs), *images.shape))
        theirs = [training.network(images) for training in alone.trainings]
    return max(
        abs(float(F.cross_entropy(one.double(), labels) - F.cross_entropy(other.double(), labels)))
        for one, other in zip(ours, theirs, strict=True)
    )


def operations(config: TrialConfig, data: Data, batch: Tensor) -> int:
    """Floating-point operations of the products and convolutions of a step."""
    network = TASK.new_network(config, data.summary)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(network(data.train.images[batch]), data.train.labels[batch]).backward()
    return counter.get_total_flops()


def row_of(name: str, model: str, size: int, placement: Placement, repetitions: int) -> list[str]:
    configs, data, batches = plan(name, model, size)
    stack, alone = Stack(configs, data, placement), Alone(configs, data, placement)

    def waited_for(steps: Stack | Alone) -> Call:
        def step() -> None:
            steps.step(batches)
            if placement.device.type != "cpu":
                torch.accelerator.synchronize()

        return Call(step)

    clock = time.process_time if placement.device.type == "cpu" else time.perf_counter
    seconds = interleaved({"alone": waited_for(alone), "stacked": waited_for(stack)}, repetitions, clock)
    step = float(np.median(seconds["alone"])) / size
    faster = ratio(seconds["alone"], seconds["stacked"])
    return [
        f"{name}, {model}",
        str(size),
        f"{step * 1e3:.2f} ms",
        f"{operations(configs[0], data, batches[0]) / step / 1e9:.0f} GFLOP/s",
        f"{faster.median:.2f}× ({faster.low:.2f}–{faster.high:.2f})",
        f"{apart(configs, data, placement):.0e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["digits", "mnist5k"])
    parser.add_argument("--model", nargs="+", default=["linear", "cnn", "mlp800", "mlp"])
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    placement = make_placement("no")
    where = machine()
    print(f"{where.cpu}, {placement.device}, {where.system}; torch {where.torch}\n")
    lines = [HEADER]
    for name in options.data:
        for model in options.model:
            for size in SIZES:
                lines.append(row_of(name, model, size, placement, options.repetitions))
                print("  ".join(lines[-1]), file=sys.stderr)
    print(Table(head=lines[0], rows=lines[1:], words=2).text())


if __name__ == "__main__":
    main()
