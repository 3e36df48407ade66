"""How a study was made, in words."""

import re
from dataclasses import replace

import pytest

from labelsmooth.report.study.methods import facts
from labelsmooth.study import Recipe, load_study, run_study
from labelsmooth.study.settings import OPTIMIZERS, SCHEDULES

WORDS = {
    "sgd": "of SGD, .* momentum 0.9",
    "nesterov": "of SGD, .* Nesterov momentum 0.9",
    "adam": "of Adam, .* betas 0.9 and 0.98",
    "adamw": "of AdamW, .* betas 0.9 and 0.999",
    "cosine": "falling to 0 as a half cosine",
    "linear": "falling to 0 as a line",
    "steps": "falling to a tenth after 0.5 and 0.75 of the steps",
    "inverse_sqrt": "falling as the inverse square root of the step",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    run_study(Recipe(data="digits", model="linear", eps=(0.0,), seeds=1, epochs=1), out)
    return load_study(out)


@pytest.mark.parametrize(
    ("setting", "choice"),
    [("optimizer", choice) for choice in OPTIMIZERS] + [("schedule", choice) for choice in SCHEDULES],
)
def test_every_optimizer_and_schedule_has_its_words(study, setting, choice):
    told = facts(replace(study, recipe=replace(study.recipe, **{setting: choice})))
    assert any(re.search(WORDS[choice], words) for words in told.values()), told
