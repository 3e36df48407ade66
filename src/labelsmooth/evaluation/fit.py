"""Fitting a temperature, a p-norm and a threshold of confidence, and saying why none can be told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from labelsmooth.evaluation.answered import choose_threshold
from labelsmooth.evaluation.numbers import Numbers, exactly
from labelsmooth.evaluation.scores import as_logits
from labelsmooth.evaluation.split import Split
from labelsmooth.measure import PNorm, TemperatureScaling
from labelsmooth.measure.inputs import weight_of_each


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A temperature, a p-norm and a threshold of confidence fitted on some rows."""

    rows: int
    scaling: TemperatureScaling | None  # None where the rows could not tell a temperature
    pnorm: PNorm
    untold: str | None  # a sentence on why no temperature could be told
    precision: float | None = None  # that the threshold is for
    threshold: float | None = None  # None where the rows do not reach the precision, or none was wanted

    @property
    def temperature(self) -> float:
        """The temperature to divide by: 1 where none could be told."""
        return 1.0 if self.scaling is None else self.scaling.temperature

    def numbers(self, *, intervals: bool) -> Numbers:
        """The rows, the temperature (nan where none could be told), the p (0 where none is better), and where
        one was wanted the threshold (nan where there is none) with its precision.
        """
        if self.scaling is None:
            temperature = exactly(math.nan)
        else:
            temperature = self.scaling.interval() if intervals else exactly(self.scaling.temperature)
        numbers = {
            "rows": exactly(self.rows),
            "temperature": temperature,
            "pnorm": exactly(self.pnorm.p or 0),
        }
        if self.precision is not None:
            numbers["precision"] = exactly(self.precision)
            numbers["threshold"] = exactly(math.nan if self.threshold is None else self.threshold)
        return numbers


def fit(split: Split, precision: float | None = None) -> Fitted:
    """Fit a temperature and a p-norm on the rows of a split that are for that.

    Args:
        split: of the rows.
        precision: share of the answers to be right, for which a threshold of confidence is chosen too.

    Raises:
        ValueError: there are no such rows.

    Cost: about ten passes over these rows.
    """
    batches = _Batches(split)
    if next(iter(batches), None) is None:
        raise split.too_few(sum(len(batch.labels) for batch in split.source.batches()))
    pnorm = PNorm().fit_batches(batches)
    chosen = {
        "precision": precision,
        "threshold": None if precision is None else choose_threshold(split, precision),
    }
    rows = f"{batches.rows:,} row{'' if batches.rows == 1 else 's'}"
    if batches.zeros:
        untold = (
            f"No temperature can be told: {batches.zeros:,} of the {rows} that it is "
            "fitted on give their label the probability 0, which no temperature changes."
        )
        return Fitted(rows=batches.rows, scaling=None, pnorm=pnorm, untold=untold, **chosen)
    scaling = TemperatureScaling().fit_batches(batches)
    if scaling.at_boundary:
        end, where = (
            ("lowest", "every label has the largest score")
            if scaling.temperature < 1
            else ("highest", "the labels' scores are no better than chance")
        )
        untold = (
            f"No temperature can be told: the NLL of the {rows} fitted on still falls at "
            f"{scaling.temperature:g}, the {end} that is tried, as it does where {where}."
        )
        return Fitted(rows=batches.rows, scaling=None, pnorm=pnorm, untold=untold, **chosen)
    return Fitted(rows=batches.rows, scaling=scaling, pnorm=pnorm, untold=None, **chosen)


class _Batches:
    """The rows to fit on as (logits, labels, weights), which can be gone through again."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self.rows = 0  # of the last pass
        self.zeros = 0  # rows of it whose label has the probability 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        self.rows = self.zeros = 0
        for batch in self._split.fitted():
            logits = as_logits(batch.scores, are_probs=self._split.source.are_probs)
            self.rows += len(logits)
            self.zeros += int((logits.gather(1, batch.labels.unsqueeze(1)) == -math.inf).sum())
            yield logits, batch.labels, weight_of_each(logits, batch.weights)
