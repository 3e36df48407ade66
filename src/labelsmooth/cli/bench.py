"""`labelsmooth bench`: time the losses against torch's on this machine."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch

from labelsmooth.bench import (
    GROUPS,
    SCALED,
    UNFINISHED,
    Result,
    Row,
    cells,
    contests,
    from_json,
    gpu_compile,
    machine,
    markdown,
    missing,
    run_contest,
    table,
    to_json,
)
from labelsmooth.cli.options import check_file, flag
from labelsmooth.errors import InputError
from labelsmooth.extras import needs_extra
from labelsmooth.files import write_whole
from labelsmooth.tables import Table

_MOST_THREADS = 1024
HELP = "time the losses against torch's on this machine"
DESCRIPTION = (
    "Measure the time, the memory and the accuracy of the losses beside those of torch, in turns within one "
    "run, and compare them with the figures that this library aims at. For a first impression: "
    "labelsmooth bench --only loss forward --scale 0.1"
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, how often, and where the result goes.

    Raises:
        ValueError: a value out of range, an unknown group, or a file in a folder that does not exist.
    """

    only: tuple[str, ...] = field(
        default=tuple(GROUPS), metadata={"help": "groups of rows", "choices": tuple(GROUPS)}
    )
    repetitions: int = field(
        default=9, metadata={"help": "of each time, of which the median counts", "metavar": "R"}
    )
    threads: int | None = field(
        default=None,
        metadata={"help": "that both sides use (default: as many as torch takes)", "metavar": "T"},
    )
    scale: float = field(
        default=1.0,
        metadata={
            "help": "share of the rows to take, in (0, 1]; below 1 it is quicker, and no target is judged",
            "metavar": "SHARE",
        },
    )
    compile_gpu: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "instead, compile the GPU kernels for these GPUs, which need not be here, and show the "
            "registers, spills and widths of access of each",
            "choices": tuple(gpu_compile.TARGETS),
        },
    )
    json: Path | None = field(
        default=None, metadata={"help": "write the result with hardware and versions here", "metavar": "FILE"}
    )
    markdown: Path | None = field(
        default=None, metadata={"help": "write the result as a page of tables here", "metavar": "FILE"}
    )

    def __post_init__(self) -> None:
        for group in self.only:
            if group not in GROUPS:
                raise InputError(f"there is no group {group!r}, expected one of {', '.join(GROUPS)}")
        for target in self.compile_gpu:
            if target not in gpu_compile.TARGETS:
                known = ", ".join(gpu_compile.TARGETS)
                raise InputError(f"the kernels compile for no GPU {target!r}, expected one of {known}")
        if self.compile_gpu and self.markdown is not None:
            raise InputError("markdown is for times, and compile_gpu measures none")
        if self.repetitions < 1:
            raise InputError(f"repetitions must be at least 1, got {self.repetitions}")
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise InputError(f"threads must lie in 1..{_MOST_THREADS}, got {self.threads}")
        if not 0 < self.scale <= 1:
            raise InputError(f"scale must lie in (0, 1], got {self.scale}")
        for name, path in (("json", self.json), ("markdown", self.markdown)):
            if path is not None:
                check_file(name, path)


def run(options: Options) -> None:
    if options.compile_gpu:
        _compile(options)
    else:
        _measure(options)


def _compile(options: Options) -> None:
    """Compile every kernel; each on stderr too as it comes, and the table on stdout."""
    kernels = []
    for kernel in gpu_compile.compile_kernels(gpu_compile.all_cases(), options.compile_gpu):
        kernels.append(kernel)
        print("  ".join(gpu_compile.cells(kernel)), file=sys.stderr)
    if options.json is not None:
        write_whole(options.json, gpu_compile.to_json(kernels))
    print(Table(head=gpu_compile.header(), rows=list(map(gpu_compile.cells, kernels)), words=2).text())


def _measure(options: Options) -> None:
    with _threads(options.threads):
        result = Result(
            command=_command(options),
            repetitions=options.repetitions,
            scale=options.scale,
            complete=False,
            machine=machine(),
            rows=(),
        )
        try:
            for row in _measured(options):
                result = replace(result, rows=(*result.rows, row))
                _write(result, options)  # what was measured outlives a kill
            result = replace(result, complete=True)
        finally:  # and is shown after an interrupt and an error
            if result.rows:
                _write(result, options)
                _show(result)


def _measured(options: Options) -> Iterator[Row]:
    """The rows one after another; each on stderr too, and in a terminal a bar of contests."""
    with needs_extra("study"):
        from tqdm import tqdm

    planned = contests(options.only, options.scale)
    with tqdm(
        total=len(planned),
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt}, {elapsed} so far",
        disable=True if sys.stderr is None else None,  # None: where stderr is no terminal
    ) as bar:
        for contest in planned:
            bar.set_description_str(contest.group)
            for row in run_contest(contest, options.repetitions, full_size=options.scale == 1):
                bar.write("  ".join(cells(row, options.scale)), file=sys.stderr)
                yield row
            bar.update()


def _write(result: Result, options: Options) -> None:
    text = to_json(result)
    if options.json is not None:
        write_whole(options.json, text)
    if options.markdown is not None:
        write_whole(options.markdown, markdown(from_json(text)))


def _show(result: Result) -> None:
    print(table(result.rows, result.scale).text())
    for reason in missing(result.rows):
        print(f"\n{reason}")
    if result.scale != 1:
        print(f"\n{SCALED.format(result.scale)}.")
    if not result.complete:
        print(f"\n{UNFINISHED}.")


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """So many of torch's threads, for a while."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _command(options: Options) -> str:
    """The command line of these options."""
    words = ["labelsmooth", "bench"]
    for setting in fields(Options):
        value = getattr(options, setting.name)
        if value != setting.default:
            words += [flag(setting), *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)
