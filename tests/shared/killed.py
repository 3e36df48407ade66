"""A study that kills its own process: a module of its own, since another process has to import it by its name."""

import os
import signal
import stat
import sys
from pathlib import Path

from labelsmooth.cli import main


def run_and_die(arguments: list[str], out: Path, step: int) -> None:
    """Run a study in this process, and kill it at the step-th place where it writes into its folder.

    Such are the moments before a folder is made, a file opened or anything renamed; and that before a file
    is synced, when a failing machine may have lost any part of it, here the latter half.
    """
    left, sync = step, os.fsync

    def comes(to_lose: int | None = None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            if to_lose is not None and stat.S_ISREG(os.fstat(to_lose).st_mode):
                os.ftruncate(to_lose, os.fstat(to_lose).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def seen(event: str, args: tuple) -> None:
        writes = event in ("os.mkdir", "os.rename") or (
            event == "open" and args[1] is not None and set(args[1]) & set("wax+")
        )
        if writes and str(args[0]).startswith(str(out)):
            comes()

    def synced(descriptor: int) -> None:
        comes(descriptor)
        sync(descriptor)

    sys.addaudithook(seen)
    os.fsync = synced
    sys.exit(main(["study", *arguments, "--out", str(out)]))
