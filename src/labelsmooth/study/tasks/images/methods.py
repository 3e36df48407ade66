"""What was done to the images of a study, in words."""

from __future__ import annotations

from labelsmooth.study.tasks.images.data import DataSummary
from labelsmooth.study.tasks.images.settings import Recipe


def methods(recipe: Recipe, summary: DataSummary) -> dict[str, tuple[str, str]]:
    """Say what was done to the rows: by keyword, words for a list and a sentence for a paragraph."""
    noise, scaling, images = _noise(recipe), _scaling(recipe, summary), _images(recipe)
    lay_first = " (which lay with their channels first)" if summary.channels_first else ""
    found = {
        "Label noise": (noise, f"The training labels had {noise}."),
        "Inputs": (f"{scaling}{lay_first}", f"Inputs{lay_first} were {scaling}."),
        "Images": (f"in training, at random: {images}", f"In training, images were at random {images}."),
    }
    said = {"Label noise": noise, "Inputs": scaling, "Images": images}
    return {name: words for name, words in found.items() if said[name]}


def _scaling(recipe: Recipe, summary: DataSummary) -> str:
    images = len(summary.shape) == 3
    part = recipe.standardise if recipe.standardise != "auto" else "channel" if images else "column"
    resized = f" after the middle of each was scaled to {recipe.resize}×{recipe.resize} pixels, antialiased"
    after = resized if recipe.resize else ""
    if part == "none":
        return f"left as they are{after}"
    of = "pixel" if images and part == "column" else part
    return f"standardised {of} by {of} with the mean and the standard deviation of the training rows{after}"


def _noise(recipe: Recipe) -> str:
    rate = recipe.label_noise
    if not rate:
        return ""
    return (
        f"symmetric noise: each was wrong with probability {rate:g}, and then any other class; the same "
        "labels in every trial, while those of the validation and test rows were clean"
    )


def _images(recipe: Recipe) -> str:
    ways = [
        f"moved by up to {recipe.shift} pixels" if recipe.shift else "",
        f"cropped to {recipe.crop}×{recipe.crop} (after training: the middle)" if recipe.crop else "",
        f"mirrored with probability {recipe.flip:g}" if recipe.flip else "",
    ]
    return "; ".join(filter(None, ways))
