"""What was done to the utterances of a study, in words."""

from __future__ import annotations

from labelsmooth.study.tasks.sequences.network import is_saved
from labelsmooth.study.tasks.sequences.pairs import PARTS
from labelsmooth.study.tasks.sequences.rows import left_out
from labelsmooth.study.tasks.speech.alignment import CTC_WEIGHT, GUIDED_WEIGHT, NOISE
from labelsmooth.study.tasks.speech.augment import BANDS, FRAMES, PACE
from labelsmooth.study.tasks.speech.data import SpeechSummary
from labelsmooth.study.tasks.speech.models import MODELS
from labelsmooth.study.tasks.speech.settings import Recipe

_AUGMENTATION = (
    f"paces that differ by up to {PACE:.0%}, up to {BANDS} bands and {FRAMES} frames hidden in each utterance"
)
_ALIGNMENT = (
    f"{CTC_WEIGHT:g} · CTC of the encoder and {GUIDED_WEIGHT:g} · the cross-entropy of attention to what CTC "
    f"aligns beside the objective, {NOISE:.0%} of the tokens that the decoder sees replaced by chance"
)


def data_words(summary: SpeechSummary) -> list[str]:
    """Describe the data in a few lines."""
    minutes = [f"{getattr(summary, f'{part}_seconds') / 60:.1f}" for part in PARTS]
    without = _left_out(summary)
    return [
        f"{summary.train_utterances:,} training, {summary.validation_utterances:,} validation and "
        f"{summary.test_utterances:,} test utterances",
        f"of {minutes[0]}, {minutes[1]} and {minutes[2]} minutes",
        f"with {summary.train_rows:,}, {summary.validation_rows:,} and {summary.test_rows:,} tokens",
        f"of {summary.num_classes:,} in the vocabulary" + (f"; left out: {without}" if without else ""),
    ]


def methods(recipe: Recipe, summary: SpeechSummary) -> dict[str, tuple[str, str]]:
    """Say what was done to the rows: by keyword, words for a list and a sentence for a paragraph."""
    vocabulary = f"{summary.num_classes:,} tokens"
    if not is_saved(recipe.model):
        kind = "of byte-pair encoding, learned from" if recipe.vocabulary else "for the characters of"
        vocabulary += f" {kind} the texts to train on"
    features = (
        "80 log-mel bands of windows of 25 ms every 10 ms, normalised by utterance, of audio at "
        f"{summary.sample_rate:,} Hz"
    )
    without, ours = _left_out(summary), recipe.model in MODELS
    return {
        "Rows": (
            "tokens of the text, the end of each utterance among them",
            "The rows are tokens of the text, without case and punctuation, the end of each utterance among "
            "them, predicted from those before.",
        ),
        "Features": (features, f"The features are {features}."),
        "Vocabulary": (vocabulary, f"The vocabulary has {vocabulary}."),
        **(
            {"Utterances": (f"left out: {without}", f"Of the utterances we left out {without}.")}
            if without
            else {}
        ),
        "Augmentation": (_AUGMENTATION, f"We trained with {_AUGMENTATION}."),
        **({"Alignment": (_ALIGNMENT, f"Every arm was trained with {_ALIGNMENT}.")} if ours else {}),
    }


def _left_out(summary: SpeechSummary) -> str:
    return left_out(
        {
            "with a text or audio of the validation or test utterances": summary.repeated,
            "that last too long": summary.too_long,
            "too short for their text": summary.too_short,
        }
    )
