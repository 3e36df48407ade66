"""Recipes by name: experiments on translation, as far as a small machine can do them."""

from __future__ import annotations

from labelsmooth.study.tasks.translation.settings import Recipe

RECIPES: dict[str, Recipe] = {
    # Müller et al. 2019, "When Does Label Smoothing Help?", §4.2 and figure 4: hard labels against ε = 0.1,
    # by BLEU, NLL and ECE along the temperature. Ours: verses in place of WMT, of at most 40 tokens; a
    # network of two layers each; one seed, which shows the direction and leaves no interval. The 852 steps of
    # 3,000 tokens are meant to take less than 15 minutes on two cores, with all else; --seeds 3 and more
    # epochs make an experiment of it.
    "translation-verses": Recipe(
        data="verses:e-3",
        vocabulary=4000,
        max_tokens=40,
        model="small",
        eps=(0.0, 0.1),
        seeds=1,
        epochs=6,
        warm_up=0.4,
        dropout=0.2,
        decode=200,
        beams=(1, 4),
        decode_temperatures=(0.8, 1.2),
    ),
}
