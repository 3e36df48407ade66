"""What is kept of a network that translates, beside what is kept of every network that decodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import State
from labelsmooth.study.tasks.sequences.decoded import DecodedArrays, decoded_fields
from labelsmooth.study.tasks.sequences.network import EncoderDecoder
from labelsmooth.study.tasks.sequences.quality import sentence_statistics, signatures
from labelsmooth.study.tasks.sequences.settings import SequenceSettings
from labelsmooth.study.tasks.sequences.tokens import TokenArrays
from labelsmooth.study.tasks.translation.data import TranslationData


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslationArrays(DecodedArrays):
    """What the numbers and pictures of one network that translates are computed from."""

    # as `sentence_statistics` counts them
    widths: ClassVar[Mapping[str, int]] = {"bleu": 10, "chrf": 18, "ter": 2}

    source_lengths: NDArray[np.int32]  # (D,)
    source_tokens: NDArray[np.int32]  # of all of them
    bleu: State = field(default_factory=dict)
    chrf: State = field(default_factory=dict)
    ter: State = field(default_factory=dict)
    signatures: State = field(default_factory=dict)  # of sacrebleu, in UTF-8, by bleu, chrf and ter

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        super().check()
        number = len(self.decoded)
        if len(self.source_lengths) != number or len(self.source_tokens) != self.source_lengths.sum():
            raise InputError(f"source_lengths must hold the lengths of {number:,} sentences of source_tokens")


def translated(
    tokens: TokenArrays, network: EncoderDecoder, data: TranslationData, settings: SequenceSettings
) -> TranslationArrays:
    """Add to what was kept of a network its translations of some test sentences, with what scores need.

    Args:
        tokens: that were kept of it.
        network: in evaluation mode.
        data: that it was trained on.
        settings: of its trial.
    """
    found = decoded_fields(network, data.test, data.vocabulary, data.summary, settings, sentence_statistics)
    sources = [data.test.source_tokens[row] for row in found["decoded"]]
    words = signatures() if sources else {}
    return TranslationArrays(
        **vars(tokens),
        **found,
        source_lengths=np.array([len(source) for source in sources], dtype=np.int32),
        source_tokens=np.array([token for source in sources for token in source], dtype=np.int32),
        signatures={score: np.frombuffer(each.encode(), np.uint8) for score, each in words.items()},
    )
