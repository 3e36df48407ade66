"""The protocol of a streaming measure: it counts rows, and its numbers are those of the catalogue."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, Self, TypeAlias

import numpy.typing as npt
import torch.distributed as dist

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import State
from labelsmooth.measure.inputs import Array
from labelsmooth.measure.interval import Interval
from labelsmooth.row_stats import RowStats

Table: TypeAlias = Mapping[str, npt.NDArray[Any]]  # columns of one length by name


class Measure(Protocol):
    """A measure that counts rows in batches, and needs memory that does not grow with them."""

    @classmethod
    def standard(cls, *, num_classes: int, num_bins: int) -> Self:  # noqa: ARG003
        """Make the measure with the options that audits and studies take.

        Args:
            num_classes: of the rows to come.
            num_bins: of confidence, for measures that have bins.
        """
        return cls()

    def reset(self) -> None:
        """Forget every row."""

    def update(self, scores: Array, target: Array, /) -> None:
        """Count rows of scores, each with its label; measures that can weigh rows take weights third."""

    def merge(self, other: Self) -> None:
        """Count the rows that `other` has counted, which keeps them.

        Raises:
            ValueError: the two do not have the same options.
        """

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""

    def state(self) -> State:
        """All that was counted, as copies of arrays; a measure with the same options can load them."""

    def load(self, state: State) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: it is the state of a measure with other options.
        """

    def values(self) -> dict[str, float]:
        """The numbers of all rows counted so far, by their names in the catalogue.

        Raises:
            ValueError: no row was counted.
        """

    def intervals(self, *, level: float = 0.95) -> dict[str, Interval]:  # noqa: ARG002
        """Confidence intervals of those numbers that have one, by name."""
        return {}

    def figures(self) -> dict[str, Table]:
        """Tables for pictures, by name."""
        return {}

    def all_merge(self, group: dist.ProcessGroup | None = None) -> None:
        """Count the rows of all processes of a `torch.distributed` group, so that each of them has them all.

        They are merged in the order of the processes, so that all have the same numbers to the last bit.
        Nothing happens where no process group exists. Call it once, after the last update: what it has merged
        counts as this process's own rows.

        Args:
            group: the processes; None for all.

        Raises:
            ValueError: the processes' measures cannot be merged; each process raises it then, and keeps its
                own rows.

        Cost: each process sends its state to all others, and holds one of theirs at a time.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return
        ranks = range(dist.get_world_size(group))
        options: list[Any] = [None] * len(ranks)
        dist.all_gather_object(options, self.options(), group)
        for other in options:
            require_same_options(self.options(), other)
        with unchanged_on_error(self):
            own = self.state()
            self.reset()
            part = copy.deepcopy(self)
            for rank in ranks:
                source = rank if group is None else dist.get_global_rank(group, rank)
                sent: list[Any] = [own if dist.get_rank(group) == rank else None]
                dist.broadcast_object_list(sent, source, group)
                part.load(sent[0])
                self.merge(part)


class ProbabilityMeasure(Measure, Protocol):
    """A measure of probabilities, from themselves or from the statistics of the logits."""

    def update_stats(self, stats: RowStats, weight: Array | None = None) -> None:
        """Count rows of logits by their statistics."""

    def update_probs(self, probs: Array, target: Array, weight: Array | None = None, /) -> None:
        """Count rows of probabilities."""


class Summable(Measure, Protocol):
    """A measure whose rows are arrays of fixed shapes that sum, whatever was counted."""

    def sums(self) -> State:
        """The arrays, not copied where that is possible: added to those of others, they are those of all."""

    def load_sums(self, sums: State) -> None:
        """Take the rows of such sums in place of those counted here.

        Raises:
            ValueError: they are those of a measure with other options.
        """


@contextmanager
def unchanged_on_error(measure: Measure) -> Iterator[None]:
    """Leave a measure as it was where its rows are replaced after a `reset` and that fails."""
    before = dict(vars(measure))
    try:
        yield
    except BaseException:
        vars(measure).update(before)
        raise


def require_same_options(own: str, other: str) -> None:
    """Raise `ValueError` unless two measures have the same options and so can be merged."""
    if own != other:
        raise InputError(f"only measures with the same options can be merged, got {own} and {other}")


def load_arrays(arrays: State, state: State, options: str) -> None:
    """Write the arrays of a state into those of a measure with these options.

    Raises:
        ValueError: names or shapes differ.
    """
    shapes, given = ({name: array.shape for name, array in each.items()} for each in (arrays, state))
    if shapes != given:
        raise InputError(f"a measure of {options} needs arrays {shapes}, got {given}")
    for name, array in state.items():
        arrays[name][...] = array
