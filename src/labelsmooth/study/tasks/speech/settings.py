"""The settings of a study of speech: those of every task of sentences, and those of audio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from labelsmooth.errors import InputError
from labelsmooth.study.settings import check_whole
from labelsmooth.study.tasks.sequences.network import check_model
from labelsmooth.study.tasks.sequences.settings import SequenceRecipe
from labelsmooth.study.tasks.sequences.vocabulary import SMALLEST
from labelsmooth.study.tasks.speech.audio import RATES
from labelsmooth.study.tasks.speech.models import MODELS


@dataclass(frozen=True, kw_only=True)
class Recipe(SequenceRecipe):
    """A study of speech; see `SequenceRecipe`.

    Raises:
        InputError: a setting is outside its range.
    """

    task: ClassVar[str] = "speech"

    data: str = field(
        default="prompts:en",
        metadata={
            "help": "utterances: manifest:FILE (path of an audio file TAB text; WAV, FLAC, Ogg and what else "
            "libsndfile reads, of any rate), hf:NAME (a column audio and one of text, sentence or "
            "transcription), or prompts:LANGS, as in prompts:en-es, of Debian's packages "
            "asterisk-core-sounds-LANG-wav and asterisk-core-sounds-LANG (en, es, fr, it, ru); texts lose "
            "case and punctuation",
            "metavar": "DATA",
        },
    )
    sample_rate: int = field(
        default=16_000,
        metadata={
            "help": "samples a second that audio is brought to; 8000 for that of telephones",
            "metavar": "HZ",
        },
    )
    max_seconds: float = field(
        default=20.0, metadata={"help": "longest utterance; longer ones are left out", "metavar": "X"}
    )
    vocabulary: int = field(
        default=0,
        metadata={
            "help": f"tokens to learn from the texts to train on, at least {SMALLEST}; 0: their characters "
            "are the tokens; hf:FOLDER brings its own",
            "metavar": "N",
        },
    )
    model: str = field(
        default="small",
        metadata={
            "help": "Speech2Text: small (width 144, 4 + 2 layers) or base (256, 12 + 6 layers), trained with "
            "CTC and guided alignment beside the objective; or, trained on the objective alone, hf:FOLDER "
            "(one that transformers saved, with its weights and a tokenizer.json) or your own as "
            "module:factory, made by factory(vocab_size=..., pad_token_id=..., eos_token_id=..., "
            "decoder_start_token_id=..., input_feat_per_channel=..., max_source_positions=..., "
            "max_target_positions=...)",
            "metavar": "MODEL",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise InputError(f"sample_rate must lie in {RATES[0]}..{RATES[1]}, got {self.sample_rate}")
        if not 0 < self.max_seconds <= 3600:
            raise InputError(f"max_seconds must lie in (0, 3600], got {self.max_seconds:g}")
        if self.vocabulary:
            check_whole("vocabulary", self.vocabulary, at_least=SMALLEST)
        check_model(self.model, MODELS)
