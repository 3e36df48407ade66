"""What was done to the sentences of a study, in words."""

from __future__ import annotations

from labelsmooth.study.tasks.sequences.rows import left_out
from labelsmooth.study.tasks.translation.data import TranslationSummary
from labelsmooth.study.tasks.translation.settings import Recipe


def data_words(summary: TranslationSummary) -> list[str]:
    """Describe the data in a few lines."""
    without = _left_out(summary)
    return [
        f"{summary.train_pairs:,} training, {summary.validation_pairs:,} validation and "
        f"{summary.test_pairs:,} test sentence pairs",
        f"with {summary.train_rows:,}, {summary.validation_rows:,} and {summary.test_rows:,} target tokens",
        f"of {summary.num_classes:,} in the vocabulary" + (f"; left out: {without}" if without else ""),
    ]


def methods(recipe: Recipe, summary: TranslationSummary) -> dict[str, tuple[str, str]]:
    """Say what was done to the rows: by keyword, words for a list and a sentence for a paragraph."""
    learned = " of byte-pair encoding, learned from the training pairs of both languages"
    vocabulary = f"{summary.num_classes:,} tokens{'' if recipe.model.startswith('hf:') else learned}"
    without = _left_out(summary)
    return {
        "Rows": (
            "target tokens, the end of each sentence among them",
            "The rows are target tokens, the end of each sentence among them, predicted from those before.",
        ),
        "Vocabulary": (vocabulary, f"The vocabulary has {vocabulary}."),
        **(
            {"Sentence pairs": (f"left out: {without}", f"Of the sentence pairs we left out {without}.")}
            if without
            else {}
        ),
    }


def _left_out(summary: TranslationSummary) -> str:
    return left_out(
        {
            "with a sentence of the validation or test pairs": summary.repeated,
            f"of more than {summary.max_tokens} tokens": summary.too_long,
        }
    )
