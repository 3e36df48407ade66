"""A contest: ours and its peers at the same work, and the rows that come of it."""

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
    """What ours has to reach.

    Args:
        of: "speed-up", theirs / ours, which has to be at least `limit`; "cost", ours / theirs, at most; or
            "ours", the value itself, at most.
        limit: in times, or in the unit of the contest.
    """

    of: Literal["speed-up", "cost", "ours"]
    limit: float


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Who ours is set against.

    Args:
        name: in words.
        make: its call, from the tensors of `Contest.inputs`. Raises `Unavailable` where there is none here.
        goal: of ours against it; None where it stands there for comparison only.
    """

    name: str
    make: Callable[..., Call]
    goal: Goal | None = None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Ours and its peers, on the same inputs.

    Args:
        group: the part of the benchmark that it belongs to, a key of `cases.GROUPS`.
        work: in words.
        size: of the inputs.
        unit: "s", the time of a run; "bytes", its extra peak memory (`memory.extra_peak`); or "relative
            error", which the run returns itself.
        inputs: makes the tensors that all contenders get.
        ours: makes our call from them.
        peers: the others, at least one.
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
    """One line of the table: ours against one peer.

    `ours` and `theirs` are in `unit`; times are medians over the repetitions. `ratio` is ours / theirs where
    the goal is a cost, else theirs / ours; that of a time is taken within each repetition, and others are
    measured once. `reached` is None where there is no goal, or the size is not the one it is for. Where the
    peer could not run, `skipped` says why and the numbers are None.
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


def hold(contest: Contest, repetitions: int, *, full_size: bool = True) -> list[Row]:
    """Measure a contest: one row for each peer.

    Args:
        contest: what to measure.
        repetitions: of each time, at least 1.
        full_size: whether the goals are for this size.

    Cost: that of `timing.interleaved` or, for memory, a process for each contender.
    """
    results = _times(contest, repetitions) if contest.unit == "s" else _values(contest)
    ours = results[_OURS]
    assert not isinstance(ours, Unavailable)
    return [_row(contest, peer, ours, results[peer.name], full_size) for peer in contest.peers]


_OURS = "labelsmooth"
Results = dict[str, list[float] | Unavailable]  # by name of the contender


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
    call = partial(_made, make, contest.inputs, contest.size)
    if contest.unit == "bytes":
        tiny = replace(contest.size, rows=2, classes=16, features=contest.size.features and 8)
        return extra_peak(call, partial(_made, make, contest.inputs, tiny), torch.get_num_threads())
    error = call().run()
    assert isinstance(error, float)
    return error


def _made(make: Callable[..., Call], inputs: Callable[[Size], tuple[Tensor, ...]], size: Size) -> Call:
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
    ours_then_theirs = peer.goal is not None and peer.goal.of == "cost"
    quotient = _ratio(ours, theirs) if ours_then_theirs else _ratio(theirs, ours)
    middle = statistics.median(ours)
    reached = None
    if peer.goal is not None and full_size:
        match peer.goal.of:
            case "speed-up":
                reached = quotient is not None and quotient.median >= peer.goal.limit
            case "cost":
                reached = quotient is not None and quotient.median <= peer.goal.limit
            case "ours":
                reached = middle <= peer.goal.limit
    return replace(row, ours=middle, theirs=statistics.median(theirs), ratio=quotient, reached=reached)


def _ratio(above: list[float], below: list[float]) -> Spread | None:
    """None where something was too small to be seen."""
    return ratio(above, below) if min(below) > 0 else None
