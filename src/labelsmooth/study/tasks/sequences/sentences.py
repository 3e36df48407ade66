"""Sentence pairs as tokens, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

UNCOUNTED = -100  # the label of a place behind the end of a sentence


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Sentence pairs as text and as tokens, with the end of each."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_tokens: tuple[tuple[int, ...], ...]
    target_tokens: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each target, the end among them, (S,)."""
        return torch.tensor([len(tokens) for tokens in self.target_tokens])

    @property
    def rows(self) -> int:
        """The number of target tokens, which are the rows of a study."""
        return int(self.lengths.sum())

    @property
    def labels(self) -> Tensor:
        """All target tokens in their order, (N,)."""
        return torch.tensor([token for tokens in self.target_tokens for token in tokens])

    def first(self, number: int) -> Sentences:
        """Take the first pairs."""
        return self.select(range(min(number, len(self))))

    def select(self, numbers: Iterable[int]) -> Sentences:
        """Take the pairs of these numbers."""
        chosen = tuple(numbers)
        return Sentences(**{name: tuple(of[n] for n in chosen) for name, of in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some sentence pairs."""

    sources: Tensor  # (B, S), padded
    labels: Tensor  # (B, T), UNCOUNTED behind the end of each

    @property
    def rows(self) -> int:
        """The number of target tokens."""
        return int((self.labels != UNCOUNTED).sum())


def make_batch(sentences: Sentences, numbers: Sequence[int], pad: int) -> Batch:
    """Make a batch of the sentence pairs of these numbers."""
    return Batch(
        sources=padded([sentences.source_tokens[number] for number in numbers], pad),
        labels=padded([sentences.target_tokens[number] for number in numbers], UNCOUNTED),
    )


def padded(tokens: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Make one tensor (B, T) of sequences, with a filler behind the end of each."""
    width = max(map(len, tokens))
    return torch.tensor([[*each, *[filler] * (width - len(each))] for each in tokens])


def batches_by_length(lengths: Tensor, most: int) -> list[int]:
    """Count the sentences of batches of about equal lengths, the shortest first.

    Args:
        lengths: tokens of each sentence, (S,).
        most: tokens of a batch; a sentence that is longer is a batch of its own.
    """
    sizes: list[int] = []
    tokens = most + 1
    for length in lengths.sort().values.tolist():
        if tokens + length > most:
            sizes.append(0)
            tokens = 0
        sizes[-1] += 1
        tokens += length
    return sizes


def shuffled_batches(lengths: Tensor, sizes: list[int], chance: torch.Generator) -> Iterator[list[int]]:
    """Give the numbers of the sentences of each batch of an epoch, in an order that chance decides.

    Sentences of one length change places, and so do batches; their sizes stay.

    Args:
        lengths: tokens of each sentence, (S,).
        sizes: of `batches_by_length`.
        chance: that decides.
    """
    order = torch.randperm(len(lengths), generator=chance)
    order = order[lengths[order].sort(stable=True).indices]
    batches = torch.split(order, sizes)
    for number in torch.randperm(len(batches), generator=chance).tolist():
        yield batches[number].tolist()
