"""Where a running study stands, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from labelsmooth.extras import needs_extra


class Progress:
    """A line for every finished trial, and in a terminal a bar of epochs with the time left for the study.

    Args:
        trials: number of planned trials.
        complete: those of them that need no training.
        epochs: of each trial.
        silent: whether nothing is shown, as another process does.
    """

    def __init__(self, *, trials: int, complete: int, epochs: int, silent: bool) -> None:
        with needs_extra("study"):
            from tqdm import tqdm

        self._silent = silent
        self._trials = trials
        self._complete = complete
        self._at_start = complete
        self._start = time.monotonic()
        self._bar = tqdm(
            desc=self._now_at(),
            total=trials * epochs,
            initial=complete * epochs,
            bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} epochs, {remaining} left",
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

    def epoch_done(self) -> None:
        """Move the bar by an epoch."""
        self._bar.update()

    def trial_done(self, words: str) -> None:
        """Write a line of a finished trial."""
        if self._silent:
            return
        self._complete += 1
        left = self._trials - self._complete
        seconds_a_trial = (time.monotonic() - self._start) / (self._complete - self._at_start)
        self._bar.write(
            f"trial {self._complete} of {self._trials}: {words}"
            + (f", about {duration(left * seconds_a_trial)} left" if left else ""),
            file=sys.stderr,
        )
        self._bar.set_description_str(self._now_at())

    def _now_at(self) -> str:
        return f"trial {min(self._complete + 1, self._trials)} of {self._trials}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that they fill: 90061 is "1 d 1 h"."""
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts or unit == "s":
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])
