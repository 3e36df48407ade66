"""The task of translating sentences."""

from labelsmooth.study.tasks.translation.settings import Recipe
from labelsmooth.study.tasks.translation.task import TranslationTask

TASK = TranslationTask()

__all__ = ["TASK", "Recipe"]
