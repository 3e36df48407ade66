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
from labelsmooth.study.data import Data
from labelsmooth.study.models import MODELS, model_sha256
from labelsmooth.study.placement import make_placement
from labelsmooth.study.recipe import TrialConfig
from labelsmooth.study.timing import torch_threads
from labelsmooth.study.training import TrainedNetwork, TrialResult, train_trial

if TYPE_CHECKING:
    from ray import ObjectRef

_RETRIES = 3  # of a trial whose process or machine died
_SAME_EVERYWHERE = ("labelsmooth", "torch")
_PROBE_SECONDS = 10


@contextmanager
def connected(address: str | None, cores: int, models: Iterable[str]) -> Iterator[None]:
    """A connection of this process to a Ray cluster, and the end of all its tasks there.

    Args:
        address: `HOST:PORT` of a cluster that this machine is part of, or `auto` to look for it; None starts
            one that only this machine can reach, without the dashboard, and ends it.
        cores: of a cluster that is started.
        models: names that `build_network` takes and took. The module of one of the user's own, or the package
            that it lies in, is sent to the machines unless it is an installed one.

    Raises:
        ModuleNotFoundError: Ray is missing; `labelsmooth[ray]` brings it.
        ValueError: no cluster is there, or this process is connected to one already.
    """
    if address is None:
        # Ray reads both when it is imported. The second, in spite of its name, makes it listen on 127.0.0.1
        # alone on any system, and nothing else does: where it is given that address, it takes the machine's.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    with needs_extra("ray"):
        import ray

    if ray.is_initialized():
        raise InputError("this process is connected to a Ray cluster already; call ray.shutdown() first")
    if address is None:
        if ray.util.get_node_ip_address() not in ("127.0.0.1", "::1"):  # type: ignore[no-untyped-call]
            raise InputError(
                "Ray was imported before the study, and would now start a cluster that the network can "
                "reach; import it later, or start a cluster yourself and give its address"
            )
        cluster: dict[str, Any] = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    else:
        _check_reachable(address)
        cluster = {"address": address}
    if modules := _own_modules(models):
        cluster["runtime_env"] = {"py_modules": modules}
    try:
        ray.init(**cluster, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise InputError(f"Ray could not be reached at {address}: {_first_line(error)}") from error
    with redirect_stdout(sys.stderr):  # where Ray says that a machine died
        try:
            yield
        finally:
            ray.shutdown()


def train_on_cluster(
    configs: Sequence[TrialConfig],
    teacher_of: Callable[[TrialConfig], TrainedNetwork | None],
    data: Data,
    jobs: int | None,
    threads: int,
    device: str,
    on_epoch: Callable[[], None],
) -> Generator[TrialResult, None, None]:
    """Train trials on the cluster that this process is connected to, and give each result once it is there.

    A trial whose process or machine dies is trained anew on another; one that fails is not. Trials that are
    left at an exception end with the connection: to cancel one that ends by itself at that moment would abort
    this process, in Ray 2.60 ("tried to complete task that was not pending").

    Args:
        configs: the trials.
        teacher_of: the network that teaches a trial; called when it is handed to the cluster.
        data: that the configs were made for.
        jobs: trials to train at a time, ≥ 1; None: as many as the cluster has cores or GPUs for.
        threads: of each trial, ≥ 1, and as many cores. The bits of a result depend on it.
        device: type of the one that each trial is trained on; `cuda` is a GPU of its own.
        on_epoch: called after every epoch of any trial; not again where a trial is trained anew.

    Raises:
        ValueError: what `train_trial` raises; or a trial died too often, or a machine has other versions.
    """
    import ray

    gpus = int(device == "cuda")
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(found.get("CPU", 0) >= threads and found.get("GPU", 0) >= gpus for found in machines):
        needed = f"{threads} core{'s' * (threads > 1)}{' and a GPU' * gpus}"
        print(f"the cluster has no machine with {needed} yet: waiting for one", file=sys.stderr)
    task = ray.remote(_task()).options(
        num_cpus=threads, num_gpus=gpus, max_retries=_RETRIES, num_returns="streaming"
    )
    rows = ray.put(data)
    teachers: dict[str, ObjectRef[TrainedNetwork | None]] = {}
    waiting = list(reversed(configs))
    running: dict[Any, TrialConfig] = {}
    while waiting or running:
        while waiting and len(running) < (jobs or len(configs)):
            config = waiting.pop()
            if config.teacher not in teachers:
                teachers[config.teacher] = ray.put(teacher_of(config))
            parts = [ray.put(config), rows, teachers[config.teacher]]
            running[task.remote(parts, threads, device)] = config
        ready: Any = ray.wait(list(running))[0][0]
        message = _received(next(ready), running[ready])
        if message is None:
            on_epoch()
        else:
            del running[ready]
            yield message


def train_remotely(
    config: TrialConfig, data: Data, teacher: TrainedNetwork | None, threads: int, device: str
) -> Generator[TrialResult | None, None, None]:
    """What a task does: None after every epoch, then the result.

    Raises:
        ValueError: what `train_trial` raises; or the model or the device is not the driver's.
    """
    for trial in (config,) if teacher is None else (config, teacher.config):
        if model_sha256(trial.model) != trial.model_sha256:
            raise InputError(f"the file of the model {trial.model} is another one on {platform.node()}")
    if (found := make_placement(config.precision).device.type) != device:
        raise InputError(
            f"trials would train on the device {found} on {platform.node()}, and train on {device} here"
        )
    epochs: SimpleQueue[Future[TrialResult] | None] = SimpleQueue()

    def train() -> TrialResult:
        with torch_threads(threads):
            return train_trial(config, data, lambda: epochs.put(None), teacher)

    with ThreadPoolExecutor(1) as executor:
        trained = executor.submit(train)
        trained.add_done_callback(epochs.put)
        while epochs.get() is None:
            yield None
    yield trained.result()


def _task() -> Callable[..., Generator[TrialResult | None, None, None]]:
    """`train_remotely`, wrapped so that it says what is wrong where labelsmooth is missing or another.

    The wrapper is a nested function, which Ray sends by its code and not by its name, and it gets references,
    which it resolves when it knows that it can.
    """
    needed = {package: importlib.metadata.version(package) for package in _SAME_EVERYWHERE}

    def train(parts: list[Any], threads: int, device: str) -> Generator[TrialResult | None, None, None]:
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
        from labelsmooth.study.ray_engine import train_remotely

        config, data, teacher = ray.get(parts)
        yield from train_remotely(config, data, teacher, threads, device)

    return train


def _received(reference: ObjectRef[TrialResult | None], config: TrialConfig) -> TrialResult | None:
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


def _own_modules(models: Iterable[str]) -> list[Any]:
    """The modules, or the packages that they lie in, of the networks of the user's own."""
    names = {model.partition(":")[0].partition(".")[0] for model in models if model not in MODELS}
    return [sys.modules[name] for name in sorted(names - importlib.metadata.packages_distributions().keys())]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
