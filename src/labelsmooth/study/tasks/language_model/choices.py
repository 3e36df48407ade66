"""Multiple choice by log-likelihood: how well a network chooses among the options of a question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.evaluation import statistics
from labelsmooth.measure import TemperatureScaling
from labelsmooth.measure.arrays import State
from labelsmooth.row_stats import RowStats
from labelsmooth.study.tasks.language_model.data import Choices, Continuations
from labelsmooth.study.tasks.language_model.models import CausalModel
from labelsmooth.study.tasks.sequences.forced import ForcedTokens
from labelsmooth.study.tasks.sequences.tokens import sums_by_sentence
from labelsmooth.study.tasks.shown import Floats

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


def choice_state(network: CausalModel, choices: Choices) -> State:
    """Keep what is computed of the choices of a network.

    Returns:
        counts of options and answers of Q questions, lengths in tokens and log_probs of all O options.
    """
    return {
        "counts": choices.options.pieces,
        "answers": np.array(choices.answers, dtype=np.int32),
        "lengths": choices.options.lengths.numpy().astype(np.int32),
        "log_probs": option_log_probs(network, choices.options),
    }


def check_choices(name: str, state: State, questions: int) -> None:
    """Refuse what no `choice_state` of so many questions is.

    Raises:
        InputError: it is something else.
    """
    counts, answers, lengths = (state.get(part) for part in ("counts", "answers", "lengths"))
    if (
        counts is None
        or answers is None
        or lengths is None
        or not len(counts) == len(answers) == questions
        or not ((answers >= 0) & (answers < counts)).all()
        or len(lengths) != counts.sum()
    ):
        raise InputError(f"{name} must hold counts and answers of questions, and lengths of options")
    for part in ("log_probs", *({"log_probs_before"} & set(state))):
        values = state.get(part)
        if values is None or values.shape != lengths.shape or not np.isfinite(values).all():
            raise InputError(f"{name} must hold finite {part} of {len(lengths):,} options")


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """What a network thinks of the options of Q questions, which are the classes of these."""

    logits: Tensor  # (Q, most options), −inf where a question has fewer options than others
    answers: Tensor  # (Q,)

    def statistics(self, temperature: float = 1.0) -> RowStats:
        """Give the row statistics of the questions at a temperature."""
        return statistics(self.logits / temperature, self.answers)

    def fit_temperature(self) -> float | None:
        """Fit a temperature; None where these questions cannot tell one."""
        scaling = TemperatureScaling().fit(self.logits, self.answers)
        return None if scaling.at_boundary else scaling.temperature


def chosen_of(state: State, log_probs: str = "log_probs") -> dict[str, Chosen]:
    """Give the choices of questions by each of `WAYS`.

    The logits are the sums of the log-probabilities of tokens, or their means.

    Args:
        state: of `choice_state`.
        log_probs: the name of those of the options.

    Source: Brown et al. 2020, "Language Models are Few-Shot Learners", §2.4.
    """
    counts, answers = (torch.from_numpy(state[name]).long() for name in ("counts", "answers"))
    there = torch.arange(int(counts.max())) < counts[:, None]
    sums = state[log_probs]
    found = {}
    for way, values in zip(WAYS, (sums, sums / state["lengths"]), strict=True):
        logits = torch.full(there.shape, -torch.inf, dtype=torch.float64)
        logits[there] = torch.from_numpy(values)
        found[way] = Chosen(logits=logits, answers=answers)
    return found
