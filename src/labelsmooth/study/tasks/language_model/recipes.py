"""Recipes by name: studies of language models."""

from __future__ import annotations

from labelsmooth.study.tasks.language_model.settings import Recipe

RECIPES: dict[str, Recipe] = {
    # All of it ours: prose of the Bible that two cores predict with three seeds in a quarter of an hour.
    "lm-prose": Recipe(
        data="verses:k",
        vocabulary=2000,
        max_tokens=128,
        eps=(0.0, 0.1),
        epochs=1,
        batch_size=2000,
        learning_rate=0.003,
        dropout=0.0,
    ),
}
