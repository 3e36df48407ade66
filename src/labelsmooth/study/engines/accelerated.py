"""Training through accelerate: on its device, in mixed precision, and by several processes together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from labelsmooth.errors import InputError
from labelsmooth.study.engines.placement import Placement, launched_processes

T = TypeVar("T")
# Far apart, so that no two processes of any two trials have the same dropout.
_SEEDS_OF_A_PROCESS = 2**20
# The others wait while the first process measures and writes.
_PATIENCE = timedelta(days=1)


class Accelerated(Placement):
    """Trainings one after another, each by an accelerator of its own.

    Processes and devices are those of accelerate's state; each scales the gradients of fp16 by itself.

    Raises:
        ValueError: accelerate cannot do this precision here, or works with another one in this process.
    """

    def __init__(self, precision: str) -> None:
        if precision == "fp16" and not torch.accelerator.is_available():  # accelerate would do without it
            raise InputError("precision fp16 must have a GPU, which is not here; bf16 trains on CPUs too")
        # what makes matrix products on CUDA deterministic, and is read before the first of them
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._precision = precision
        self._accelerator = self._new_accelerator()
        self.device = self._accelerator.device
        self.processes = self._accelerator.num_processes
        self.rank = self._accelerator.process_index
        if self.processes != launched_processes():
            raise InputError(
                f"accelerate must bring the {launched_processes()} processes together that were launched, "
                f"on {self.device} it brings {self.processes}"
            )

    def _new_accelerator(self) -> Accelerator:
        return Accelerator(
            mixed_precision=self._precision,
            cpu=not torch.accelerator.is_available(),  # else it takes processes on CPUs for strangers
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        if self.processes > 1:
            for module in network.modules():
                if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                    # all else stays, whoever refers to it: hooks, parameters, their names
                    module.__class__ = _BatchNormOfAll  # type: ignore[assignment]
        self._accelerator = self._new_accelerator()
        prepared: tuple[nn.Module, Optimizer] = self._accelerator.prepare(network, optimizer)
        return prepared

    def step(self, loss: Tensor, optimizer: Optimizer, parameters: Iterable[Tensor], clip: float) -> None:
        optimizer.zero_grad()
        self._accelerator.backward(loss)
        if clip:
            self._accelerator.clip_grad_norm_(parameters, clip)
        optimizer.step()

    def total(self, values: Tensor) -> Tensor:
        if self.processes == 1:
            return values.cpu()
        total: Tensor = self._accelerator.reduce(values.to(self.device), "sum")
        return total.cpu()

    def from_first(self, make: Callable[[], T]) -> T:
        made: list[Any] = [make() if self.rank == 0 else None]
        broadcast_object_list(made)
        first: T = made[0]
        return first

    @contextmanager
    def chance(self) -> Iterator[Callable[[int], None]]:
        devices = [self.device] if self.device.type != "cpu" else []
        with torch.random.fork_rng(devices=devices, device_type=self.device.type if devices else "cuda"):
            yield self._seed

    def _seed(self, seed: int) -> None:
        torch.manual_seed(seed + self.rank * _SEEDS_OF_A_PROCESS)


class _Sum(torch.autograd.Function):
    """The sum over all processes, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        total = grads[0].clone()
        distributed.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _BatchNormOfAll(_BatchNorm):
    """Batch normalisation by the mean and variance of the whole batch, of which each process has a share.

    torch.nn.SyncBatchNorm does the same on GPUs, and refuses CPUs.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # it was made for 1, 2 or 3 dimensions, and knew which

    def forward(self, input: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        wide = input if input.dtype == torch.float64 else input.float()
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        count = _summed(wide.new_tensor(float(input.numel() // input.shape[1])))
        mean = _summed(wide.sum(axes)) / count
        centred = wide - mean.reshape(shape)
        variance = _summed(centred.square().sum(axes)) / count
        if self.training and self.running_mean is not None:
            self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normal = centred * torch.rsqrt(variance + self.eps).reshape(shape)
        if self.affine:
            normal = normal * self.weight.reshape(shape) + self.bias.reshape(shape)
        return normal.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
