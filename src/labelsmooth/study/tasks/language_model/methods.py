"""What was done to the texts of a study, in words."""

from __future__ import annotations

from labelsmooth.study.tasks.language_model.data import LanguageSummary
from labelsmooth.study.tasks.language_model.settings import Recipe
from labelsmooth.study.tasks.sequences.network import is_saved
from labelsmooth.study.tasks.sequences.rows import left_out


def data_words(summary: LanguageSummary) -> list[str]:
    """Describe the data in a few lines."""
    options = f", {summary.test_options:,} options of test questions" if summary.test_options else ""
    without = _left_out(summary)
    return [
        f"{summary.train_documents:,} training, {summary.validation_documents:,} validation and "
        f"{summary.test_documents:,} test {summary.documents}",
        f"with {summary.train_rows:,}, {summary.validation_rows:,} and {summary.test_rows:,} tokens to "
        f"predict{options}",
        f"of {summary.num_classes:,} in the vocabulary" + (f"; left out: {without}" if without else ""),
        *([f"read as {summary.form}"] if summary.form else []),
    ]


def methods(recipe: Recipe, summary: LanguageSummary) -> dict[str, tuple[str, str]]:
    """Say what was done to the rows: by keyword, words for a list and a sentence for a paragraph."""
    learned = "" if is_saved(recipe.model) else " of byte-pair encoding, learned from the texts to train on"
    vocabulary = f"{summary.num_classes:,} tokens{learned}"
    rows = f"tokens of {'answers' if summary.documents == 'questions' else 'documents'}, with the end of each"
    found = {
        "Rows": (rows, f"The rows are {rows}, predicted from those before."),
        "Vocabulary": (vocabulary, f"The vocabulary has {vocabulary}."),
    }
    if summary.form:
        found["Form"] = (summary.form, f"The data was read as {summary.form}.")
    if without := _left_out(summary):
        found["Texts"] = (f"left out: {without}", f"Of the texts we left out {without}.")
    return found


def _left_out(summary: LanguageSummary) -> str:
    if summary.documents == "questions":
        return left_out(
            {
                "whose prompt is among the validation or test questions": summary.repeated,
                f"of more than {summary.max_tokens} tokens": summary.too_long,
            }
        )
    return left_out({"paragraphs that are among the validation or test paragraphs": summary.repeated})
