"""What is kept of a network that translates, beside what is kept of every network that decodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import State
from labelsmooth.study.tasks.sequences.decoded import DecodedArrays
from labelsmooth.study.tasks.sequences.quality import TRANSLATION
from labelsmooth.study.tasks.sequences.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslationArrays(DecodedArrays):
    """What the numbers and pictures of one network that translates are computed from."""

    widths: ClassVar[Mapping[str, int]] = TRANSLATION
    of_nbest: ClassVar[tuple[str, ...]] = ("bleu", "chrf")
    of_sentence: ClassVar[str] = "chrf"
    shown: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "length_ratio")

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

    def source_texts(self, vocabulary: Vocabulary) -> Sequence[str]:
        sources = np.split(self.source_tokens, np.cumsum(self.source_lengths)[:-1])
        return vocabulary.decode([tokens.tolist() for tokens in sources])
