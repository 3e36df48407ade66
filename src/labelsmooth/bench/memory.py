"""The extra memory of a call, measured in a separate process."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from labelsmooth.bench.timing import Call
from labelsmooth.errors import InputError

STATUS = Path("/proc/self/status")


def extra_peak(make: Callable[[], Call], warm_up: Callable[[], Call], threads: int) -> int:
    """Measure by how many bytes a call raises the peak of its process above its inputs and results.

    That is the high-water mark of the resident set during the run, minus the resident set just before, minus
    the bytes of the tensors that `run` returns. It counts what really was in memory, down to about 1 MiB, for
    which the kernel's own counters are off.

    Args:
        make: makes the call with its inputs. It runs in the child, so it must be picklable.
        warm_up: makes a tiny call of the same kind, which runs first so that libraries, threads and their
            buffers exist. It has to be tiny: memory that it freed could be used again without a trace.
        threads: the number of threads that torch uses in the child.

    Cost: a fresh process, which imports torch.
    """
    if sys.platform == "win32":
        raise InputError("the extra memory of a call cannot be measured on Windows, which keeps no such mark")
    import signal

    # a fork would inherit the parent's memory and its high-water mark
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as child:
        # An interrupt from the keyboard goes to both; the child inherits this mask and leaves it to us.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            result = child.submit(_extra_peak, make, warm_up, threads)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return result.result()


def _extra_peak(make: Callable[[], Call], warm_up: Callable[[], Call], threads: int) -> int:
    torch.set_num_threads(threads)
    warm_up().run()
    call = make()
    call.prepare()
    gc.collect()
    before = fresh_high_water()
    result = call.run()
    peak = high_water()
    return max(0, peak - before - sum(tensor.nbytes for tensor in _tensors(result)))


def _tensors(result: object) -> Iterable[Tensor]:
    """Return the tensors of a result, which is one or a tuple."""
    values = result if isinstance(result, tuple) else (result,)
    return (value for value in values if isinstance(value, Tensor))


def fresh_high_water() -> int:
    """Set the high-water mark back to what is resident now, where the system can do that, and return it."""
    # Elsewhere it stays that of the process so far: the inputs, as nothing before them was as large.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return high_water()


def high_water() -> int:
    """Return the high-water mark of the resident set, in bytes."""
    if STATUS.exists():  # ru_maxrss would begin with the peak of the parent
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
