"""`labelsmooth bench`: its arithmetic of time and memory, and the command from end to end at a tiny size."""

import json
import textwrap
from dataclasses import fields, replace
from functools import partial

import pytest
import torch

from labelsmooth.bench import cases, gpu_compile, timing
from labelsmooth.bench.cases import GROUPS, contests
from labelsmooth.bench.contest import Contest, Goal, Peer, Row, Size, Unavailable, run_contest
from labelsmooth.bench.document import cells, from_json, header, markdown
from labelsmooth.bench.memory import extra_peak
from labelsmooth.bench.timing import Call, interleaved, ratio
from labelsmooth.cli import main
from labelsmooth.tables import Table

MIB = 2**20


class Clock:
    """A clock that stands still, but while somebody works."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def work(self, name, *seconds):
        """A call that takes the given seconds, from one run to the next, and the last of them from then on."""
        left = list(seconds)

        def run():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_times_are_those_of_the_runs_in_turns():
    clock = Clock()
    calls = {
        "a": Call(clock.work("a", 9.0, 1.0, 1.0, 2.0, 3.0)),
        "b": Call(clock.work("b", 9.0, 2.0, 6.0, 2.0, 9.0), prepare=clock.work("restore", 100.0)),
    }
    seconds = interleaved(calls, 3, clock)
    assert seconds == {"a": [1.0, 2.0, 3.0], "b": [6.0, 2.0, 9.0]}  # neither warm-up nor preparation
    turns = [name for name in clock.log if name != "restore"]
    assert "".join(turns) == "abab" + "abbaab"
    spread = ratio(seconds["b"], seconds["a"])
    assert (spread.median, spread.low, spread.high) == (3.0, 1.0, 6.0)


def test_short_work_runs_often_enough_for_the_clock():
    clock = Clock()
    seconds = interleaved({"a": Call(clock.work("a", 0.003)), "b": Call(clock.work("b", 0.001))}, 1, clock)
    assert clock.log.count("a") == clock.log.count("b") == 2 + timing.TURN / 0.001
    assert seconds == {"a": [pytest.approx(0.003)], "b": [pytest.approx(0.001)]}


CONTENDERS = """
    import torch
    from labelsmooth.bench.timing import Call

    MIB = 2**20

    def make(scratch, stays, inputs=0):
        held = torch.ones(inputs * MIB + 1, dtype=torch.uint8)

        def run():
            room = torch.ones(scratch * MIB + 1, dtype=torch.uint8)
            return torch.ones(stays * MIB, dtype=torch.uint8), None, held[:1], room[:1].clone()

        return Call(run)
