"""Sentence pairs in three parts that have no passage and no sentence in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.pairs import Pairs

# Fixed, and apart from the seeds of the trials: every trial of every study sees the same parts.
SPLIT_SEED = 0
HELD_OUT = 0.1  # of the pairs for validation, and as many for the test
MOST_HELD_OUT = 2000  # pairs of each of these two
FEWEST = 30  # pairs of a data set

_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Sentence pairs that are trained on, and those that are not."""

    train: Pairs
    validation: Pairs
    test: Pairs
    repeated: int  # pairs that were left out, since a later part has one of their sentences


def split_pairs(found: Mapping[str, Pairs], name: str, rows: str = "sentence pairs") -> Parts:
    """Split sentence pairs into training, validation and test pairs.

    Whole passages are drawn for validation and test, where the data has no such part of its own. A sentence
    that recurs, but for case and punctuation, would be known from training: each training pair is left out
    whose source or target is among those of the other parts, and each validation pair likewise of the test.

    Args:
        found: pairs by part, as `read_pairs` gives them.
        name: of the data, for messages.
        rows: what a pair is, for messages.

    Raises:
        InputError: there are fewer than 30 pairs, or none is left of a part.

    Cost: 2 s for 31,102 verses.
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


def _draw(pairs: Pairs, parts: int) -> list[Pairs]:
    """Draw passages for so many held-out parts, and give the other pairs as the last part."""
    quota = min(MOST_HELD_OUT, round(HELD_OUT * len(pairs)))
    passages = np.array(pairs.passages)
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
    return [pairs.select(rows) for rows in drawn]


def _without(pairs: Pairs, others: Pairs) -> Pairs:
    """Leave out the pairs with a sentence of the others."""
    sources, targets = set(map(normalised, others.sources)), set(map(normalised, others.targets))
    return pairs.select(
        [
            row
            for row, (source, target) in enumerate(zip(pairs.sources, pairs.targets, strict=True))
            if normalised(source) not in sources and normalised(target) not in targets
        ]
    )
