"""The task of recognising speech."""

from labelsmooth.study.tasks.speech.settings import Recipe
from labelsmooth.study.tasks.speech.task import SpeechTask

TASK = SpeechTask()

__all__ = ["TASK", "Recipe"]
