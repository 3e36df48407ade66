"""The task of predicting the next token of text."""

from labelsmooth.study.tasks.language_model.settings import LanguageModelSettings, Recipe
from labelsmooth.study.tasks.language_model.task import LanguageModelTask

TASK = LanguageModelTask()

__all__ = ["TASK", "LanguageModelSettings", "Recipe"]
