"""Running an audit: every file is checked before the first is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labelsmooth.audit.measures import Measured, Pair, measure, measure_pair
from labelsmooth.audit.settings import Settings, model_names
from labelsmooth.audit.split import Fitting
from labelsmooth.errors import InputError
from labelsmooth.predictions import Names, Predictions, Scan
from labelsmooth.progress import Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """What was measured of several models."""

    settings: Settings
    models: tuple[Measured, ...]
    pairs: tuple[Pair, ...]  # each later model against the first
    notes: tuple[str, ...]  # on the comparison


def run_audit(settings: Settings) -> Audit:
    """Measure the predictions of each file, and the differences to those of the first.

    Every file is read and checked as a whole before anything is measured. Progress goes to stderr.

    Args:
        settings: files, names and rows to fit on.

    Returns:
        All numbers and what the pictures need.

    Raises:
        ValueError: a file cannot be used.
        OSError: it may not be read.

    Cost: a few passes over each file and some more over the rows that are fitted on, in blocks of 4 MB.
    """
    names = Names(**{name: getattr(settings, name) for name in Names.__dataclass_fields__})
    labels = model_names(settings.files)
    with Progress("model", len(settings.files), unit="rows") as progress:
        opened: list[tuple[str, Predictions, Fitting, Scan]] = []
        for number, (label, path) in enumerate(zip(labels, settings.files, strict=True)):
            predictions = Predictions(
                path, names, class_axis=settings.class_axis, ignore_label=settings.ignore_label
            )
            validation = (
                predictions.own_validation()
                if settings.validation is None
                else Predictions(
                    settings.validation[number],
                    names,
                    class_axis=settings.class_axis,
                    ignore_label=settings.ignore_label,
                    for_fitting=True,
                )
            )
            scan = _checked(predictions, f"{label}: checking", progress)
            if validation is not None:
                _check_fit(predictions, validation)
                _checked(validation, f"{label}: checking its validation rows", progress)
            fitting = Fitting(predictions, validation, settings.validation_share)
            opened.append((label, predictions, fitting, scan))
        models = []
        for label, predictions, fitting, scan in opened:
            model = measure(label, predictions, fitting, scan, settings.bins, progress)
            models.append(replace(model, notes=(*scan.notes, *model.notes)))
            accuracy = models[-1].metrics["accuracy"].value
            progress.item_done(
                f"{label}, {scan.rows:,} rows, {predictions.num_classes} classes, accuracy {accuracy:.2%}"
            )
        pairs, notes = [], []
        first = opened[0]
        for model, other in zip(models[1:], opened[1:], strict=True):
            reason = _unpaired(first, other)
            if reason:
                notes.append(reason)
            else:
                pairs.append(measure_pair((model, other[1]), (models[0], first[1]), progress))
    return Audit(settings=settings, models=tuple(models), pairs=tuple(pairs), notes=tuple(notes))


def _checked(predictions: Predictions, words: str, progress: Progress) -> Scan:
    progress.begin(words, predictions.rows)
    return predictions.scan(progress.advance)


def _check_fit(predictions: Predictions, validation: Predictions) -> None:
    for name, mine, its in (
        ("classes", predictions.num_classes, validation.num_classes),
        ("kind of scores", _kind(predictions), _kind(validation)),
    ):
        if mine != its:
            raise InputError(
                f"{validation.path} must have the {name} of {predictions.path}, got {its} and {mine}"
            )


def _kind(predictions: Predictions) -> str:
    return "probabilities" if predictions.are_probs else "logits"


def _unpaired(
    first: tuple[str, Predictions, Fitting, Scan], other: tuple[str, Predictions, Fitting, Scan]
) -> str | None:
    """Why the rows of two files are not the same; None where they are."""
    one, two = f"{other[0]} and {first[0]}", "cannot be compared row by row"
    if other[3].rows != first[3].rows:
        return f"{one} {two}: they have {other[3].rows:,} and {first[3].rows:,} rows."
    if other[1].num_classes != first[1].num_classes:
        return f"{one} {two}: they have {other[1].num_classes} and {first[1].num_classes} classes."
    if other[3].labels_sha256 != first[3].labels_sha256:
        return f"{one} {two}: their labels differ."
    if other[3].weights_sha256 != first[3].weights_sha256:
        return f"{one} {two}: their weights differ."
    return None
