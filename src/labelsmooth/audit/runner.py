"""Running an audit: every file is checked before the first is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelsmooth.audit.settings import Settings, model_names
from labelsmooth.evaluation import Evaluation, Numbers, Split, evaluate, fit, paired_differences
from labelsmooth.measure.interval import simultaneous_level
from labelsmooth.predictions import (
    LmEvalTable,
    Names,
    Predictions,
    Scan,
    find_logs,
    require_same_documents,
)
from labelsmooth.progress import Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """The numbers of the predictions of one file, or of the logs in one folder."""

    name: str
    path: Path
    fitted_on: str  # in words
    evaluation: Evaluation
    notes: tuple[str, ...]  # on what was read into the file, and those of the evaluation


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """The numbers of a model minus those of another on the same rows."""

    of: str
    minus: str
    level: float  # of the intervals, at which those of a number in all pairs hold together at 95 %
    numbers: Mapping[str, Numbers]  # by part


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """The numbers of several models, and their differences."""

    settings: Settings
    models: tuple[Model, ...]
    pairs: tuple[Pair, ...]  # each later model against the first, and against the one before it
    notes: tuple[str, ...]  # on the comparison


@dataclass(frozen=True, kw_only=True, eq=False)
class _File:
    """A file that was checked."""

    name: str
    predictions: Predictions
    split: Split
    scan: Scan


def run_audit(settings: Settings) -> Audit:
    """Measure the predictions of each file, and the differences to those of the first and of the one before.

    Every file is read and checked as a whole before anything is measured. With `settings.lm_eval` the logs in
    one folder are the tasks of one model, and its groups. Progress goes to stderr.

    Args:
        settings: files, names and rows to fit on.

    Returns:
        All numbers and what the pictures need.

    Raises:
        ValueError: a file cannot be used.
        OSError: it may not be read.

    Cost: a few passes over each file and some more over the rows that are fitted on, in blocks of 4 MB.
    """
    sources = _sources(settings)
    names = model_names(tuple(source if isinstance(source, Path) else source.path for source in sources))
    with Progress("model", len(sources), unit="rows") as progress:
        files = [
            _checked(settings, number, name, source, progress)
            for number, (name, source) in enumerate(zip(names, sources, strict=True))
        ]
        models = [_measured(file, settings, progress) for file in files]
        pairs, notes = _compared(list(zip(models, files, strict=True)), progress)
    return Audit(settings=settings, models=tuple(models), pairs=pairs, notes=notes)


def _sources(settings: Settings) -> Sequence[Path | LmEvalTable]:
    """The file of each model, or its logs, which must hold the same documents as those of the others."""
    if not settings.lm_eval:
        return settings.files
    tables = [
        LmEvalTable(folder, logs, per_character=settings.per_character)
        for folder, logs in find_logs(settings.files).items()
    ]
    for table in tables[1:]:
        require_same_documents(table, tables[0])
    return tables


def _checked(
    settings: Settings, number: int, name: str, source: Path | LmEvalTable, progress: Progress
) -> _File:
    """Open a file and its validation rows, and read every row of them."""

    def opened(source: Path | LmEvalTable, *, for_fitting: bool) -> Predictions:
        return Predictions(
            source,
            Names(**{field: getattr(settings, field) for field in Names.__dataclass_fields__}),
            class_axis=settings.class_axis,
            ignore_label=settings.ignore_label,
            for_fitting=for_fitting,
        )

    def scanned(rows: Predictions, what: str) -> Scan:
        progress.begin(f"{name}: checking{what}", rows.rows)
        return rows.scan(progress.advance)

    predictions = opened(source, for_fitting=False)
    if settings.validation is None:
        validation = predictions.own_validation()
    else:
        validation = opened(settings.validation[number], for_fitting=True)
    scan = scanned(predictions, "")
    if isinstance(source, LmEvalTable):
        scan = replace(scan, notes=(*source.notes, *scan.notes))
    split = Split(predictions, validation, settings.validation_share)
    if validation is not None:
        scanned(validation, " its validation rows")
    return _File(name=name, predictions=predictions, split=split, scan=scan)


def _measured(file: _File, settings: Settings, progress: Progress) -> Model:
    progress.begin(f"{file.name}: fitting", 0)
    fitted = fit(file.split, settings.precision)
    progress.begin(f"{file.name}: measuring", file.scan.rows)
    evaluation = evaluate(
        file.split,
        fitted,
        bins=settings.bins,
        by_logits=not settings.lm_eval,  # smoothing is of words, and options are made of them
        done=progress.advance,
    )
    accuracy = evaluation.numbers["all"]["accuracy"].value
    progress.item_done(
        f"{file.name}, {file.scan.rows:,} rows, {evaluation.num_classes} classes, accuracy {accuracy:.2%}"
    )
    return Model(
        name=file.name,
        path=file.predictions.path,
        fitted_on=_fitted_on(file),
        evaluation=evaluation,
        notes=(*file.scan.notes, *evaluation.notes),
    )


def _fitted_on(file: _File) -> str:
    validation = file.split.validation
    if validation is None:
        return f"rows drawn at random, each with a chance of {file.split.share:.3g}"
    if validation.name == file.predictions.name:
        return "the validation rows that its file holds"
    return f"the rows of {validation.name}"


def _compared(
    models: Sequence[tuple[Model, _File]], progress: Progress
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The differences of each model to the first and to the one before it, and why some have none."""
    wanted = [
        (models[place], models[other]) for place in range(1, len(models)) for other in sorted({0, place - 1})
    ]
    reasons = [_unpaired(file, other_file) for (_, file), (_, other_file) in wanted]
    level = simultaneous_level(reasons.count(None))
    pairs: list[Pair] = []
    notes: list[str] = []
    for ((model, file), (other, other_file)), reason in zip(wanted, reasons, strict=True):
        if reason is not None:
            notes.append(f"{model.name} and {other.name} cannot be compared row by row: {reason}.")
            continue
        progress.begin(f"{model.name} and {other.name}", file.scan.rows)
        splits = file.split, other_file.split
        numbers = paired_differences(model.evaluation, other.evaluation, splits, progress.advance, level)
        pairs.append(Pair(of=model.name, minus=other.name, level=level, numbers=numbers))
    return tuple(pairs), tuple(notes)


def _unpaired(file: _File, other: _File) -> str | None:
    """Why the rows of two files are not the same; None where they are."""
    if file.scan.rows != other.scan.rows:
        return f"they have {file.scan.rows:,} and {other.scan.rows:,} rows"
    if file.predictions.num_classes != other.predictions.num_classes:
        return f"they have {file.predictions.num_classes} and {other.predictions.num_classes} classes"
    if file.scan.labels_sha256 != other.scan.labels_sha256:
        return "their labels differ"
    if file.scan.weights_sha256 != other.scan.weights_sha256:
        return "their weights differ"
    return None
