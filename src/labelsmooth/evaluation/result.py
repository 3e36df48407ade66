"""Every number of the predictions of one model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from labelsmooth.evaluation.numbers import Numbers
from labelsmooth.measure import PlaneProjection, RecoveredSmoothing
from labelsmooth.measure.influence import Influences
from labelsmooth.measure.protocol import Table

_OF_ALL_ROWS = ("all", "layer", "teacher", "smoothing")


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Every number of the predictions of one model.

    The parts of `numbers`, of which those that could not be measured are missing:

    - all: all rows, as given
    - held_out: the rows that nothing was fitted on, as given
    - with_temperature: the same rows at the temperature
    - with_pnorm: the same rows with the p-norm for a confidence
    - change_by_temperature, change_by_pnorm: what these do to the NLL and to the AURC of the same rows
    - above_threshold: the same rows whose confidence is at least the threshold
    - fitted: the rows that were fitted on, the temperature and the p, and a threshold of confidence where a
      precision was wanted
    - layer: the penultimate features and the templates
    - teacher, smoothing: all rows, by their logits

    Attributes:
        num_classes: K.
        are_probs: whether the scores are probabilities, and no logits.
        chance: the highest accuracy that one answer for all rows has.
        numbers: by part and by the names of the catalogue.
        groups: the numbers of each group of rows, in alphabetical order.
        recovered: what the logits say about the labels that the network was trained with; None where the
            classes are not those that it was trained on.
        untold: a sentence on why no temperature could be told; None where one was.
        notes: sentences on what to mind in the numbers.
        figures: tables for pictures by part and name, empty where the evaluation was read from a document.
        projection: rows of three classes in the plane of their templates, where these are known.
        influences: what `paired_differences` needs of the rows, by part; empty as the figures are.
    """

    num_classes: int
    are_probs: bool
    chance: float
    numbers: Mapping[str, Numbers]
    groups: Mapping[str, Numbers]
    recovered: RecoveredSmoothing | None
    untold: str | None
    notes: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Table]] = field(default_factory=dict)
    projection: PlaneProjection | None = None
    influences: Mapping[str, Influences] = field(default_factory=dict)

    @property
    def of_all_rows(self) -> Numbers:
        """The numbers of all rows as given, of whatever part; those that could not be told are left out."""
        return {
            name: number
            for part in _OF_ALL_ROWS
            for name, number in self.numbers.get(part, {}).items()
            if not math.isnan(number.value)
        }

    @property
    def rows(self) -> int:
        """The number of rows that count."""
        return int(self.numbers["all"]["rows"].value)

    @property
    def temperature(self) -> float | None:
        """The fitted temperature; None where none could be told."""
        return None if self.untold is not None else self.numbers["fitted"]["temperature"].value
