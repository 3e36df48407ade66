"""Two files on the same rows, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labelsmooth.predictions import Batch


def side_by_side(one: Iterable[Batch], two: Iterable[Batch]) -> Iterator[tuple[Batch, Batch]]:
    """The same rows of both, whatever the sizes of their blocks."""
    others = iter(two)
    right: Batch | None = None
    for left in one:
        start = 0
        while start < len(left.labels):
            right = right if right is not None and len(right.labels) else next(others)
            size = min(len(left.labels) - start, len(right.labels))
            yield left.select(slice(start, start + size)), right.select(slice(0, size))
            start, right = start + size, right.select(slice(size, None))
