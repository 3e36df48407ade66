"""Trials as tasks of a Ray cluster: on many machines, or side by side on this one.

The machines need no common disk. The rows and the teachers go out to each of them once, the module of a
network of the user's own goes with the connection, and results come back to this process, which alone writes.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.study.engines.base import Context, Engine, RunTrial
from labelsmooth.study.engines.select import make_placement
from labelsmooth.study.engines.threads import torch_threads
from labelsmooth.study.trial import Outcome, TrainedNetwork, TrialConfig

if TYPE_CHECKING:
    from ray import ObjectRef

_RETRIES = 3  # of a trial whose process or machine died
_SAME_EVERYWHERE = ("labelsmooth", "torch")
_PROBE_SECONDS = 10


class RayCluster(Engine):
    """The engine of a Ray cluster.

    A trial whose process or machine dies is trained anew on another; one that fails is not. Trials that are
    left at an exception end with the connection: to cancel one that ends by itself at that moment would abort
    this process, in Ray 2.60 ("tried to complete task that was not pending").

    Args:
        address: `HOST:PORT` of a cluster that this machine is part of, or `auto` to look for it; None starts
            one that only this machine can reach, without the dashboard, and ends it.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address

    @contextmanager
    def open(self, context: Context) -> Iterator[None]:
        """Connect this process to the cluster, and end all its tasks there.

        The module of a network of the user's own, or the package that it lies in, is sent to the machines
        unless it is an installed one.

        Raises:
            ModuleNotFoundError: Ray is missing; `labelsmooth[ray]` brings it.
            InputError: no cluster is there, or this process is connected to one already.
        """
        if self._address is None:
            # Ray reads both when it is imported. The second, in spite of its name, makes it listen on
            # 127.0.0.1 alone on any system, and nothing else does: where it is given that address, it takes
            # the machine's.
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        with needs_extra("ray"):
            import ray

        if ray.is_initialized():
            raise InputError("this process is connected to a Ray cluster already; call ray.shutdown() first")
        if self._address is None:
            if ray.util.get_node_ip_address() not in ("127.0.0.1", "::1"):  # type: ignore[no-untyped-call]
                raise InputError(
                    "Ray was imported before the study, and would now start a cluster that the network can "
                    "reach; import it later, or start a cluster yourself and give its address"
                )
            cores = min(context.at_a_time, context.trials) * context.threads
            cluster: dict[str, Any] = {"address": "local", "num_cpus": cores, "include_dashboard": False}
        else:
            _check_reachable(self._address)
            cluster = {"address": self._address}
        if modules := _not_installed(context.modules):
            cluster["runtime_env"] = {"py_modules": modules}
        try:
            ray.init(**cluster, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError) as error:
            raise InputError(f"Ray could not be reached at {self._address}: {_first_line(error)}") from error
        with redirect_stdout(sys.stderr):  # where Ray says that a machine died
            try:
                yield
            finally:
                ray.shutdown()

    def run(
        self, trials: Sequence[TrialConfig], context: Context, on_epoch: Callable[[], None]
    ) -> Generator[Outcome, None, None]:
        """Train trials on the cluster that `open` connected this process to.

        With no number of jobs asked for, as many train at a time as the cluster has cores or GPUs for; each
        gets a GPU where this process trains on one. `on_epoch` is not called again where a trial is trained
        anew.
        """
        import ray

        device = context.placement.device.type
        _wait_for_machine(context.threads, gpus=int(device == "cuda"))
        task = ray.remote(_task()).options(
            num_cpus=context.threads,
            num_gpus=int(device == "cuda"),
            max_retries=_RETRIES,
            num_returns="streaming",
        )
        shared = [ray.put(context.run_trial), ray.put(context.data)]
        teachers: dict[str, ObjectRef[TrainedNetwork | None]] = {}
        waiting = list(reversed(trials))
        running: dict[Any, TrialConfig] = {}
        while waiting or running:
            while waiting and len(running) < (context.jobs or len(trials)):
                config = waiting.pop()
                teacher = "" if config.teacher is None else config.teacher.id
                if teacher not in teachers:
                    teachers[teacher] = ray.put(context.teacher_of(config))
                parts = [*shared, ray.put(config), teachers[teacher]]
                running[task.remote(parts, context.threads, device)] = config
            ready: Any = ray.wait(list(running))[0][0]
            message = _received(next(ready), running[ready])
            if message is None:
                on_epoch()
            else:
                del running[ready]
                yield message


def _wait_for_machine(threads: int, gpus: int) -> None:
    """Say so where no machine of the cluster can take a trial yet."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(found.get("CPU", 0) >= threads and found.get("GPU", 0) >= gpus for found in machines):
        needed = f"{threads} core{'s' * (threads > 1)}{' and a GPU' * gpus}"
        print(f"the cluster has no machine with {needed} yet: waiting for one", file=sys.stderr)


def train_remotely(
    run_trial: RunTrial,
    data: Any,
    config: TrialConfig,
    teacher: TrainedNetwork | None,
    threads: int,
    device: str,
) -> Generator[Outcome | None, None, None]:
    """Do the work of a task: give None after every epoch, then the outcome.

    Raises:
        InputError: what `run_trial` raises; or the device is not the driver's.
    """
    placement = make_placement(config.settings.precision)
    if placement.device.type != device:
        raise InputError(
            f"trials would train on the device {placement.device.type} on {platform.node()}, "
            f"and train on {device} here"
        )
    epochs: SimpleQueue[Future[Outcome] | None] = SimpleQueue()

    def train() -> Outcome:
        with torch_threads(threads):
            return run_trial(config, data, lambda: epochs.put(None), teacher, placement)

    with ThreadPoolExecutor(1) as executor:
        trained = executor.submit(train)
        trained.add_done_callback(epochs.put)
        while epochs.get() is None:
            yield None
    yield trained.result()


def _task() -> Callable[..., Generator[Outcome | None, None, None]]:
    """Wrap `train_remotely` so that it says what is wrong where labelsmooth is missing or another.

    The wrapper is a nested function, which Ray sends by its code and not by its name, and it gets references,
    which it resolves when it knows that it can.
    """
    needed = {package: importlib.metadata.version(package) for package in _SAME_EVERYWHERE}

    def train(parts: list[Any], threads: int, device: str) -> Generator[Outcome | None, None, None]:
        import importlib.metadata
        import platform

        import ray

        for package, version in needed.items():
            try:
                found = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found = "missing"
            if found.partition("+")[0] != version.partition("+")[0]:  # torch for a CPU and for a GPU
                raise InputError(
                    f"{package} is {found} on the machine {platform.node()} of the cluster and {version} "
                    "here; install the same version there"
                )
        from labelsmooth.study.engines.ray import train_remotely

        run_trial, data, config, teacher = ray.get(parts)
        yield from train_remotely(run_trial, data, config, teacher, threads, device)

    return train


def _received(reference: ObjectRef[Outcome | None], config: TrialConfig) -> Outcome | None:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise InputError(f"the cluster did not train {config.id}: {_first_line(error)}") from error


def _check_reachable(address: str) -> None:
    """Ray itself would try for a quarter of an hour."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[\w.-]+|\[[\da-fA-F:]+\]", host) or not re.fullmatch(r"\d{1,5}", port):
        raise InputError(f"the address of a Ray cluster must be HOST:PORT or auto, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        raise InputError(f"no Ray cluster could be reached at {address}: {error}") from error


def _not_installed(modules: Iterable[str]) -> list[Any]:
    """Give the modules that belong to no installed package."""
    return [sys.modules[n] for n in sorted(set(modules) - importlib.metadata.packages_distributions().keys())]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
