"""Where a running audit stands, on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from labelsmooth.extras import needs_extra


class Progress:
    """A line for every measured model, and in a terminal a bar of rows for every pass over a file.

    Args:
        models: number of models.
    """

    def __init__(self, models: int) -> None:
        with needs_extra("audit"):
            from tqdm import tqdm

        self._models = models
        self._complete = 0
        self._bar = tqdm(
            bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} rows",
            unit_scale=True,
            disable=True if sys.stderr is None else None,  # None: where stderr is no terminal
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

    def begin(self, words: str, rows: int) -> None:
        """A pass over so many rows begins."""
        self._bar.reset(rows)
        self._bar.set_description_str(words)

    def rows_done(self, rows: int) -> None:
        self._bar.update(rows)

    def model_done(self, sentence: str) -> None:
        self._complete += 1
        self._bar.write(f"model {self._complete} of {self._models}: {sentence}", file=sys.stderr)
