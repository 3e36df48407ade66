"""Which rows a temperature and a repair are fitted on, and which they are then measured on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from labelsmooth.predictions import Batch, Predictions

# Fixed, so that files with the same rows are split alike and models can be paired; and no seed that somebody
# takes for data, because rows drawn by the numbers that made them would be no random ones.
SPLIT_SEED = int.from_bytes(b"labelsmooth audit: rows to fit on")


class Fitting:
    """The rows to fit on: those of other predictions, or a share of the rows that are measured.

    Args:
        predictions: that are measured.
        validation: predictions on other rows; None draws rows, each with probability `share`.
        share: in (0, 1).
    """

    def __init__(self, predictions: Predictions, validation: Predictions | None, share: float) -> None:
        self._predictions = predictions
        self._validation = validation
        self.share = share

    @property
    def words(self) -> str:
        """Where the rows come from."""
        if self._validation is None:
            return f"{self.share:.3g} of its rows, drawn at random"
        if self._validation.path == self._predictions.path:
            return "the validation rows that its file holds"
        return f"the rows of {self._validation.path}"

    def batches(self) -> Iterator[Batch]:
        """The rows to fit on."""
        if self._validation is not None:
            yield from self._validation.batches()
            return
        for batch, drawn in self.measured():
            if drawn.any():
                yield batch.select(drawn)

    def measured(self) -> Iterator[tuple[Batch, npt.NDArray[np.bool_]]]:
        """The rows to measure, and which of them are fitted on: the same on every pass."""
        generator = np.random.default_rng(SPLIT_SEED)
        for batch in self._predictions.batches():
            if self._validation is not None:
                yield batch, np.zeros(len(batch.labels), bool)
            else:
                yield batch, generator.random(len(batch.labels)) < self.share
