"""Tokens of sentences that a layer predicts, drawn by chance."""

import torch
from torch.nn import functional as F

from labelsmooth.objectives.criterion import LinearOutput
from labelsmooth.study.tasks.sequences.sentences import SentencePairs

K, WIDTH = 30, 8
WEIGHT, BIAS = (
    torch.randn(*shape, generator=torch.Generator().manual_seed(9)) for shape in ((K, WIDTH), (K,))
)


def predicted(seed: int, number: int = 60) -> tuple[LinearOutput, SentencePairs]:
    """Sentences of 1 to 25 tokens, which an over-confident layer knows with noise."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 26, (number,), generator=generator).tolist()
    states = torch.randn(sum(lengths), WIDTH, generator=generator)
    noise = -torch.empty(len(states), K).exponential_(generator=generator).log()
    labels = (0.6 * F.linear(states, WEIGHT, BIAS) + noise).argmax(-1).tolist()
    tokens, rest = [], iter(labels)
    for length in lengths:
        tokens.append(tuple(next(rest) for _ in range(length)))
    texts = ("",) * number
    sentences = SentencePairs(
        pad=0, sources=texts, targets=texts, source_tokens=((1,),) * number, target_tokens=tuple(tokens)
    )
    return LinearOutput(states, WEIGHT, BIAS), sentences


TEST, VALIDATION = predicted(0), predicted(1)
COUNTS = torch.arange(K) * 40


def logits_of(part) -> tuple[torch.Tensor, torch.Tensor]:
    output, sentences = part
    return F.linear(*output).double(), sentences.labels
