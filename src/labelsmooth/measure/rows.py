"""The numbers of each row of predictions, the same from logits, probabilities or row statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import Bools, Floats
from labelsmooth.measure.inputs import distributions, on_cpu, on_cpu_float64, require_usable, summed
from labelsmooth.row_stats import RowStats, row_stats

# probabilities looked at together, so that they stay in cache
_BLOCK = 2**18


@dataclass(frozen=True, eq=False, kw_only=True)
class RowNumbers:
    """The numbers of each row, (N,) each."""

    confidence: Floats  # the largest probability
    correct: Bools
    nll: Floats  # inf where the label has the probability 0
    brier: Floats  # nan, as the entropy, where row statistics do not tell it
    entropy: Floats

    def __len__(self) -> int:
        return len(self.correct)

    def select(self, keep: Bools | slice) -> RowNumbers:
        """Some of the rows."""
        return RowNumbers(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})


def joined(parts: Sequence[RowNumbers]) -> RowNumbers:
    """The rows of all parts."""
    nothing = np.zeros(0)
    none = RowNumbers(
        confidence=nothing, correct=nothing.astype(bool), nll=nothing, brier=nothing, entropy=nothing
    )
    names = (field.name for field in fields(RowNumbers))
    return RowNumbers(
        **{name: np.concatenate([getattr(part, name) for part in (none, *parts)]) for name in names}
    )


def numbers_from_stats(stats: RowStats, name: str = "logits") -> RowNumbers:
    """The rows that count, whose first index is their label; `ValueError` where the logits cannot be used."""
    if stats.index is None:
        raise InputError("stats must hold each row's label as its first index, got stats without an index")
    # the statistics of a row with a NaN, with +inf or without any finite logit have no log_sum
    require_usable(stats.log_sum, name)
    unknown = np.full(stats.log_sum.numel(), np.nan)
    rows = RowNumbers(
        confidence=on_cpu_float64(stats.confidence),
        correct=on_cpu(stats.correct),
        nll=on_cpu_float64(stats.nll),
        brier=unknown if stats.log_sum_sq is None else on_cpu_float64(stats.brier),
        entropy=unknown if stats.mean_logit is None else on_cpu_float64(stats.entropy),
    )
    return rows if stats.mask is None else rows.select(on_cpu(stats.mask))


def numbers_from_logits(rows: Tensor, labels: Tensor, name: str = "logits") -> RowNumbers:  # (N, K), (N,)
    """The rows of logits, in the precision of `row_stats`."""
    return numbers_from_stats(row_stats(rows, labels.unsqueeze(-1), log_sum_sq=True, mean_logit=True), name)


def numbers_from_probs(rows: Tensor, labels: Tensor, name: str = "probs") -> RowNumbers:  # (N, K), (N,)
    """The rows of probabilities, checked to be distributions.

    Sums over classes are in their dtype, but in float32 for half precision.
    """
    return joined([_of_block(block, labels[part], name) for block, part in blocks(rows)])


def widened(stats: RowStats) -> RowStats:
    """Statistics on the CPU in float64: confidences in float32 tie from 1 − 6e-8 on."""
    wide: RowStats = _pytree.tree_map(
        lambda x: x.detach().cpu().double() if x.is_floating_point() else x.cpu(), stats
    )
    return wide


def blocks(rows: Tensor) -> list[tuple[Tensor, slice]]:
    """Pieces of the rows (N, K) that stay in cache, each with its place."""
    at_a_time = max(1, _BLOCK // rows.shape[-1])
    places = [slice(start, start + at_a_time) for start in range(0, len(rows), at_a_time)]
    return [(rows[place], place) for place in places]


def _of_block(given: Tensor, labels: Tensor, name: str) -> RowNumbers:
    p = distributions(given, name)
    p = p.float() if p.dtype.itemsize < 4 else p
    at_label = on_cpu_float64(p.gather(-1, labels.unsqueeze(-1)))
    confidence, argmax = p.max(-1)
    with np.errstate(divide="ignore"):  # a probability of 0 has an infinite NLL
        nll = -np.log(at_label)
    return RowNumbers(
        confidence=on_cpu_float64(confidence),
        correct=on_cpu(argmax == labels),
        nll=nll,
        brier=1 - 2 * at_label + on_cpu_float64(summed(p.square())),
        # p·log p of 0 is 0 with any finite logarithm; torch's own `entr` takes three times as long
        entropy=-on_cpu_float64(summed(p.clamp_min(torch.finfo(p.dtype).tiny).log_().mul_(p))),
    )
