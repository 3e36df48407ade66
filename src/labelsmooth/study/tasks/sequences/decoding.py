"""Beam search: the sentences that a network takes for the most probable."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.study.tasks.sequences.sentences import Sentences

_TOGETHER = 64  # sentences that are searched at a time


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """One way to search for the most probable sentence.

    Attributes:
        beams: beginnings of sentences that are kept at a time; 1 is greedy search.
        length_penalty: the power of its length that the log-probability of a sentence is divided by.
        temperature: that the logits are divided by.
        rectify: ε of p′ ∝ max(p − ε/K, 0), which takes back what uniform smoothing gives to every token.

    Raises:
        InputError: a number is out of its range.

    Source: Liang, Wang & Cao 2022, "The Implicit Length Bias of Label Smoothing on Beam Search Decoding", for
        the rectification of what was trained on targets (1 − ε)·[k = y] + ε/K.
    """

    beams: int
    length_penalty: float = 1.0
    temperature: float = 1.0
    rectify: float = 0.0

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise InputError(f"beams must be at least 1, got {self.beams}")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be above 0 and finite, got {self.temperature:g}")
        if not 0 <= self.rectify < 1:
            raise InputError(f"rectify must lie in [0, 1), got {self.rectify:g}")

    def scores(self, logits: Tensor) -> Tensor:  # (n, K)
        """Give the log-probabilities that are searched by, −inf where there is none, of logits or of others.

        Example:
            >>> Decoding(beams=1, rectify=0.5).scores(torch.tensor([[0.7, 0.2, 0.1]]).log()).exp()
            tensor([[0.9412, 0.0588, 0.0000]])
        """
        log_probs = (logits / self.temperature).log_softmax(-1)
        if not self.rectify:
            return log_probs
        left = (log_probs.exp() - self.rectify / logits.shape[-1]).clamp_min(0)
        return (left / left.sum(-1, keepdim=True)).log()


@dataclass(frozen=True, kw_only=True, eq=False)
class Hypotheses:
    """The best sentences that a search found for each of S others, the best first."""

    tokens: NDArray[np.int32]  # of all, without starts and ends
    lengths: NDArray[np.int32]  # (S, n)

    def all(self) -> list[list[int]]:
        """Give the tokens of every sentence: the n of the first of the others, then those of the second."""
        ends = np.cumsum(self.lengths)
        return [sentence.tolist() for sentence in np.split(self.tokens, ends[:-1])]

    def best(self) -> list[list[int]]:
        """Give the tokens of the best of each."""
        return self.all()[:: self.lengths.shape[1]]


def decode(
    body: Any,
    sentences: Sentences,
    decoding: Decoding,
    *,
    pad: int,
    end: int,
    max_tokens: int,
) -> Hypotheses:
    """Search for sentences, as `generate` of transformers does.

    Args:
        body: an encoder and decoder of transformers, in evaluation mode.
        sentences: S, whose inputs they are searched for.
        decoding: how.
        pad: the token that fills up a batch.
        end: the last token of a sentence.
        max_tokens: of a sentence, the end among them.

    Returns:
        As many for each of the sentences as there are beams.
    """
    from transformers import LogitsProcessorList

    config = copy.deepcopy(body.generation_config)
    config.update(
        num_beams=decoding.beams,
        num_return_sequences=decoding.beams,
        length_penalty=decoding.length_penalty,
        max_length=None,
        max_new_tokens=max_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=end,
    )
    processors = LogitsProcessorList([lambda _, scores: decoding.scores(scores)])
    device = next(body.parameters()).device
    found: dict[int, list[list[int]]] = {}
    for rows in torch.split(sentences.lengths.argsort(stable=True), _TOGETHER):
        inputs = {name: value.to(device) for name, value in sentences.inputs(rows.tolist()).items()}
        made = body.generate(**inputs, generation_config=config, logits_processor=processors)
        best = [_until(end, tokens) for tokens in made[:, 1:].tolist()]
        for place, row in enumerate(rows.tolist()):
            found[row] = best[place * decoding.beams : (place + 1) * decoding.beams]
    ordered = [found[row] for row in range(len(sentences))]
    return Hypotheses(
        tokens=np.array([token for best in ordered for tokens in best for token in tokens], dtype=np.int32),
        lengths=np.array([[len(tokens) for tokens in best] for best in ordered], dtype=np.int32),
    )


def _until(end: int, tokens: list[int]) -> list[int]:
    """Leave out the end of a sentence, and what fills up its batch behind it."""
    return tokens[: tokens.index(end)] if end in tokens else tokens
