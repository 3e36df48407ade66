"""Mutate files of predictions and audit them: no traceback, no crash, no hang, no report of a wrong file.

    python benchmarks/fuzz_audit.py --files 10000

Every mutated file goes through the command line up to where measuring would begin, and one in `--whole` to
its report, if it still holds predictions. Workers are processes with a limit on their memory, so that a crash
shows, and a header that makes the readers allocate what it claims.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import resource
import signal
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from labelsmooth.audit import runner
from labelsmooth.cli import main

ROWS = 40
SECONDS = 60  # of the processor, for one file with its report; ten times that by the clock
HEADROOM = 4 * 2**30  # bytes that a worker may take above what its imports did
NUMBERS = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**62, 2**63, 2**64 - 1)


class Accepted(BaseException):
    """A mutated file that still is a file of predictions."""


def seed_files(folder: Path) -> list[Path]:
    """Logits and probabilities of a linear classifier of the digits, in every way that is read."""
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=50, tol=1e-2).fit(x[ROWS:] / 16, y[ROWS:])
    z, y = model.decision_function(x[:ROWS] / 16), y[:ROWS]
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    group = np.where(y < 5, "low", "high")
    np.savez(folder / "stored.npz", logits=z.astype("f4"), labels=y)
    np.savez_compressed(folder / "deflated.npz", probs=p, labels=y.astype("u1"), groups=group)
    np.savez(folder / "columns.npz", logits=np.asfortranarray(z), labels=y.astype(">i4"), weights=y + 1.0)
    save_file({"logits": torch.from_numpy(z), "labels": torch.from_numpy(y)}, folder / "double.safetensors")
    halves = {"logits": torch.from_numpy(z).bfloat16(), "y": torch.from_numpy(y).int()}
    save_file(halves | {"features": torch.from_numpy(z[:, :3].copy())}, folder / "bfloat16.safetensors")
    lists = pa.array(list(z.astype("f4")))
    pq.write_table(pa.table({"logits": lists, "labels": y}), folder / "lists.parquet", row_group_size=15)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), p.shape[1])
    pq.write_table(pa.table({"probs": fixed, "y": y, "group": group}), folder / "fixed.parquet")
    columns = {f"logit_{k}": z[:, k] for k in range(z.shape[1])}
    pq.write_table(pa.table({**columns, "y": y}), folder / "numbered.parquet", compression="zstd")
    texts = np.char.add("digit ", y.astype(str))
    named = pa.table({**{f"prob_digit {k}": p[:, k].round(2) for k in range(p.shape[1])}, "label": texts})
    pa.csv.write_csv(named, folder / "named.csv")
    tabs = pa.csv.WriteOptions(delimiter="\t", quoting_style="none")
    pa.csv.write_csv(pa.table({**columns, "y": y, "weight": y + 0.5}), folder / "numbered.tsv", tabs)
    pa.feather.write_feather(named, folder / "named.feather", chunksize=15)
    listed = pa.table({"logits": lists, "labels": y, "group": pa.array(group).dictionary_encode()})
    pa.feather.write_feather(listed, folder / "lists.feather", compression="uncompressed")
    torch.save({"logits": torch.from_numpy(z), "labels": y.tolist()}, folder / "dict.pt")
    torch.save(
        {"probs": torch.from_numpy(p).float(), "y": torch.from_numpy(y), "step": 3}, folder / "tensors.pth"
    )
    np.save(folder / "rows_logits.npy", z)
    np.save(folder / "columns_probs.npy", np.asfortranarray(p))
    np.savez(folder / "binary.npz", y_prob=p[:, :1], y_true=y == 0)
    ignored = np.where(y < 2, -100, y).reshape(8, 5)
    np.savez(folder / "tokens.npz", predictions=z.reshape(8, 5, -1), label_ids=ignored)
    return sorted(folder.iterdir())


def labels_beside(path: Path) -> list[str]:
    """The option that names a file of labels for a .npy file, which is written beside it."""
    if path.suffix != ".npy":
        return []
    labels = path.with_name("labels.of.npy")
    np.save(labels, load_digits().target[:ROWS])
    return ["--labels", str(labels)]


def mutate(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """A change or two; of an archive, as often as not inside a member, with checksums that are right."""
    if suffix in (".npz", ".pt", ".pth") and rng.random() < 0.5:
        return _inside_archive(content, rng)
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2])):
        change: Callable[[bytearray, np.random.Generator], None] = CHANGES[rng.integers(len(CHANGES))]
        if data:
            change(data, rng)
    return bytes(data)


def _inside_archive(content: bytes, rng: np.random.Generator) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    chosen = list(members)[rng.integers(len(members))]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for info, data in members.items():
            changed = mutate(data, "", rng) if info is chosen else data
            archive.writestr(info.filename, changed, info.compress_type)
    return stream.getvalue()


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Anywhere, but more often near the ends, where headers are."""
    at = int(rng.integers(len(data)))
    near = int(min(len(data) - 1, rng.exponential(60)))
    return (at, at, near, len(data) - 1 - near)[rng.integers(4)]


def _flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 9)):
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: np.random.Generator) -> None:
    at = _place(data, rng)
    del data[at : at + int(rng.integers(1, 64))]


