"""The provenance of numbers: the processor, and the commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def processor() -> str:
    """Return the name of the processor, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit(path: Path = Path(__file__)) -> str | None:
    """Return the commit of the git checkout that this package runs from.

    Args:
        path: of a file of the package.

    Returns:
        The hash, with " with changes" behind it where a file that git tracks differs from the commit; None
        where the file is tracked by no checkout, as in an ordinary install, or git is missing or refuses.

    Cost: three calls of git.
    """
    # a repository that another program works on, and tells git of, is not the one asked about
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # `status` would write what it learned into the index, and leave a lock there where it is killed
    environment["GIT_OPTIONAL_LOCKS"] = "0"

    def git(*arguments: str) -> str | None:
        done = subprocess.run(
            ["git", "-C", path.parent, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        # an install may lie inside a checkout of something else, which does not track it
        if git("ls-files", "--error-unmatch", path.name) is None or not (head := git("rev-parse", "HEAD")):
            return None
        return f"{head} with changes" if git("status", "--porcelain", "--untracked-files=no") else head
    except FileNotFoundError:
        return None
