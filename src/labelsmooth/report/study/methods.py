"""How a study was made, in words: as a list of facts, and as a paragraph for a paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from labelsmooth.report.shared.words import listed
from labelsmooth.report.study.numbers import Networks
from labelsmooth.study import Objective, Study, Trial, TrialConfig
from labelsmooth.study.settings import setting_words
from labelsmooth.study.tasks import find_task

_FITTED = {"temperatures": "fitted.temperature", "p-norms": "fitted.pnorm"}
_FIXED = "the initial weights, the order of the batches and all else that is left to chance"


def study_names(studies: Sequence[Study]) -> list[str]:
    """Each study in a few words: the model and the data, and as many settings as tell it from the others."""
    names = [f"{study.recipe.model} on {study.recipe.data}" for study in studies]
    settings = [
        setting.name
        for study in studies
        for setting in fields(study.recipe)
        if setting.name not in ("model", "data", *study.recipe.dependent)
    ]
    growing = {name for study in studies for name in study.recipe.growing}  # which says least of a study
    for setting in sorted(dict.fromkeys(settings), key=growing.__contains__):
        values = [setting_words(getattr(study.recipe, setting, None)) for study in studies]
        words = [
            f"{name}, {setting.replace('_', ' ')} {value}" for name, value in zip(names, values, strict=True)
        ]
        names = [
            longer if names.count(name) > words.count(longer) else name
            for name, longer in zip(names, words, strict=True)
        ]
    return [
        f"{name} ({study.folder})" if names.count(name) > 1 else name
        for name, study in zip(names, studies, strict=True)
    ]


def facts(study: Study) -> dict[str, str]:
    """Say what was done, by keyword."""
    recipe, data = study.recipe, study.data
    found = {
        "Data": f"{recipe.data}: {_rows(study)}, {_classes(study)}",
        "Model": recipe.model,
        **{name: words for name, (words, _) in _rows_prepared(study).items()},
        "Training": _training(study),
        "Arms": "; ".join(
            [objective.name for objective in recipe.objectives]
            + [f"{Objective.parse(arm).name} (diverged)" for arm in study.diverged_arms]
        ),
        "Students": _students(study),
        "Diverged": "; ".join(map(_student_name, study.diverged_students)),
        "Seeds": f"{_seeds(study)}, which {_fix(study)} {_FIXED}",
        "Versions": f"labelsmooth {_versions(study)}",
        "Machine": _machine(study),
        "SHA-256": f"{data.sha256} of the data",
    }
    return {name: words for name, words in found.items() if words}


def paragraph(study: Study) -> str:
    """Say it as a paragraph of prose, ready to be pasted into a paper."""
    recipe, data, task = study.recipe, study.data, find_task(study.recipe.task)
    arms = listed([objective.phrase for objective in recipe.objectives])
    uniform = any(objective.eps for objective in recipe.objectives)
    candidates = len(recipe.objectives) - 1
    taught = _students(study)
    sentences = [
        f"We trained {recipe.model} on {recipe.data} ({_rows(study)}; {_classes(study)}; "
        f"SHA-256 of the data {data.sha256[:16]}…) with {arms}.",
        f"The target of label smoothing is (1−ε)·onehot + ε/K over all K {task.class_words}."
        if uniform
        else "",
        *(sentence for _, sentence in _rows_prepared(study).values()),
        f"Training took {_training(study)}.",
        f"Students were {taught}." if taught else "",
        _diverged(study),
        f"Every arm was trained with the {_seeds(study)}, which {_fix(study)} {_FIXED}, so that the arms are "
        "paired by seed.",
        _scores(study),
        _intervals(study) if recipe.seeds > 1 else "",
        f"The arm that stands beside hard labels was chosen by its NLL on the validation {_units(study)}, "
        f"and the intervals of its differences are simultaneous over {candidates} candidates (Bonferroni)."
        if candidates > 1
        else "",
        f"We used labelsmooth {_versions(study)}, on {_machine(study)}.",
    ]
    return " ".join(filter(None, sentences))


def counts_rows(study: Study) -> bool:
    """Whether the intervals of a study count the chance of rows, as its task tells their influences."""
    return "test" in Networks(study.trials[:1])["test.nll"].influences


def _scores(study: Study) -> str:
    networks = Networks(study.trials)
    fitted = [name for name, field in _FITTED.items() if field in networks]
    on_validation = (
        f"{listed(fitted).capitalize()} were fitted on the validation {_units(study)}; all"
        if fitted
        else "All"
    )
    nll = "the negative log-likelihood (NLL) is of the unsmoothed labels, in nats."
    ece = "the expected calibration error (ECE) has 15 bins of equal width, and "
    words = f"{ece}{nll}" if "test.ece" in networks else nll
    return f"{on_validation} scores are of the test {_units(study)}. {words[0].upper()}{words[1:]}"


def _intervals(study: Study) -> str:
    if not counts_rows(study):
        return "Values are means over seeds with 95 % t-intervals over these; differences are paired by seed."
    units = _units(study)
    fitted = (
        f", to which the validation {units} are added for what depends on a fitted temperature"
        if "fitted.temperature" in Networks(study.trials)
        else ""
    )
    return (
        "Values are means over seeds with 95 % t-intervals from the two-way variance of seeds and test "
        f"{units} (Satterthwaite's degrees of freedom, no fewer than those of the seeds){fitted}; "
        f"differences are paired by seeds and {units}."
    )


def _rows_prepared(study: Study) -> Mapping[str, tuple[str, str]]:
    return find_task(study.recipe.task).methods(study.recipe, study.data)


def _diverged(study: Study) -> str:
    names = [Objective.parse(arm).name for arm in study.diverged_arms]
    names += map(_student_name, study.diverged_students)
    left_out = "are left out" if len(names) > 1 else "is left out"
    return f"The training of {listed(names)} diverged, and {left_out}." if names else ""


def _student_name(config: TrialConfig) -> str:
    """Name a student of any seed."""
    arm = Objective.parse(config.arm).name
    if config.teacher is None:
        return f"{config.model} alone on the arm {arm}"
    return f"{config.model} at T = {config.temperature:g} with a teacher of the arm {arm}"


def _rows(study: Study) -> str:
    return find_task(study.recipe.task).data_words(study.data)[0]


def _classes(study: Study) -> str:
    return f"{study.data.num_classes:,} {find_task(study.recipe.task).class_words}"


def _units(study: Study) -> str:
    return find_task(study.recipe.task).unit_words(study.data)


def _training(study: Study) -> str:
    recipe = study.recipe
    falls = {
        "cosine": "to 0 as a half cosine",
        "linear": "to 0 as a line",
        "steps": f"to a tenth after {listed([f'{part:g}' for part in recipe.drops])} of the steps",
        "inverse_sqrt": "as the inverse square root of the step",
    }[recipe.schedule]
    optimizer, momentum = {
        "sgd": ("SGD", f"momentum {recipe.momentum:g}"),
        "nesterov": ("SGD", f"Nesterov momentum {recipe.momentum:g}"),
        "adam": ("Adam", "betas 0.9 and 0.98"),
        "adamw": ("AdamW", "betas 0.9 and 0.999"),
    }[recipe.optimizer]
    rises = (
        f"rising in a line over the first {recipe.warm_up:g} of the steps and then " if recipe.warm_up else ""
    )
    clip = f", gradients clipped at norm {recipe.clip:g}" if recipe.clip else ""
    precision = f", in the mixed precision {recipe.precision}" if recipe.precision != "no" else ""
    decayed = "".join(
        f" (of {model}: of {words} only)"
        for model in dict.fromkeys((recipe.model, recipe.student))
        if model is not None and recipe.weight_decay
        for words in [find_task(recipe.task).decayed_words(model)]
        if words
    )
    return (
        f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''} of {optimizer}, "
        f"batch size {recipe.batch_size}, "
        f"learning rate {recipe.learning_rate:g} {rises}falling {falls}, {momentum}, "
        f"weight decay {recipe.weight_decay:g}{decayed}{clip}{precision}"
    )


def _students(study: Study) -> str:
    recipe = study.recipe
    if recipe.student is None:
        return ""
    temperatures = listed([f"{temperature:g}" for temperature in recipe.temperatures])
    return (
        f"{recipe.student}, trained in the same way{recipe.student_words} on "
        f"(1−β)·H(y, p) + β·T²·H(pᵗ(T), p(T)) with β = {recipe.beta:g} and T = {temperatures}, "
        "from every teacher; and on every objective without one"
    )


def _seeds(study: Study) -> str:
    seeds = study.recipe.seeds
    return "seed 0" if seeds == 1 else f"{seeds} seeds 0 to {seeds - 1}"


def _fix(study: Study) -> str:
    return "fixes" if study.recipe.seeds == 1 else "fix"


def _versions(study: Study) -> str:
    """Name the versions of all trials, which may have been trained at different times."""

    def of(trial: Trial) -> str:
        made = trial.versions
        commit = "" if made.commit is None else f" (commit {made.commit})"
        return (
            f"{made.labelsmooth}{commit}, PyTorch {made.torch}, NumPy {made.numpy} and Python {made.python}"
        )

    return _each(study.trials, of)


def _machine(study: Study) -> str:
    def of(trial: Trial) -> str:
        made = trial.versions
        device = made.device if made.device != "cpu" else ""
        threads = f"{made.threads} thread{'s' if made.threads > 1 else ''}"
        processes = f"{made.processes} processes of {threads}" if made.processes > 1 else threads
        return ", ".join(filter(None, [made.processor, made.platform, device, f"{processes} a network"]))

    return _each(study.trials, of)


def _each(trials: Sequence[Trial], of: Callable[[Trial], str]) -> str:
    return "; in part ".join(dict.fromkeys(map(of, trials)))
