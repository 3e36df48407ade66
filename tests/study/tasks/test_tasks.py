"""The registry of tasks."""

import pytest

from labelsmooth.errors import InputError
from labelsmooth.study.tasks import TASKS, Task, find_task


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_named_by_its_recipe(name):
    task = find_task(name)
    assert isinstance(task, Task)
    assert task.recipe.task == name
    assert all(isinstance(recipe, task.recipe) for recipe in task.recipes.values())
    settings = set(vars(task.recipe.settings_class()))
    assert settings <= set(vars(task.recipe()))


def test_a_task_that_is_not_there_is_refused():
    with pytest.raises(
        InputError,
        match="the task of a study must be one of images, translation, speech, language-model, got 'sculptures'",
    ):
        find_task("sculptures")
