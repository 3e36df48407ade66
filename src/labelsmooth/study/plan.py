"""What a study would do, and about how long it would take, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labelsmooth.study.engines.select import make_placement
from labelsmooth.study.engines.threads import threads_of_a_trial, torch_threads, trials_at_a_time
from labelsmooth.study.recipe import BaseRecipe
from labelsmooth.study.tasks import find_task, load_data
from labelsmooth.study.timing import Timing, time_training
from labelsmooth.study.trial import TrialConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trials of a recipe on its data, and what they cost."""

    recipe: BaseRecipe
    data: Any  # the summary
    trials: tuple[TrialConfig, ...]
    at_a_time: int  # trials that train side by side
    parameters: dict[str, int]  # of each network, by its model
    steps: dict[str, int]  # of a trial of each network, by its model
    seconds: dict[str, float]  # of each trial, by its id: an estimate from a few steps on this machine


def plan_study(recipe: BaseRecipe, jobs: int | None = None) -> Plan:
    """Plan a study without running it.

    Args:
        recipe: of the study.
        jobs: as `run_study` takes it.

    Returns:
        The plan; its time holds for this machine and this number of threads.

    Raises:
        FileNotFoundError: a data file is missing.
        InputError: the data cannot be used, or the model does not fit it.

    Cost: reading the data, and about two seconds of training for each network.
    """
    placement = make_placement(recipe.settings().precision)
    at_a_time = trials_at_a_time(jobs, placement)
    task, data = find_task(recipe.task), load_data(recipe)
    trials = recipe.trials(data.summary.sha256)
    by_id = {trial.id: trial for trial in trials}
    timings: dict[tuple[object, ...], Timing] = {}
    seconds: dict[str, float] = {}
    with torch_threads(threads_of_a_trial(len(trials))):
        for trial in trials:
            kind = (trial.model, trial.teacher is not None, trial.settings)
            if kind not in timings:
                teacher = None if trial.teacher is None else by_id[trial.teacher.id]
                timings[kind] = time_training(trial, data, placement, teacher)
            timing, rows = timings[kind], task.rows_measured(trial, data.summary)
            seconds[trial.id] = timing.steps * timing.seconds_a_step + rows * timing.seconds_a_row
    of_models = {model: timing for (model, *_), timing in timings.items()}
    return Plan(
        recipe=recipe,
        data=data.summary,
        trials=trials,
        at_a_time=at_a_time,
        parameters={str(model): timing.parameters for model, timing in of_models.items()},
        steps={str(model): timing.steps for model, timing in of_models.items()},
        seconds=seconds,
    )
