"""Trials in processes of their own, several at a time.

Two threads train a small network 1.4 times as fast as one, and stand still as soon as another program takes
one of the cores; two trials beside each other are twice as fast as one, and do not wait.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Pipe, wait
from typing import Any, TypeAlias

import torch

from labelsmooth.errors import REFUSALS, InputError
from labelsmooth.study.data import load_data
from labelsmooth.study.recipe import TrialConfig
from labelsmooth.study.training import TrainedNetwork, TrialResult, train_trial

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection as Connection
else:
    from multiprocessing.connection import Connection

# What a worker sends: None after every epoch, then the trial's result or the exception that ended it.
Message: TypeAlias = TrialResult | Exception | None

_WORK = "import sys; from labelsmooth.study.workers import work; work(int(sys.argv[1]))"


@dataclass(frozen=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]


def train_trials(
    configs: Sequence[TrialConfig],
    teacher_of: Callable[[TrialConfig], TrainedNetwork | None],
    data: str,
    jobs: int,
    threads: int,
    on_epoch: Callable[[], None],
) -> Generator[TrialResult, None, None]:
    """Train trials in `jobs` processes of `threads` threads each, and give each result once it is there.

    Workers end with this process, at the latest after the epoch that they are in.

    Args:
        configs: the trials.
        teacher_of: the network that teaches a trial; called when its training begins.
        data: the name that `load_data` takes; each worker reads it for itself.
        jobs: ≥ 1.
        threads: of each worker, ≥ 1. The bits of a result depend on it.
        on_epoch: called after every epoch of any trial.

    Raises:
        ValueError: what `train_trial` raises; or a worker died, as one does that is given too little memory.
    """
    waiting = list(reversed(configs))
    busy: dict[Connection[Any, Any], TrialConfig] = {}
    with _started(min(jobs, len(configs)), (data, threads)) as workers:
        process_of = {worker.connection: worker.process for worker in workers}

        def begin(connection: Connection[Any, Any]) -> None:
            busy[connection] = waiting.pop()
            _send(connection, (busy[connection], teacher_of(busy[connection])))

        for worker in workers:
            begin(worker.connection)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                try:
                    message: Message = ready.recv()
                except (EOFError, ConnectionResetError):
                    status = process_of[ready].wait()
                    raise InputError(
                        f"the process that trained {busy[ready].id} died with the exit status {status}; "
                        "if memory ran out, run the study again with fewer jobs"
                    ) from None
                if isinstance(message, Exception):
                    raise message
                if message is None:
                    on_epoch()
                    continue
                del busy[ready]
                if waiting:
                    begin(ready)
                yield message


@contextmanager
def _started(number: int, first: object) -> Iterator[list[_Worker]]:
    """Worker processes that have been sent `first`; they are gone afterwards."""
    workers: list[_Worker] = []
    try:
        for _ in range(number):
            mine, its = Pipe()
            with its:
                workers.append(_Worker(_process(its), mine))
            _send(mine, first)
        yield workers
    finally:
        for worker in workers:
            worker.connection.close()
            worker.process.kill()
        for worker in workers:
            worker.process.wait()


def _send(connection: Connection[Any, Any], message: object) -> None:
    with suppress(ConnectionError):  # a process that died is told of where it is listened to
        connection.send(message)


def _process(connection: Connection[Any, Any]) -> subprocess.Popen[bytes]:
    """A process that works at the other end of a connection, and has nothing else of this one.

    It is in a group of its own: an interrupt of the terminal is for this process, which ends it. That of
    `multiprocessing` would run the main module again, with the study in it where nothing guards that.
    """
    handle = connection.fileno()
    apart: dict[str, Any]
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        apart = {
            "startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]}),
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP,
        }
    else:
        apart = {"pass_fds": [handle], "process_group": 0}
    return subprocess.Popen(
        [sys.executable, "-c", _WORK, str(handle)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        **apart,
    )


def work(handle: int) -> None:
    """Train what comes through a connection until nothing comes any more."""
    connection: Connection[Any, Any] = Connection(handle)
    name, threads = connection.recv()
    torch.set_num_threads(threads)
    data = None
    while True:
        try:
            config, teacher = connection.recv()
        except EOFError:
            return
        try:
            data = data or load_data(name)
            if data.summary.sha256 != config.data_sha256:
                raise InputError(f"the rows of {name} changed while the study ran")
            connection.send(train_trial(config, data, lambda: connection.send(None), teacher))
        except BrokenPipeError:  # the study is gone
            return
        except Exception as error:  # noqa: BLE001 (it is raised again where the study runs)
            connection.send(_told(error))


def _told(error: Exception) -> Exception:
    """The error as another process can raise it: one of the program with the traceback that it has here."""
    if isinstance(error, REFUSALS):
        return error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (a class may ask for more arguments than it hands on)
        error = RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
    error.add_note("In the process that trained:\n" + "".join(traceback.format_exception(error)))
    return error
