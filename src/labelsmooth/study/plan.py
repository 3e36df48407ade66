"""What a study would do, and about how long it would take, before it is begun."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelsmooth.study.augment import seen_shape
from labelsmooth.study.data import DataSummary, load_data
from labelsmooth.study.models import build_network, model_sha256
from labelsmooth.study.recipe import Recipe, TrialConfig
from labelsmooth.study.training import time_training


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trials of a recipe on its data, and what one of them costs."""

    recipe: Recipe
    data: DataSummary
    trials: tuple[TrialConfig, ...]
    parameters: int  # of the network
    steps: int  # of a trial
    seconds: float  # of a trial: an estimate from a few steps on this machine


def plan_study(recipe: Recipe) -> Plan:
    """Plan a study without running it.

    Args:
        recipe: of the study.

    Returns:
        The plan; its time holds for this machine and this number of threads.

    Raises:
        FileNotFoundError: a data file is missing.
        ValueError: the data cannot be used, or the model does not fit it.

    Cost: reading the data, and about two seconds of training.
    """
    data = load_data(recipe.data)
    trials = recipe.trials(data.summary.sha256, model_sha256(recipe.model))
    shape = seen_shape(trials[0], data.summary.shape)
    network = build_network(recipe.model, shape, len(data.summary.class_names), seed=0)
    rows = data.summary
    steps = recipe.epochs * math.ceil(rows.train_rows / recipe.batch_size)
    step, row = time_training(trials[0], data)
    # the validation rows after every epoch, and all rows at the end
    looked_at = recipe.epochs * rows.validation_rows + rows.train_rows + rows.validation_rows + rows.test_rows
    return Plan(
        recipe=recipe,
        data=data.summary,
        trials=trials,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        steps=steps,
        seconds=steps * step + looked_at * row,
    )
