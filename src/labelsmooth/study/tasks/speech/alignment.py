"""What teaches a network on little speech which sounds are which tokens, in training alone.

What is predicted, decoded and measured knows nothing of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelsmooth.study.tasks.sequences.network import EncoderDecoder
from labelsmooth.study.tasks.sequences.sentences import UNCOUNTED, Inputs

CTC_WEIGHT = 1.0
GUIDED_WEIGHT = 0.5
NOISE = 0.1  # the part of the tokens before a token that chance replaces
_SMALLEST = 1e-6  # attention whose logarithm is told from that of 0


class Recogniser(EncoderDecoder):
    """Speech2Text of transformers, which also tells how well it aligns text and audio as it is trained.

    While it is trained, chance replaces a tenth of the tokens that the decoder sees, so that it listens.

    Attributes:
        ctc: the layer that makes the logits of CTC of the states of the encoder.
        alignment_loss: `CTC_WEIGHT` times `ctc_loss` and `GUIDED_WEIGHT` times `guided_alignment_loss`, 0-d,
            in nats, summed over the tokens of the batch that went through last in training mode.
    """

    alignment_loss: Tensor

    def __init__(self, body: Any, *, start: int, pad: int) -> None:
        super().__init__(body, start=start, pad=pad)
        self.ctc = nn.Linear(body.config.d_model, body.config.vocab_size)

    def seen(self, labels: Tensor) -> Tensor:
        seen = super().seen(labels)
        if not self.training:
            return seen
        noisy = torch.rand(seen.shape, device=seen.device) < NOISE
        noisy[:, 0] = False
        return torch.where(noisy, torch.randint_like(seen, self.body.config.vocab_size), seen)

    def states(self, inputs: Inputs, labels: Tensor) -> Tensor:
        if not self.training:
            return super().states(inputs, labels)
        output = self.outputs(inputs, labels, output_attentions=True)
        heard = self.body._get_feat_extract_output_lengths(inputs["attention_mask"].sum(1))
        log_probs = self.ctc(output.encoder_last_hidden_state).float().log_softmax(-1)
        alignment = ctc_alignment(log_probs.detach(), heard, labels, blank=self._pad)
        guided = [guided_alignment_loss(each, alignment) for each in output.cross_attentions]
        self.alignment_loss = (
            CTC_WEIGHT * ctc_loss(log_probs, heard, labels, blank=self._pad)
            + GUIDED_WEIGHT * torch.stack(guided).mean()
        )
        states: Tensor = output.last_hidden_state
        return states


def ctc_loss(log_probs: Tensor, heard: Tensor, labels: Tensor, *, blank: int) -> Tensor:
    """Give −ln of the probability that states of an encoder spell the texts, summed over these, in nats.

    Texts without a token, and those that need more states than there are, count nothing.

    Args:
        log_probs: (B, S, K) of the tokens in each state.
        heard: (B,) states of each utterance.
        labels: (B, T), of which the last of each text is its end, which no state spells.
        blank: the token that spells nothing.

    Source: Graves et al. 2006, "Connectionist Temporal Classification"; Kim, Hori & Watanabe 2017, "Joint
        CTC-Attention based End-to-End Speech Recognition using Multi-task Learning".
    """
    tokens = (labels != UNCOUNTED).sum(1)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        labels.clamp(min=0),
        heard,
        (tokens - 1).clamp(min=0),
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return (losses * (tokens > 0)).sum()


def ctc_alignment(log_probs: Tensor, heard: Tensor, labels: Tensor, *, blank: int) -> Tensor:
    """Give where CTC hears each token: of the probability that a state spells it, the share of each state.

    Places of a text are told apart, also where they have the same token. The end is heard in the last state.

    Args:
        log_probs, heard, labels, blank: as those of `ctc_loss`.

    Returns:
        (B, T, S) whose rows have the sum 1, or 0 where there is no token.
    """
    tokens, states = (labels != UNCOUNTED).sum(1), log_probs.shape[1]
    place = torch.arange(labels.shape[1], device=labels.device)
    spelled = log_probs.gather(2, labels.clamp(min=0)[:, None].expand(-1, states, -1))
    with torch.enable_grad():
        # each place of the text is a token of its own, behind the blank, which is 0 here
        places = torch.cat([log_probs[..., blank, None], spelled], dim=2).detach().requires_grad_()
        loss = F.ctc_loss(
            places.transpose(0, 1),
            (place + 1).expand(labels.shape),
            heard,
            (tokens - 1).clamp(min=0),
            reduction="sum",
            zero_infinity=True,
        )
        (slope,) = torch.autograd.grad(loss, places)
    # torch takes the log-probabilities for those of a log_softmax: ∂loss/∂ln p is p − P(state spells place)
    within = torch.arange(states, device=labels.device) < heard[:, None]
    found = (places.detach().exp() - slope)[..., 1:].clamp(min=0) * within[..., None]
    shares = (found / found.sum(1, keepdim=True).clamp(min=_SMALLEST)).transpose(1, 2)
    last = F.one_hot(heard - 1, states).to(shares)
    shares = torch.where((place == tokens[:, None] - 1)[..., None], last[:, None], shares)
    return shares * (place < tokens[:, None])[..., None]


def guided_alignment_loss(attention: Tensor, alignment: Tensor) -> Tensor:
    """Give the cross-entropy −Σ alignment · ln attention, of the mean of the heads, summed over tokens.

    Args:
        attention: (B, heads, T, S) of tokens to states.
        alignment: (B, T, S) that it is drawn to.

    Source: Chen et al. 2016, "Guided Alignment Training for Topic-Aware Neural Machine Translation".
    """
    return -(alignment * (attention.mean(1) + _SMALLEST).log()).sum()
