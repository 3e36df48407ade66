"""Numbers of tokens along the temperature, the position in the sentence, and how frequent a token is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelsmooth.measure.influence import influences
from labelsmooth.measure.rows import numbers_from_stats
from labelsmooth.study.tasks.sequences.tokens import TokenArrays, influence_of_sums
from labelsmooth.study.tasks.shown import Floats, Series

_POSITIONS = (1, 2, 3, 5, 9, 17, 33, 65)  # the first of each range of them, from 1 on
_FREQUENCIES = (0, 1, 10, 100, 1000, 10_000)  # the least of each range of them
_IN_RANGES = ("accuracy", "over_confidence", "ece")


def token_series(arrays: TokenArrays) -> dict[str, list[Series]]:
    """Give numbers of the test tokens along what they depend on, with the influence of each sentence.

    Returns:
        Of temperatures NLL and ECE; accuracy, over-confidence and ECE by positions in the sentence, and by
        frequencies of the label among the training tokens, in ranges of which those with a token are there.
    """
    return {
        "temperatures": [
            _at_temperatures(arrays, "nll", arrays.nll_at_temperatures),
            _at_temperatures(arrays, "ece", arrays.ece_at_temperatures),
        ],
        "positions": _in_ranges(arrays, _positions(arrays), _POSITIONS),
        "frequencies": _in_ranges(arrays, arrays.class_counts[arrays.test_labels], _FREQUENCIES),
    }


def _at_temperatures(arrays: TokenArrays, name: str, sums: NDArray[np.float32]) -> Series:
    moved = [influence_of_sums(column, arrays.test_lengths) for column in sums.astype(np.float64).T]
    return Series(quantity=name, at=arrays.temperatures, influences={"test": np.stack(moved)})


def _positions(arrays: TokenArrays) -> NDArray[np.int64]:
    """The place of each test token in its sentence, from 1 on."""
    lengths = arrays.test_lengths
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1


def _in_ranges(arrays: TokenArrays, kind: NDArray[Any], least: tuple[int, ...]) -> list[Series]:
    """Measure the tokens in each range of the whole number that is their kind."""
    rows = numbers_from_stats(arrays.statistics("test"))
    number = len(arrays.test_lengths)
    sentence = np.repeat(np.arange(number), arrays.test_lengths)
    range_of_token = np.searchsorted(least, kind, "right") - 1
    present = np.unique(range_of_token)
    moved: dict[str, list[Floats]] = {name: [] for name in _IN_RANGES}
    for at in present:
        inside = range_of_token == at
        chosen = rows.select(inside)
        counts = np.bincount(sentence[inside], minlength=number)
        of_token = influences(chosen).of(chosen)
        for name, columns in moved.items():
            sums = np.bincount(sentence[inside], of_token[name], number).astype(np.float64)
            columns.append(influence_of_sums(sums, counts))
    ends = [*(number - 1 for number in least[1:]), None]
    words = [_range_words(least[at], ends[at]) for at in present]
    return [
        Series(
            quantity=name,
            at=np.array(least, dtype=np.float64)[present],
            words=words,
            influences={"test": np.stack(columns)},
        )
        for name, columns in moved.items()
    ]


def _range_words(first: int, last: int | None) -> str:
    """Write a range of whole numbers.

    Example:
        >>> _range_words(2, 2), _range_words(5, 8), _range_words(1000, None)
        ('2', '5–8', '1,000+')
    """
    if last is None:
        return f"{first:,}+"
    return f"{first:,}" if last == first else f"{first:,}–{last:,}"
