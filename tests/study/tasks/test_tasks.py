"""The registry of tasks."""

import pytest

from labelsmooth.errors import InputError
from labelsmooth.study.tasks import TASKS, Task, find_task
from labelsmooth.study.training import load_network
from labelsmooth.study.trial import TrainedNetwork


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


@pytest.mark.parametrize("name", TASKS)
def test_a_network_whose_file_is_another_than_planned_is_refused(name, tmp_path, monkeypatch):
    """Before anything is made of it, and so without any data."""
    module = f"planned_{name.replace('-', '_')}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{module}.py").write_text("def net(**sizes): ...\n")
    (config, *_) = find_task(name).recipe(model=f"{module}:net").trials("0" * 64)
    (tmp_path / f"{module}.py").write_text("")
    with pytest.raises(InputError, match=f"^the files of the model {module}:net are others on "):
        load_network(TrainedNetwork(config=config, weights={}), summary=None)
