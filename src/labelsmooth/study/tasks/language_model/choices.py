"""Multiple choice by log-likelihood: how well a network chooses among the options of a question."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelsmooth.study.tasks.base import Floats
from labelsmooth.study.tasks.language_model.data import Continuations
from labelsmooth.study.tasks.language_model.models import CausalModel
from labelsmooth.study.tasks.sequences.forced import ForcedTokens
from labelsmooth.study.tasks.sequences.tokens import sums_by_sentence

# what the softmax over the options is of, in words
WAYS = {
    "choice": "choice by log-likelihood",
    "choice_by_mean": "choice by mean log-likelihood of a token",
}


@torch.no_grad()
def option_log_probs(network: CausalModel, options: Continuations) -> Floats:
    """Give the log-probability of the tokens of each option, given its prompt, (O,).

    Args:
        network: in evaluation mode.
        options: of all questions.
    """
    tokens = ForcedTokens(network.predict(options), options.labels, "the options")
    (stats,) = tokens.at((1.0,))
    return -sums_by_sentence(stats.nll.numpy(), options.lengths.numpy())


def choice_logits(
    log_probs: Floats,  # (O,)
    lengths: NDArray[np.int32],  # (O,) tokens of each option
    counts: NDArray[np.int32],  # (Q,) options of each question
) -> dict[str, Tensor]:
    """Give the logits of the options of each question by each of `WAYS`, (Q, most options).

    They are the sums of the log-probabilities of tokens, or their means; −inf where a question has fewer
    options than others.

    Source: Brown et al. 2020, "Language Models are Few-Shot Learners", §2.4.
    """
    there = torch.arange(int(counts.max())) < torch.from_numpy(counts)[:, None]
    found = {}
    for way, values in zip(WAYS, (log_probs, log_probs / lengths), strict=True):
        logits = torch.full(there.shape, -torch.inf, dtype=torch.float64)
        logits[there] = torch.from_numpy(values)
        found[way] = logits
    return found
