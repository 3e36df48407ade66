"""Contests of ours and its peers at the same work, and the rows of the table that they give."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from labelsmooth.bench.memory import extra_peak
from labelsmooth.bench.timing import Call, Spread, interleaved, ratio

Unit = Literal["s", "bytes", "relative error"]


class Unavailable(Exception):
    """A peer cannot run here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Rows and classes of the logits, and the features of the layer before them where it takes part."""

    rows: int
    classes: int
    features: int | None = None
    dtype: torch.dtype = torch.float32

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, K), or (N, H, K)."""
        middle = () if self.features is None else (self.features,)
        return (self.rows, *middle, self.classes)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound that ours has to keep.

    Args:
        of: "speed-up", theirs / ours, which is to be at least `limit`; "cost", ours / theirs, which is to be
            at most `limit`; or "ours", the value itself, which is to be at most `limit`.
        limit: a factor, or a value in the unit of the contest.
    """

    of: Literal["speed-up", "cost", "ours"]
    limit: float


@dataclass(frozen=True, kw_only=True)
class Peer:
    """An implementation that ours is measured against.

    Args:
        name: the name in tables.
        make: makes the peer's call from the tensors of `Contest.inputs`, or raises `Unavailable`.
        goal: the goal of ours against this peer; None where there is none.
    """

    name: str
    make: Callable[..., Call]
    goal: Goal | None = None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Ours and its peers, on the same inputs.

    Args:
        group: the part of the benchmark, a key of `cases.GROUPS`.
        work: the work in words.
        size: the size of the inputs.
        unit: "s", the time of a run; "bytes", its extra peak memory (`memory.extra_peak`); or "relative
            error", which the run returns itself.
        inputs: makes the tensors that all calls get.
        ours: makes our call from these tensors.
        peers: at least one.
    """

    group: str
    work: str
    size: Size
    unit: Unit = "s"
    inputs: Callable[[Size], tuple[Tensor, ...]]
    ours: Callable[..., Call]
    peers: tuple[Peer, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: ours against a peer.

    `ours` and `theirs` are in `unit`; times are medians over the repetitions. `ratio` is ours / theirs where
    the goal is a cost, else theirs / ours; ratios of times are taken within each repetition, other values are
    measured once. `reached` is None where there is no goal, or the goal is for another size. Where the peer
    could not run, `skipped` says why and the numbers are None.
    """

    group: str
    work: str
    shape: tuple[int, ...]
    dtype: str
    against: str
    unit: Unit
    ours: float | None = None
    theirs: float | None = None
    ratio: Spread | None = None
    goal: Goal | None = None
    reached: bool | None = None
    skipped: str | None = None


def run_contest(contest: Contest, repetitions: int, *, full_size: bool = True) -> list[Row]:
    """Measure a contest and return a row for each peer.

    Args:
        contest: the contest.
        repetitions: how often each time is measured, at least 1.
        full_size: False where the goals are for another size.

    Cost: that of `timing.interleaved` or, for memory, a process for each call.
    """
    results = _times(contest, repetitions) if contest.unit == "s" else _values(contest)
    ours = results[_OURS]
    assert not isinstance(ours, Unavailable)
    return [_row(contest, peer, ours, results[peer.name], full_size) for peer in contest.peers]


_OURS = "labelsmooth"
Results = dict[str, list[float] | Unavailable]  # by the name of the peer


def _times(contest: Contest, repetitions: int) -> Results:
    inputs = contest.inputs(contest.size)
    calls = {_OURS: contest.ours(*inputs)}
    missing: Results = {}
    for peer in contest.peers:
        try:
            calls[peer.name] = peer.make(*inputs)
        except Unavailable as reason:
            missing[peer.name] = reason
    return {**missing, **interleaved(calls, repetitions)}


def _values(contest: Contest) -> Results:
    values: Results = {}
    for name, make in [(_OURS, contest.ours), *((peer.name, peer.make) for peer in contest.peers)]:
        try:
            values[name] = [_value(contest, make)]
        except Unavailable as reason:
            values[name] = reason
    return values


def _value(contest: Contest, make: Callable[..., Call]) -> float:
    call = partial(_make_call, make, contest.inputs, contest.size)
    if contest.unit == "bytes":
        tiny = replace(contest.size, rows=2, classes=16, features=contest.size.features and 8)
        return extra_peak(call, partial(_make_call, make, contest.inputs, tiny), torch.get_num_threads())
    error = call().run()
    assert isinstance(error, float)
    return error


def _make_call(make: Callable[..., Call], inputs: Callable[[Size], tuple[Tensor, ...]], size: Size) -> Call:
    return make(*inputs(size))


def _row(
    contest: Contest, peer: Peer, ours: list[float], theirs: list[float] | Unavailable, full_size: bool
) -> Row:
    row = Row(
        group=contest.group,
        work=contest.work,
        shape=contest.size.shape,
        dtype=str(contest.size.dtype).removeprefix("torch."),
        against=peer.name,
        unit=contest.unit,
        goal=peer.goal,
    )
    if isinstance(theirs, Unavailable):
        return replace(row, skipped=str(theirs))
    is_cost = peer.goal is not None and peer.goal.of == "cost"
    quotient = _ratio(ours, theirs) if is_cost else _ratio(theirs, ours)
    median = statistics.median(ours)
    reached = None
    if peer.goal is not None and full_size:
        match peer.goal.of:
            case "speed-up":
                reached = quotient is not None and quotient.median >= peer.goal.limit
            case "cost":
                reached = quotient is not None and quotient.median <= peer.goal.limit
            case "ours":
                reached = median <= peer.goal.limit
    return replace(row, ours=median, theirs=statistics.median(theirs), ratio=quotient, reached=reached)


def _ratio(above: list[float], below: list[float]) -> Spread | None:
    """Return the quotients above/below, or None where a value below is too small to be measured."""
    return ratio(above, below) if min(below) > 0 else None
