"""Where a network is trained, and by how many processes together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

T = TypeVar("T")


class Placement:
    """The CPU of this process, in float32.

    Attributes:
        device: that the network lies on.
        processes: that train each network together, every one on its share of each batch.
        rank: of this process among them; the one of rank 0 writes and prints.
    """

    device = torch.device("cpu")
    processes = 1
    rank = 0

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Give what the loss calls instead of the network, and what makes its steps.

        The network itself moves to the device and stays the one that is measured.
        """
        return network, optimizer

    def portion(self, values: Tensor) -> Tensor:
        """Take the rows of a batch that are those of this process, to its device."""
        return values[self.rank :: self.processes].to(self.device)

    def step(self, loss: Tensor, optimizer: Optimizer, parameters: Iterable[Tensor], clip: float) -> None:
        """Take a step of the optimizer on a loss, the gradient's norm at most `clip` where that is not 0.

        The gradient is the mean over the processes of those of their losses.
        """
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if clip:
            clip_grad_norm_(parameters, clip)
        optimizer.step()

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the CPU."""
        return values.cpu()

    def from_first(self, make: Callable[[], T]) -> T:
        """Make something in the process of rank 0, and give it to all."""
        return make()

    @contextmanager
    def chance(self) -> Iterator[Callable[[int], None]]:
        """Torch's global random state is this block's own; the function that it gives sets its seed."""
        with torch.random.fork_rng(devices=[]):
            yield self._seed

    def _seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    @contextmanager
    def deterministic(self) -> Iterator[None]:
        """An operation whose bits could differ from run to run raises within this block, on a CPU."""
        before = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        memory: Any = torch.utils.deterministic
        fill = memory.fill_uninitialized_memory
        # on other devices common ones have no deterministic form, such as the gradient of adaptive pooling
        torch.use_deterministic_algorithms(True, warn_only=self.device.type != "cpu")
        # NaN in every fresh tensor would show who reads what nobody wrote, and costs up to 5 % of a step
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)
            memory.fill_uninitialized_memory = fill


def launched_processes() -> int:
    """Processes that `accelerate launch` or `torchrun` started together, this one among them; 1 without."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the one of them that writes and prints."""
    return launched_processes() == 1 or os.environ.get("RANK", "0") == "0"
