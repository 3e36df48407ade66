"""What is said of the rows of a study of images."""

import pytest

from labelsmooth.study import Recipe
from labelsmooth.study.tasks.images.data import DataSummary
from labelsmooth.study.tasks.images.methods import methods


@pytest.mark.parametrize(
    ("settings", "shape", "says"),
    [
        (
            {},
            (1, 8, 8),
            "Inputs were standardised channel by channel with the mean and the standard deviation",
        ),
        ({}, (8,), "Inputs were standardised column by column with the mean"),
        ({"standardise": "column"}, (1, 8, 8), "Inputs were standardised pixel by pixel with the mean"),
        ({"standardise": "none"}, (1, 8, 8), "Inputs were left as they are."),
        (
            {"standardise": "none", "resize": 8},
            (1, 8, 8),
            "Inputs were left as they are after the middle of each was scaled to 8×8 pixels, antialiased.",
        ),
        (
            {"label_noise": 0.2},
            (8,),
            "The training labels had symmetric noise: each was wrong with probability 0.2",
        ),
        ({"flip": 0.5}, (1, 8, 8), "In training, images were at random mirrored with probability 0.5."),
    ],
)
def test_sentences(settings, shape, says):
    summary = DataSummary(
        sha256="", shape=shape, class_names=("a", "b"), train_rows=6, validation_rows=2, test_rows=2
    )
    found = " ".join(sentence for _, sentence in methods(Recipe(**settings), summary).values())
    assert says in found
    assert ("mirrored" in found) == ("flip" in settings)
