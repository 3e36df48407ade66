"""What is kept of a network that translates, beside what is kept of every network that decodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from labelsmooth.measure.arrays import State
from labelsmooth.study.tasks.sequences.decoded import DecodedArrays, check_texts, unpacked
from labelsmooth.study.tasks.sequences.quality import TRANSLATION


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslationArrays(DecodedArrays):
    """What the numbers and pictures of one network that translates are computed from."""

    widths: ClassVar[Mapping[str, int]] = TRANSLATION
    of_nbest: ClassVar[tuple[str, ...]] = ("bleu", "chrf")
    of_sentence: ClassVar[str] = "chrf"
    shown: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "length_ratio")

    sources: NDArray[np.uint8]  # of the sentences that are decoded, by `packed`
    bleu: State = field(default_factory=dict)
    chrf: State = field(default_factory=dict)
    ter: State = field(default_factory=dict)
    signatures: State = field(default_factory=dict)  # of sacrebleu, in UTF-8, by bleu, chrf and ter

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        super().check()
        check_texts("sources", self.sources, len(self.decoded))

    @property
    def source_texts(self) -> Sequence[str]:
        return unpacked(self.sources)
