"""Sentences as tokens, and batches of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = dict[str, Tensor]  # of a network, by their names in transformers, (B, …) each

UNCOUNTED = -100  # the label of a place where there is no token to predict


@dataclass(frozen=True, kw_only=True)
class Sentences(ABC):
    """Sentences to predict, as text and as tokens; a subclass has what they come from.

    Every tuple of a subclass has an element for each sentence.
    """

    targets: tuple[str, ...]
    target_tokens: tuple[tuple[int, ...], ...]

    @abstractmethod
    def inputs(self, numbers: Sequence[int]) -> Inputs:
        """Give what the network takes for the sentences of these numbers, padded."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each target, the end among them, (S,)."""
        return torch.tensor([len(tokens) for tokens in self.target_tokens])

    @property
    def sizes(self) -> Tensor:
        """Tokens by which sentences are put into batches, (S,): those of the targets."""
        return self.lengths

    @property
    def rows(self) -> int:
        """The number of target tokens, which are the rows of a study."""
        return int(self.lengths.sum())

    @property
    def labels(self) -> Tensor:
        """All target tokens in their order, (N,)."""
        return torch.tensor([token for tokens in self.target_tokens for token in tokens])

    def select(self, numbers: Sequence[int]) -> Self:
        """Take the sentences of these numbers."""
        columns = {name: value for name, value in vars(self).items() if isinstance(value, tuple)}
        return replace(
            self, **{name: tuple(map(value.__getitem__, numbers)) for name, value in columns.items()}
        )

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Make a batch of the sentences of these numbers."""
        labels = padded([self.target_tokens[number] for number in numbers], UNCOUNTED)
        return Batch(inputs=self.inputs(numbers), labels=labels)


@dataclass(frozen=True, kw_only=True)
class SentencePairs(Sentences):
    """Sentences with what they are translations of."""

    sources: tuple[str, ...]
    source_tokens: tuple[tuple[int, ...], ...]
    pad: int  # the token that fills up a batch

    def inputs(self, numbers: Sequence[int]) -> Inputs:
        return token_inputs([self.source_tokens[number] for number in numbers], self.pad)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some sentences with what they are predicted from."""

    inputs: Inputs
    labels: Tensor  # (B, T), UNCOUNTED where there is no token to predict

    @property
    def rows(self) -> int:
        """The number of target tokens."""
        return int((self.labels != UNCOUNTED).sum())


def token_inputs(tokens: Sequence[Sequence[int]], pad: int) -> Inputs:
    """Make what a network that reads tokens takes, (B, S) each: all of them, whatever fills up a batch."""
    return {
        "input_ids": padded(tokens, pad),
        "attention_mask": padded([[1] * len(each) for each in tokens], 0),
    }


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
