"""Rows of text in three parts that have no passage and no sentence in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.rows import Rows

# Fixed, and apart from the seeds of the trials: every trial of every study sees the same parts.
SPLIT_SEED = 0
HELD_OUT = 0.1  # of the rows for validation, and as many for the test
MOST_HELD_OUT = 2000  # rows of each of these two
FEWEST = 30  # rows of a data set

R = TypeVar("R", bound=Rows)
_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, kw_only=True)
class Parts(Generic[R]):
    """Rows that are trained on, and those that are not."""

    train: R
    validation: R
    test: R
    repeated: int  # rows that were left out, since a later part has one of their sentences


def split_rows(found: Mapping[str, R], name: str, rows: str = "sentence pairs") -> Parts[R]:
    """Split rows of text into training, validation and test rows.

    Whole passages are drawn for validation and test, where the data has no such part of its own. A sentence
    that recurs, but for case and punctuation, would be known from training: each training row is left out
    one of whose columns has a text that the same column of the other parts has, and each validation row
    likewise of the test.

    Args:
        found: rows by part, as `read_pairs` gives them.
        name: of the data, for messages.
        rows: what a row is, for messages.

    Raises:
        InputError: there are fewer than 30 rows, or none is left of a part.

    Cost: 2 s for 31,102 pairs of verses.
    """
    pairs = sum(map(len, found.values()))
    if pairs < FEWEST:
        raise InputError(f"{name} must have at least {FEWEST} {rows}, got {pairs}")
    drawn = [part for part in ("validation", "test") if part not in found]
    *held_out, train = _draw(found["train"], len(drawn))
    parts = {**found, **dict(zip(drawn, held_out, strict=True)), "train": train}
    validation = _without(parts["validation"], parts["test"])
    left = _without(_without(train, parts["test"]), parts["validation"])
    for part, chosen in (("training", left), ("validation", validation), ("test", parts["test"])):
        if len(chosen) == 0:
            raise InputError(
                f"{name} must have {part} {rows} whose sentences are in no other part, got none of {pairs:,}"
            )
    kept = len(left) + len(validation) + len(parts["test"])
    return Parts(train=left, validation=validation, test=parts["test"], repeated=pairs - kept)


def normalised(sentence: str) -> str:
    """Give a sentence without case and punctuation; one without a letter or a digit stays as it is.

    Example:
        >>> normalised("And God said, Let there be light: and there was light.")
        'and god said let there be light and there was light'
    """
    return _NO_WORD.sub(" ", sentence.casefold()).strip() or sentence


def _draw(rows: R, parts: int) -> list[R]:
    """Draw passages for so many held-out parts, and give the other rows as the last part."""
    quota = min(MOST_HELD_OUT, round(HELD_OUT * len(rows)))
    passages = np.array(rows.passages)
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(np.unique(passages))
    before = np.cumsum(np.bincount(passages)[shuffled]) - np.bincount(passages)[shuffled]
    drawn: list[Sequence[int]] = []
    start = 0
    for _ in range(parts):
        first = before[start]
        end = start + int((before[start:] < first + quota).sum())
        drawn.append(np.flatnonzero(np.isin(passages, shuffled[start:end])).tolist())
        start = end
    drawn.append(np.flatnonzero(np.isin(passages, shuffled[start:])).tolist())
    return [rows.select(numbers) for numbers in drawn]


def _without(rows: R, others: R) -> R:
    """Leave out the rows with a text of the others in the same column."""
    kept = set(range(len(rows)))
    for own, known in zip(rows.columns, others.columns, strict=True):
        there = set(map(normalised, known))
        kept -= {row for row in kept if normalised(own[row]) in there}
    return rows.select(sorted(kept))