"""


@pytest.fixture
def contenders(tmp_path, monkeypatch):
    """A module that a fresh process can import too."""
    (tmp_path / "bench_contenders.py").write_text(textwrap.dedent(CONTENDERS))
    monkeypatch.syspath_prepend(tmp_path)
    import bench_contenders

    return bench_contenders


@pytest.mark.parametrize(("scratch", "stays", "inputs"), [(64, 16, 0), (32, 0, 128)])
def test_extra_memory_is_what_inputs_and_results_leave(contenders, scratch, stays, inputs):
    make = partial(contenders.make, scratch, stays, inputs)
    extra = extra_peak(make, partial(contenders.make, 0, 0), threads=1)
    assert extra == pytest.approx(scratch * MIB, abs=3 * MIB)


def row_of(unit, ours, theirs, goal, full_size=True):
    def value(x):
        return lambda *_: Call(lambda: x)

    return run_contest(
        Contest(
            group="loss",
            work="w",
            size=Size(rows=1, classes=2),
            unit=unit,
            inputs=lambda _: (),
            ours=value(ours),
            peers=(Peer(name="p", make=value(theirs), goal=goal),),
        ),
        3,
        full_size=full_size,
    )[0]


@pytest.mark.parametrize(
    ("goal", "ratio", "reached"),
    [
        (Goal(of="speed-up", limit=4.0), 4.0, True),
        (Goal(of="speed-up", limit=4.1), 4.0, False),
        (Goal(of="cost", limit=0.25), 0.25, True),
        (Goal(of="cost", limit=0.24), 0.25, False),
        (Goal(of="ours", limit=2.0), 4.0, True),
        (Goal(of="ours", limit=1.9), 4.0, False),
        (None, 4.0, None),
    ],
)
def test_ratio_and_goal(goal, ratio, reached):
    row = row_of("relative error", 2.0, 8.0, goal)
    assert (row.ours, row.theirs, row.ratio.median, row.reached) == (2.0, 8.0, ratio, reached)
    assert row_of("relative error", 2.0, 8.0, goal, full_size=False).reached is None


def test_nothing_is_no_divisor():
    row = row_of("relative error", 0.0, 8.0, Goal(of="ours", limit=1e-6))
    assert (row.ratio, row.reached) == (None, True)
    assert cells(row, 1.0)[2:] == ["0.0e+00", "8.0e+00", "–", "≤ 1.0e-06", "yes"]


def test_numbers_as_they_are_shown():
    row = Row(group="loss", work="w", shape=(8, 10), dtype="float32", against="p", unit="s")
    spread = timing.Spread(median=9.4321, low=9.0, high=12.34)
    row = replace(
        row, ours=5e-4, theirs=0.01234, ratio=spread, goal=Goal(of="speed-up", limit=9), reached=True
    )
    shown = ["w, 8×10 float32", "p", "500 µs", "12.3 ms", "9.43× (9.00–12.3)", "≥ 9×", "yes"]
    assert cells(row, 1.0) == shown
    assert cells(row, 0.5) == shown[:5]
    memory = replace(
        row, unit="bytes", ours=1.5 * MIB, theirs=375.2 * MIB, goal=Goal(of="ours", limit=16 * MIB)
    )
    assert cells(memory, 1.0)[2:4] == ["1.50 MiB", "375 MiB"]
    assert cells(memory, 1.0)[5] == "≤ 16.0 MiB"
    assert len(header(1.0)) == 7
    assert len(header(0.5)) == 5


def test_the_contests_are_those_of_the_design():
    sizes = {(128, 10), (256, 1000), (4096, 1000), (2048, 32000), (512, 128256), (1024, 512, 32000)}
    everything = contests([group for group in GROUPS if group != "classes"])
    assert {one.size.shape for one in everything} == sizes
    assert [one.group for one in everything] == sorted(
        (one.group for one in everything), key=list(GROUPS).index
    )
    assert {one.group for one in contests()} == set(GROUPS)
    goals = {
        (one.group, one.size.shape, one.size.dtype, peer.goal.limit)
        for one in everything
        for peer in one.peers
        if peer.goal
    }
    assert ("inplace", (512, 128256), torch.bfloat16, 9) in goals
    assert ("linear", (1024, 512, 32000), torch.float32, 1024 * 32000 * 4 / 8) in goals


def test_scale_takes_rows():
    whole, part = contests(["loss"]), contests(["loss"], 0.001)
    assert [one.size.rows for one in part] == [1, 1, 5, 3, 1, 3, 1]
    assert [one.size.classes for one in part] == [one.size.classes for one in whole]


def test_a_peer_that_does_not_compile_is_left_out(monkeypatch):
    def failing(*_, **__):
        def call(*_, **__):
            raise RuntimeError("No working C++ compiler found\nmuch advice")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    (row,) = run_contest(contests(["compile"], 0.001)[0], 1)
    assert row.skipped == "No working C++ compiler found"
    assert row.ours is row.theirs is row.ratio is row.reached is None
    assert cells(row, 1.0)[2:] == ["–", "–", "not run", "≥ 2×", "–"]


def test_a_torch_without_the_chunked_loss(monkeypatch):
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyOptions", raising=False)
    with pytest.raises(Unavailable, match="from 2.13 on"):
        cases._chunked(*(torch.zeros(()),) * 3)


@pytest.mark.parametrize("chunks", [None, 8])
def test_the_layer_contenders_do_the_same_work(chunks):
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        pytest.skip("this torch has no chunked loss")
    tensors = cases._layer(Size(rows=32, features=8, classes=50))
    expected = cases._layer_backward(cases._through_logits, *tensors, eps=0.0).run()
    torch.testing.assert_close(cases._chunked(*tensors, chunks).run(), expected)


def test_in_place_runs_start_from_the_same_logits():
    logits, target = cases._logits(Size(rows=4, classes=5))

    def overwriting(activation, target, label_smoothing):
        loss = torch.nn.functional.cross_entropy(activation.clone(), target, label_smoothing=label_smoothing)
        activation.detach().zero_()
        return loss

    call = cases._backward_to_activation(overwriting, logits, target)
    call.prepare()
    first = call.run()
    call.prepare()
    torch.testing.assert_close(call.run(), first, rtol=0, atol=0)


def test_exact_loss_in_blocks(monkeypatch):
    monkeypatch.setattr(cases, "_BLOCK", 64)
    logits, target = cases._logits(Size(rows=37, classes=10, dtype=torch.bfloat16))
    expected = torch.nn.functional.cross_entropy(logits.double(), target, label_smoothing=0.1)
    assert cases._exact(logits.detach(), target) == pytest.approx(expected.item(), rel=1e-14)


def bench(*arguments):
    return main(["bench", "--scale", "0.001", "--repetitions", "2", "--threads", "1", *arguments])


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(timing, "TURN", 0.001)
    linear = cases._linear

    def small(size):
        """With a smaller weight, and of the peers that need a process each the first."""
        contests = linear(replace(size, classes=1000))
        return [replace(one, peers=one.peers[:1]) if one.unit == "bytes" else one for one in contests]

    monkeypatch.setattr(cases, "_linear", small)
    written, page = tmp_path / "cpu.json", tmp_path / "page.md"
    groups = [group for group in GROUPS if group != "compile"]  # which takes its time
    assert bench("--only", *groups, "--json", str(written), "--markdown", str(page)) == 0
    assert sorted(tmp_path.iterdir()) == [written, page]
    out, err = capsys.readouterr()

    result = json.loads(written.read_text())
    assert set(result) == {"command", "repetitions", "scale", "complete", "machine", "rows"}
    assert (result["repetitions"], result["scale"], result["complete"]) == (2, 0.001, True)
    assert result["command"].startswith("labelsmooth bench --only loss classes inplace forward accuracy ")
    machine = result["machine"]
    assert machine["threads"] == 1
    assert machine["torch"] == torch.__version__
    assert machine["backend"].startswith(("cpu (", "reference ("))
    expected = [(one, peer) for one in contests(groups, 0.001) for peer in one.peers]
    for row, (one, peer) in zip(result["rows"], expected, strict=True):
        assert set(row) == {field.name for field in fields(Row)}
        assert (row["group"], row["against"], tuple(row["shape"])) == (one.group, peer.name, one.size.shape)
        assert row["reached"] is None
        assert row["skipped"] is None
        assert row["ours"] >= 0
        if row["unit"] == "s":
            assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
        if row["unit"] == "relative error":
            assert row["ours"] < 1e-6 < row["theirs"]

    again = from_json(written.read_text())
    assert page.read_text() == markdown(again)
    assert page.read_text().count("\n## ") == len(groups)
    assert "Measured at 0.001 of the rows" in page.read_text()
    lines = [header(0.001), *(cells(row, 0.001) for row in again.rows)]
    table = Table(head=lines[0], rows=lines[1:], words=2)
    assert out.startswith(table.text() + "\n")
    assert "reached" not in out
    assert "Measured at 0.001 of the rows" in out
    assert all("  ".join(line) in err for line in lines[1:])


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (OSError("disk"), 2)])
def test_what_was_measured_is_kept(tmp_path, monkeypatch, capsys, error, status):
    written = tmp_path / "cpu.json"
    before = []

    def failing(*_):
        before.append(from_json(written.read_text()))  # where a kill would leave it
        raise error

    planned = contests(["loss"], 0.001)
    planned[1] = replace(planned[1], inputs=failing)
    monkeypatch.setattr("labelsmooth.cli.bench.contests", lambda *_: planned)
    assert bench("--json", str(written)) == status
    result = from_json(written.read_text())
    assert [result] == before
    assert not result.complete
    assert [row.shape for row in result.rows] == [(1, 10)]
    assert "The run ended early" in capsys.readouterr().out


def test_threads_are_given_back():
    before = torch.get_num_threads()
    assert bench("--only", "forward", "--threads", "2") == 0
    assert torch.get_num_threads() == before


def test_compiled_kernels_are_a_table_and_json(tmp_path, monkeypatch, capsys):
    kernel = gpu_compile.Kernel(
        target="gfx942",
        name="forward",
        case=gpu_compile.Case(classes=10, prior=None),
        registers=40,
        spilled=0,
        shared=512,
        loads={16: 2, 4: 1},
        stores={},
        seconds=0.5,
        key="k",
    )
    monkeypatch.setattr(gpu_compile, "compile_kernels", lambda cases, targets: [kernel] * len(targets))
    written = tmp_path / "kernels.json"
    assert main(["bench", "--compile-gpu", "sm_90", "gfx942", "--json", str(written)]) == 0
    line = (
        "gfx942  forward, 8192×10 bfloat16 prior=None         40        0     512  16×2 4×1       –     0.50"
    )
    assert capsys.readouterr().out.splitlines()[1:] == [line, line]
    assert [row["loads"] for row in json.loads(written.read_text())] == [{"16": 2, "4": 1}] * 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--compile-gpu", "sm_7"], "argument --compile-gpu: invalid choice: 'sm_7'"),
        (
            ["--compile-gpu", "sm_90", "--markdown", "x"],
            "markdown is for times, and compile_gpu measures none",
        ),
        (["--onyl", "loss"], "there is no option --onyl, did you mean --only?"),
        (["--only", "los"], "argument --only: invalid choice: 'los'"),
        (["--repetitions", "0"], "--repetitions must be at least 1, got 0"),
        (["--threads", "0"], "--threads must lie in 1..1024, got 0"),
        (["--scale", "0"], "--scale must lie in (0, 1], got 0.0"),
        (["--scale", "nan"], "--scale must lie in (0, 1], got nan"),
        (
            ["--json", "/nonexistent/x.json"],
            "--json must lie in a folder that exists, got '/nonexistent/x.json'",
        ),
        (
            ["--markdown", "/nonexistent/x"],
            "--markdown must lie in a folder that exists, got '/nonexistent/x'",
        ),
    ],
)
def test_bad_options_are_one_sentence(arguments, sentence, capsys):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"labelsmooth: error: {sentence}")
    assert err.count("\n") == 1
