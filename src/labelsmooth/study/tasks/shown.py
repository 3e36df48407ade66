"""What a task shows of its networks beside tables of numbers: headlines, series, texts, information."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelsmooth.measure.catalogue import Quantity

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A number that networks are judged by, which stands beside the scores of their rows.

    Attributes:
        quantity: what it is, under the title that a reader sees.
        field: its part and its name in the metrics, as in test_beams_4.bleu.
        with_temperature: likewise where a temperature was fitted; "" where that is not known.
        way: in which what is measured was made, in words.
        useful: the least value that outputs of any use have, and the one from which on they have none.
    """

    quantity: Quantity
    field: str
    with_temperature: str = ""
    way: str = ""
    useful: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True)
class Information:
    """The mutual information of inputs of two classes and the logits of a network, as training went on."""

    inputs: int
    epochs: tuple[int, ...]  # after which it was measured
    nats: tuple[float, ...]  # at each of these


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """A number of a network along something that it depends on, such as a temperature.

    Attributes:
        quantity: its name in the catalogue.
        at: (G,) of what it goes along, ascending.
        influences: of each row on it, (G, N) by the set of rows, as in `Task.influences`; the number is the
            mean of each set's.
        title: words for the number, where the name of the quantity does not tell it from other series.
        words: (G,) for what it goes along, where that is no number on a line.
    """

    quantity: str
    at: Floats
    influences: Mapping[str, Floats]
    title: str = ""
    words: Sequence[str] = ()

    @cached_property
    def values(self) -> Floats:
        """The number at each place, (G,)."""
        moved = next(iter(self.influences.values()))
        values: Floats = moved.mean(1)
        return values


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts that a network made of others, beside what they should be."""

    way: str  # in which they were made, in words
    sources: Sequence[str]  # none where they are no texts
    references: Sequence[str]
    outputs: Sequence[str]
    scores: Floats  # of each output
    score: str  # its name in the catalogue
