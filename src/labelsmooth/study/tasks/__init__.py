"""The tasks that a study can have, by name."""

from __future__ import annotations

from importlib import import_module

from labelsmooth.errors import InputError
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.tasks.base import Data, Session, Summary, Task

TASKS = {
    "images": "labelsmooth.study.tasks.images",
    "translation": "labelsmooth.study.tasks.translation",
    "speech": "labelsmooth.study.tasks.speech",
    "language-model": "labelsmooth.study.tasks.language_model",
}

__all__ = ["TASKS", "Data", "Session", "Summary", "Task", "find_task", "load_data"]


def find_task(name: str) -> Task:
    """Import a task by its name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in TASKS:
        raise InputError(f"the task of a study must be one of {', '.join(TASKS)}, got {name!r}")
    task: Task = import_module(TASKS[name]).TASK
    return task


def load_data(recipe: BaseRecipe) -> Data:
    """Read the data of a recipe, as its task does."""
    return find_task(recipe.task).load(recipe)
