"""Which rows a temperature and a p-norm are fitted on, and which are measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import InputError
from labelsmooth.predictions import Batch, Source

# Fixed, so that predictions on the same rows are split alike and can be paired; and no seed that somebody
# takes for data, because rows drawn by the numbers that made them would be no random ones.
SPLIT_SEED = int.from_bytes(b"labelsmooth audit: rows to fit on")


class Split:
    """Predictions to measure, with rows to fit on: other predictions, or a share of the measured rows.

    Args:
        source: the predictions to measure.
        validation: predictions of the same model on other rows; None draws each row with probability `share`.
        share: of the rows to fit on, in (0, 1), where no others are given.

    Raises:
        ValueError: `share` lies outside (0, 1), or the two do not have the same classes and kind of scores.
    """

    def __init__(self, source: Source, validation: Source | None = None, share: float = 0.2) -> None:
        if not 0 < share < 1:
            raise InputError(f"share must lie in (0, 1), got {share}")
        if validation is not None:
            for what, measured, fitted in (
                ("classes", source.num_classes, validation.num_classes),
                ("kind of scores", _kind(source), _kind(validation)),
            ):
                if measured != fitted:
                    raise InputError(
                        f"{validation.name} must have the {what} of {source.name}, "
                        f"got {fitted} and {measured}"
                    )
        self.source = source
        self.validation = validation
        self.share = share

    def fitted(self) -> Iterator[Batch]:
        """Iterate over the rows to fit on."""
        if self.validation is not None:
            yield from self.validation.batches()
            return
        for batch, drawn in self.measured():
            if drawn.any():
                yield batch.select(drawn)

    def measured(self) -> Iterator[tuple[Batch, npt.NDArray[np.bool_]]]:
        """Iterate over the rows to measure, with those that are fitted on: the same on every pass."""
        generator = np.random.default_rng(SPLIT_SEED)
        for batch in self.source.batches():
            if self.validation is not None:
                yield batch, np.zeros(len(batch.labels), bool)
            else:
                yield batch, generator.random(len(batch.labels)) < self.share

    def held_out(self) -> Iterator[Batch]:
        """Iterate over the measured rows that nothing is fitted on."""
        for batch, drawn in self.measured():
            yield batch.select(~drawn)

    def holds_out_as(self, other: Split) -> bool:
        """Whether the same of equally many rows are held out in both."""
        if self.validation is None or other.validation is None:
            return self.validation is other.validation and self.share == other.share
        return True

    def too_few(self, rows: int) -> InputError:
        """The error to raise where no row is left to fit on, or none to measure."""
        return InputError(
            f"{self.source.name} has too few rows to fit on {self.share:g} of them and measure the rest, "
            f"got {rows}: give more rows"
        )


def _kind(source: Source) -> str:
    return "probabilities" if source.are_probs else "logits"
