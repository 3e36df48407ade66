"""What was done to the utterances of a study, in words."""

from __future__ import annotations

from labelsmooth.study.tasks.sequences.pairs import PARTS
from labelsmooth.study.tasks.speech.data import SpeechSummary
from labelsmooth.study.tasks.speech.settings import Recipe


def data_words(summary: SpeechSummary) -> list[str]:
    """Describe the data in a few lines."""
    minutes = [f"{getattr(summary, f'{part}_seconds') / 60:.1f}" for part in PARTS]
    return [
        f"{summary.train_utterances:,} training, {summary.validation_utterances:,} validation and "
        f"{summary.test_utterances:,} test utterances",
        f"of {minutes[0]}, {minutes[1]} and {minutes[2]} minutes",
        f"with {summary.train_rows:,}, {summary.validation_rows:,} and {summary.test_rows:,} tokens",
        f"of {summary.num_classes:,} in the vocabulary; left out: {_left_out(summary)}",
    ]


def methods(recipe: Recipe, summary: SpeechSummary) -> dict[str, tuple[str, str]]:
    """Say what was done to the rows: by keyword, words for a list and a sentence for a paragraph."""
    vocabulary = f"{summary.num_classes:,} tokens"
    if not recipe.model.startswith("hf:"):
        kind = "of byte-pair encoding, learned from" if recipe.vocabulary else "for the characters of"
        vocabulary += f" {kind} the texts to train on"
    features = (
        "80 log-mel bands of windows of 25 ms every 10 ms, normalised by utterance, of audio at "
        f"{summary.sample_rate:,} Hz"
    )
    left_out = _left_out(summary)
    return {
        "Rows": (
            "tokens of the text, the end of each utterance among them",
            "The rows are tokens of the text, without case and punctuation, the end of each utterance among "
            "them, predicted from those before.",
        ),
        "Features": (features, f"The features are {features}."),
        "Vocabulary": (vocabulary, f"The vocabulary has {vocabulary}."),
        "Utterances": (f"left out: {left_out}", f"Of the utterances we left out {left_out}."),
    }


def _left_out(summary: SpeechSummary) -> str:
    return (
        f"{summary.repeated:,} with a text or audio of the validation or test utterances, "
        f"{summary.too_long:,} that last too long, {summary.too_short:,} too short for their text"
    )
