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
from pathlib import Path
from typing import Any, TypeAlias

import torch

from labelsmooth.errors import REFUSALS, InputError
from labelsmooth.study.engines.base import Context, Engine
from labelsmooth.study.engines.select import make_placement
from labelsmooth.study.trial import Outcome, TrialConfig

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection as Connection
else:
    from multiprocessing.connection import Connection

# What a worker sends: None after every epoch, then the trial's outcome or the exception that ended it.
Message: TypeAlias = Outcome | Exception | None

_KILLED = -9  # by SIGKILL
_WORK = "import sys; from labelsmooth.study.engines.processes import work; work(int(sys.argv[1]))"


@dataclass(frozen=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]


class Processes(Engine):
    """The engine of processes of this machine, which end with this one, at the latest after their epoch.

    A worker that died is told with its exit status, and the pool is made by hand: those of `multiprocessing`
    and `concurrent.futures` import the user's main module again, with the study in it where nothing guards
    that, give no word of a task before it is done, and answer a dead worker by breaking or by waiting.
    """

    def run(
        self, trials: Sequence[TrialConfig], context: Context, on_epoch: Callable[[], None]
    ) -> Generator[Outcome, None, None]:
        waiting = list(reversed(trials))
        busy: dict[Connection[Any, Any], TrialConfig] = {}
        first = (context.load, context.data_name, context.run_trial, context.threads)
        with _started(min(context.at_a_time, len(trials)), first) as workers:
            process_of = {worker.connection: worker.process for worker in workers}

            def begin(connection: Connection[Any, Any]) -> None:
                busy[connection] = waiting.pop()
                _send(connection, (busy[connection], context.teacher_of(busy[connection])))

            for worker in workers:
                begin(worker.connection)
            while busy:
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    try:
                        message: Message = _receive(ready)
                    except EOFError:
                        raise _death(busy[ready], process_of[ready].wait()) from None
                    if isinstance(message, Exception):
                        raise message
                    if message is None:
                        on_epoch()
                        continue
                    del busy[ready]
                    if waiting:
                        begin(ready)
                    yield message


def _death(trial: TrialConfig, status: int) -> Exception:
    """Tell why a worker is gone: a system short of memory kills it; all else is a fault of the program."""
    died = f"the process that trained {trial.id} died with the exit status {status}"
    if status == _KILLED:
        return InputError(f"{died}; if memory ran out, run the study again with fewer jobs")
    return RuntimeError(f"{died}; what it had to say stands above")


@contextmanager
def _started(number: int, first: object) -> Iterator[list[_Worker]]:
    """Start worker processes and send them `first`; they are gone afterwards."""
    workers: list[_Worker] = []
    try:
        for _ in range(number):
            ours, theirs = Pipe()
            with theirs:
                workers.append(_Worker(_process(theirs), ours))
            _send(ours, first)
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


def _receive(connection: Connection[Any, Any]) -> Any:
    """Wait for the next message.

    Raises:
        EOFError: the other end is gone, whether before the message or in the middle of it.
    """
    try:
        message = connection.recv_bytes()
    except OSError as error:
        raise EOFError("the other end is gone") from error
    return pickle.loads(message)


def _process(connection: Connection[Any, Any]) -> subprocess.Popen[bytes]:
    """Start a process that works at the other end of a connection, and has nothing else of this one.

    It is in a group of its own: an interrupt of the terminal is for this process, which ends it.
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
        [sys.executable, "-P", "-c", _WORK, str(handle)],  # imports nothing that lies beside the data
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        **apart,
    )


def work(handle: int) -> None:
    """Train what comes through a connection until nothing comes any more."""
    connection: Connection[Any, Any] = Connection(handle)
    try:
        load, data_name, run_trial, threads = _receive(connection)
    except EOFError:  # the study is gone
        return
    torch.set_num_threads(threads)
    data = placement = None
    while True:
        try:
            config, teacher = _receive(connection)
        except EOFError:
            return
        try:
            data = data or load()
            if data.summary.sha256 != config.data_sha256:
                raise InputError(f"the rows of {data_name} changed while the study ran")
            placement = placement or make_placement(config.settings.precision)
            connection.send(run_trial(config, data, lambda: connection.send(None), teacher, placement))
        except BrokenPipeError:  # the study is gone
            return
        except Exception as error:  # noqa: BLE001 (it is raised again where the study runs)
            connection.send(_told(error))


def _told(error: Exception) -> Exception:
    """Make an error one that another process can raise, with the traceback that it has here."""
    if isinstance(error, REFUSALS):
        return error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (a class may ask for more arguments than it hands on)
        error = RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
    error.add_note("In the process that trained:\n" + "".join(traceback.format_exception(error)))
    return error
