"""What a study would do, and about how long it would take, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass

from labelsmooth.study.data import DataSummary, load_data
from labelsmooth.study.measuring import INFORMATION_DRAWS, INFORMATION_ROWS
from labelsmooth.study.recipe import Recipe, TrialConfig
from labelsmooth.study.timing import threads_of_a_trial, time_training, torch_threads
from labelsmooth.study.training import batch_sizes, new_network


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trials of a recipe on its data, and what one of them costs."""

    recipe: Recipe
    data: DataSummary
    trials: tuple[TrialConfig, ...]
    parameters: dict[str, int]  # of each network, by its model
    steps: dict[str, int]  # of a trial of each network, by its model
    seconds: dict[str, float]  # of each trial, by its id: an estimate from a few steps on this machine


def plan_study(recipe: Recipe) -> Plan:
    """Plan a study without running it.

    Args:
        recipe: of the study.

    Returns:
        The plan; its time holds for this machine and this number of threads.

    Raises:
        FileNotFoundError: a data file is missing.
        ValueError: the data cannot be used, or the model does not fit it.

    Cost: reading the data, and about two seconds of training for each network.
    """
    data = load_data(recipe.data)
    trials = recipe.trials(data.summary.sha256)
    by_id = {trial.id: trial for trial in trials}
    any_of = {trial.model: trial for trial in trials}
    networks = {model: new_network(trial, data.summary) for model, trial in any_of.items()}
    steps = {
        model: recipe.epochs * len(batch_sizes(data.summary.train_rows, any_of[model], network))
        for model, network in networks.items()
    }
    seconds: dict[tuple[str, bool, int], float] = {}
    with torch_threads(threads_of_a_trial(len(trials))):
        for trial in trials:
            kind = _kind(trial)
            if kind not in seconds:
                step, row = time_training(trial, data, by_id.get(trial.teacher))
                looked_at = _rows_looked_at(trial, data.summary)
                seconds[kind] = steps[trial.model] * step + looked_at * row
    return Plan(
        recipe=recipe,
        data=data.summary,
        trials=trials,
        parameters={
            model: sum(p.numel() for p in network.parameters()) for model, network in networks.items()
        },
        steps=steps,
        seconds={trial.id: seconds[_kind(trial)] for trial in trials},
    )


def _kind(trial: TrialConfig) -> tuple[str, bool, int]:
    """What the time of a trial depends on."""
    return trial.model, bool(trial.teacher), trial.information


def _rows_looked_at(trial: TrialConfig, data: DataSummary) -> int:
    """The validation rows after every epoch, all rows at the end, and those of the information."""
    informed = 2 * INFORMATION_ROWS * (INFORMATION_DRAWS + 1) * min(trial.information, trial.epochs)
    all_rows = data.train_rows + data.validation_rows + data.test_rows
    return trial.epochs * data.validation_rows + all_rows + informed