def _repeat(data: bytearray, rng: np.random.Generator) -> None:
    at, size = _place(data, rng), int(rng.integers(1, 256))
    data[at:at] = data[at : at + size]


def _number(data: bytearray, rng: np.random.Generator) -> None:
    size = int(rng.choice([1, 2, 4, 8]))
    number = NUMBERS[rng.integers(len(NUMBERS))] % 2 ** (8 * size)
    at = _place(data, rng)
    data[at : at + size] = number.to_bytes(size, "little")


def _digits(data: bytearray, rng: np.random.Generator) -> None:
    """Another number in text, as the headers of .npy and .safetensors hold shapes."""
    places = [at for at, byte in enumerate(data[:4096]) if 48 <= byte <= 57]
    if places:
        at = places[rng.integers(len(places))]
        data[at : at + 1] = str(rng.choice(["-1", "0", "7", "11", "4" * 12, "9" * 20])).encode()


CHANGES = (_flip_bits, _flip_bits, _cut, _remove, _repeat, _number, _digits)


def audit(path: Path, out: Path, whole: bool) -> str:
    """What became of a file: its outcome in a word; AssertionError where that is none of the allowed."""
    stdout, stderr = io.StringIO(), io.StringIO()

    def stop(*_: Any) -> None:
        raise Accepted

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(stdout))
        stack.enter_context(contextlib.redirect_stderr(stderr))
        if not whole:
            stack.enter_context(mock.patch.object(runner, "fit", stop))
        try:
            status = main(["audit", str(path), *labels_beside(path), "--out", str(out)])
        except Accepted:
            return "accepted"
    if status == 0:
        json.loads((out / "metrics.json").read_text())
        assert (out / "report.html").read_text().endswith("</html>"), "the report is not whole"
        for file in out.iterdir():
            file.unlink()
        out.rmdir()
        return "reported"
    lines = [line for line in stderr.getvalue().splitlines() if line.startswith("labelsmooth: error:")]
    assert (status, len(lines)) == (2, 1), f"status {status}, {stderr.getvalue()!r}"
    assert not out.exists(), "a report of a file that was refused"
    assert stdout.getvalue() == "", "something on stdout"
    return "refused"


def work(first: int, last: int, whole: int, seeds: list[tuple[str, bytes]], log: Path) -> None:
    """Mutations number `first` up to `last`, in a process of its own that logs where it is."""
    torch.set_num_threads(1)
    import_module("labelsmooth.cli.audit")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + HEADROOM, taken + HEADROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder, log.open("a") as lines:
        for number in range(first, last):
            print(number, "begun", file=lines, flush=True)
            name, content = seeds[number % len(seeds)]
            path = Path(folder) / name
            path.write_bytes(mutate(content, path.suffix, np.random.default_rng(number)))
            # either ends the process
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(10 * SECONDS)
            start = time.process_time()
            try:
                outcome = audit(path, Path(folder) / "out", number % whole == 0)
            except Exception:  # noqa: BLE001 (what this looks for)
                outcome = "FAILED"
                print(f"{number} ({name}):\n{traceback.format_exc()}", flush=True)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            print(number, outcome, f"{time.process_time() - start:.2f}", file=lines, flush=True)


def chunk(first: int, last: int, whole: int, seeds: list[tuple[str, bytes]]) -> tuple[Counter[str], float]:
    """Outcomes of these mutations, and the seconds of the slowest; a worker that dies gets a successor."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    while first < last:
        with tempfile.NamedTemporaryFile() as log:
            context = multiprocessing.get_context("spawn")
            worker = context.Process(target=work, args=(first, last, whole, seeds, Path(log.name)))
            worker.start()
            worker.join()
            lines = [line.split() for line in Path(log.name).read_text().splitlines()]
        for _, outcome, *seconds in lines:
            if seconds:
                outcomes[outcome] += 1
                slowest = max(slowest, float(seconds[0]))
        if worker.exitcode == 0:
            break
        at = int(lines[-1][0])
        print(f"{at} ({seeds[at % len(seeds)][0]}): the worker ended with {worker.exitcode}", flush=True)
        outcomes["CRASHED"] += 1
        first = at + 1
    return outcomes, slowest


def run(files: int, first: int, whole: int, workers: int, suffixes: list[str]) -> Counter[str]:
    """Outcomes by number; a mutation that fails is printed with its number, which `--first` repeats."""
    with tempfile.TemporaryDirectory() as folder:
        paths = seed_files(Path(folder))
        seeds = [(path.name, path.read_bytes()) for path in paths if path.suffix in suffixes or not suffixes]
    starts = range(first, first + files, 1000)
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda at: chunk(at, min(at + 1000, first + files), whole, seeds), starts))
    print(f"the slowest took {max(slowest for _, slowest in parts):.1f} s", flush=True)
    return sum((outcomes for outcomes, _ in parts), Counter())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--whole", type=int, default=25)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--suffixes", nargs="*", default=[], help="of the files to mutate, all if none")
    arguments = parser.parse_args()
    found = run(arguments.files, arguments.first, arguments.whole, arguments.workers, arguments.suffixes)
    print(", ".join(f"{count} {outcome}" for outcome, count in found.most_common()))
    raise SystemExit(1 if found["FAILED"] or found["CRASHED"] else 0)
