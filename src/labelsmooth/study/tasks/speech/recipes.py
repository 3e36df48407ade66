"""Recipes by name: studies of speech, of data that packages carry."""

from __future__ import annotations

from labelsmooth.study.tasks.speech.settings import Recipe

RECIPES: dict[str, Recipe] = {
    # Ours, with the arms of Pereyra et al. 2017, "Regularizing Neural Networks by Penalizing Confident Output
    # Distributions" (unigram), and Chorowski & Jaitly 2017 (temporal), who had hundreds of hours of speech.
    # Here are 14 minutes to train on.
    "speech-prompts": Recipe(
        data="prompts:en",
        sample_rate=8_000,
        max_seconds=12.0,
        eps=(0.0, 0.1),
        also=("unigram:0.1", "temporal:0.1"),
        seeds=1,
        epochs=24,
        batch_size=150,
        learning_rate=0.002,
        schedule="cosine",
        beams=(1, 4, 10),
    ),
}
