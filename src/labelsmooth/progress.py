"""Where something long stands, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from labelsmooth.extras import needs_extra


class Progress:
    """A line for every item that is complete, and in a terminal a bar with the time left.

    Args:
        item: what one of them is called, as "trial".
        items: number of all of them.
        unit: what the bar counts, as "epochs".
        complete: number of items that were complete before.
        silent: whether nothing is shown, as another process does.
    """

    def __init__(self, item: str, items: int, *, unit: str, complete: int = 0, silent: bool = False) -> None:
        with needs_extra("study", "audit"):
            from tqdm import tqdm

        self._item, self._items = item, items
        self._complete = self._complete_at_start = complete
        self._silent = silent
        self._start = time.monotonic()
        self._bar = tqdm(
            bar_format=f"{{desc}} |{{bar}}| {{n_fmt}}/{{total_fmt}} {unit}, {{remaining}} left",
            disable=True if silent or sys.stderr is None else None,  # None: where stderr is no terminal
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def begin(self, words: str, total: int, complete: int = 0) -> None:
        """Begin a bar of so many units, of which some may be complete before."""
        self._bar.reset(total)
        self._bar.initial = self._bar.n = complete
        self._bar.set_description_str(words)

    def advance(self, units: int = 1) -> None:
        """Say that so many units more are complete."""
        self._bar.update(units)

    def item_done(self, sentence: str) -> None:
        """Write what there is to say of an item that is complete."""
        if self._silent:
            return
        self._complete += 1
        left = self._items - self._complete
        seconds_an_item = (time.monotonic() - self._start) / (self._complete - self._complete_at_start)
        time_left = f", about {duration(left * seconds_an_item)} left" if left else ""
        line = f"{self._item} {self._complete} of {self._items}: {sentence}{time_left}"
        self._bar.write(line, file=sys.stderr)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that they fill: 90061 is "1 d 1 h"."""
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts or unit == "s":
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])
