"""Audit a file of several hundred megabytes, and see how much memory that takes beyond a small one.

    python benchmarks/audit_memory.py --megabytes 500

The rows are logits of a linear classifier on LetterRecognition, over and over with a little noise, so that
every confidence is another. The audit runs in a process of its own, whose peak of resident memory counts.
With `--limit` its address space may not grow by more megabytes than that over what its imports take.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

LETTERS = Path(__file__).parents[1] / "tests" / "fixtures" / "letters.npz"

CHILD = """
import resource, sys
import labelsmooth.cli.audit, matplotlib.figure, jinja2, torch
from labelsmooth.cli import main
torch.set_num_threads(1)
limit = int(sys.argv[1])
if limit:
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + limit * 2**20,) * 2)
status = main(["audit", *sys.argv[2:]])
# of this program alone: the peak that getrusage gives counts the process that it was forked from
print(*(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(status)
"""


def predictions(rows: int) -> tuple[np.ndarray, np.ndarray]:
    stored = np.load(LETTERS)
    x, y = stored["x"] / 15, stored["y"].astype(np.int64)
    model = LogisticRegression(max_iter=60, tol=1e-2).fit(x[:4000], y[:4000])
    logits = model.decision_function(x[4000:]).astype(np.float32)
    rng = np.random.default_rng(0)
    at = np.arange(rows) % len(logits)
    noisy = np.empty((rows, logits.shape[1]), np.float32)
    for start in range(0, rows, 100_000):
        piece = slice(start, start + 100_000)
        noisy[piece] = logits[at[piece]]
        noisy[piece] += 0.01 * rng.standard_normal(noisy[piece].shape, dtype=np.float32)
    return noisy, y[4000:][at]


def audit(path: Path, out: Path, limit: int) -> tuple[int, float]:
    """The peak of resident memory in MB, and the seconds."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(limit), str(path), "--out", str(out)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout.splitlines()[-1]), time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--kind", choices=("npz", "safetensors"), default="npz")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        peaks = []
        for name, rows in (("small", 20_000), ("large", arguments.megabytes * 2**20 // (26 * 4 + 8))):
            logits, labels = predictions(rows)
            path = Path(folder) / f"{name}.{arguments.kind}"
            if arguments.kind == "npz":
                np.savez(path, logits=logits, labels=labels)
            else:
                save_file({"logits": torch.from_numpy(logits), "labels": torch.from_numpy(labels)}, path)
            del logits, labels
            megabytes = path.stat().st_size / 2**20
            peak, seconds = audit(path, Path(folder) / name, arguments.limit)
            peaks.append(peak)
            print(f"{rows:,} rows, {megabytes:.0f} MB: {peak} MB at the peak, {seconds:.0f} s", flush=True)
        print(f"{peaks[1] - peaks[0]} MB more")


if __name__ == "__main__":
    main()
