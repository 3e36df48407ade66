"""The names of the arrays of a file of predictions, and those that are looked for where none are given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.predictions.table import Table

# of what a file holds, in a sentence that misses something
_MOST_NAMES = 20

USUAL = {
    "logits": (
        *("logits", "logit", "test_logits", "y_logits"),
        *("log_probs", "log_prob", "logprobs", "logprob", "log_probabilities"),
    ),
    "probs": (
        *("probs", "prob", "probabilities", "probability", "proba", "test_probs"),
        *("y_prob", "y_probs", "y_proba", "pred_proba"),
    ),
    "labels": ("labels", "label", "targets", "target", "y", "y_true", "test_labels", "label_ids"),
    "weights": ("weights", "weight", "sample_weight"),
    "groups": ("groups", "group"),
    "features": ("features",),
    "classifier_weight": ("classifier_weight",),
    "classifier_bias": ("classifier_bias",),
}
# Hugging Face's name of logits, which elsewhere may be anything: taken where there is nothing else.
_PREDICTIONS = "predictions"
# Names of the classes, in the order of the scores.
CLASSES = ("classes", "class_names")
# What is fitted needs these alone.
FOR_FITTING = ("logits", "probs", "labels", "weights")
# The only array of a file whose name says nothing.
_UNNAMED = "array"


def _named(what: str, name: str, shape: str) -> Any:
    usual = ", ".join(USUAL[name])
    return field(
        default=None, metadata={"help": f"name of the {what}, {shape} (default: {usual})", "metavar": "NAME"}
    )


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names of the arrays or columns of a file; None looks for the usual ones.

    Labels, weights, groups and features may also be the path of a file that holds them alone.
    """

    logits: str | None = _named(
        "logits or log-probabilities",
        "logits",
        "(N, K), or a column for each class, NAME_0, NAME_1, ... or NAME_CLASS, or one a row, for class 1",
    )
    probs: str | None = _named("probabilities, where a file holds no logits", "probs", "likewise")
    labels: str | None = _named(
        "labels, or a file of them",
        "labels",
        "(N,): 0..K-1 or the classes' names as text; or one-hot (N, K)",
    )
    weights: str | None = _named("weights of the rows", "weights", "(N,)")
    groups: str | None = _named("groups of the rows", "groups", "(N,) integers or text")
    features: str | None = _named("penultimate features", "features", "(N, D)")
    classifier_weight: str | None = _named("last layer's weight", "classifier_weight", "(K, D)")
    classifier_bias: str | None = _named("last layer's bias", "classifier_bias", "(K,)")


@dataclass(frozen=True, kw_only=True)
class ScoreColumns:
    """Where the scores of a file are."""

    name: str  # of the array, or what the names of the classes' columns begin with
    columns: tuple[str, ...]  # the array, or a column for each class
    classes: tuple[str, ...] | None  # what the names of the columns end with


def find(table: Table, what: str, given: str | None, prefix: str = "") -> str | None:
    """Find the name of an array, the given one or a usual one.

    Raises:
        ValueError: there is none of the given name, or several of usual names.
    """
    if given is not None:
        if given in table.columns:
            return given
        raise InputError(f"{table.path} has no {given}, {what_it_holds(table)}")
    return _only(table, what, [prefix + name for name in USUAL[what] if prefix + name in table.columns])


def find_scores(table: Table, names: Names, prefix: str = "") -> tuple[ScoreColumns, bool]:
    """Find the scores, and whether they are probabilities.

    Raises:
        ValueError: there are none of the given name, none of a usual name, or several.
    """
    logits = _find_scores(table, "logits", names.logits, prefix)
    probs = _find_scores(table, "probs", names.probs, prefix)
    if logits is None and probs is None and prefix + _PREDICTIONS in table.columns:
        logits = _scores(table, prefix + _PREDICTIONS)
    if names.probs is not None and names.logits is None and probs is not None:
        return probs, True
    if logits is not None and probs is not None and names.logits is None:
        raise InputError(
            f"{table.path} holds logits in {logits.name} and probabilities in {probs.name}: "
            "name the ones to take with --logits or --probs"
        )
    if logits is not None:
        return logits, False
    if probs is not None:
        return probs, True
    if table.columns.keys() >= {"confidence", "correct"}:
        raise InputError(
            f"{table.path} holds confidence and correct, and not the scores of all classes that an audit "
            "needs: in Python labelsmooth.measure.smece_of_scores(confidence, correct) gives the calibration "
            "error, and labelsmooth.measure.Selective().update_scores(confidence, correct) takes them for "
            "the AURC"
        )
    for name in (*USUAL["probs"], *USUAL["logits"]):
        if fault := _fault_of_columns(table, prefix + name):
            raise InputError(f"{table.path} must hold {fault}")
    how = "--logits '' or --probs ''" if _scores(table, "") else "--logits NAME or --probs NAME"
    raise InputError(
        f"{table.path} holds neither logits ({usual('logits')}) nor probabilities ({usual('probs')}), "
        f"{what_it_holds(table)}: name them with {how}"
    )


def usual(what: str) -> str:
    """The usual names, in a sentence."""
    return ", ".join(USUAL[what])


def what_it_holds(table: Table) -> str:
    """Say in a sentence what a file holds."""
    names = list(table.columns)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"it holds {', '.join(names[:_MOST_NAMES]) or 'nothing'}{more}"


def name_of_only_array(path: Path) -> str:
    """The name of an array that has none but its file's: `probs` in resnet_probs.npy."""
    stem = path.stem.lower()
    usual_names = sorted((name for names in USUAL.values() for name in names), key=len, reverse=True)
    return next((name for name in usual_names if re.search(rf"(^|[^a-z]){name}$", stem)), _UNNAMED)


def _find_scores(table: Table, what: str, given: str | None, prefix: str) -> ScoreColumns | None:
    if given is not None:
        found = _scores(table, given)
        if found is None:
            raise InputError(f"{table.path} has no {given}, {what_it_holds(table)}")
        return found
    candidates = {name: _scores(table, prefix + name) for name in USUAL[what]}
    name = _only(table, what, [name for name, found in candidates.items() if found is not None])
    return None if name is None else candidates[name]


def _scores(table: Table, name: str) -> ScoreColumns | None:
    """The array of a name, or the columns of the classes whose names begin with it."""
    if name in table.columns:
        return ScoreColumns(name=name, columns=(name,), classes=None)
    numbered, named = {}, {}
    for column, what in table.columns.items():
        match = re.fullmatch(rf"{re.escape(name)}(?:_?([0-9]{{1,9}})|_(.+))", column)
        if match and len(what.shape) == 1 and what.kind in ("float", "integer"):
            if match[1] is None:
                named[match[2]] = column
            else:
                numbered[int(match[1])] = column
    first = min(numbered, default=0)
    # where a number is missing, a column is
    if first in (0, 1) and len(numbered) > 1 and not named and max(numbered) - first == len(numbered) - 1:
        numbers = sorted(numbered)
        return _class_columns(name, (numbered[number] for number in numbers), map(str, numbers))
    if len(named) > 1 and not numbered:
        return _class_columns(name, named.values(), named)
    return None


def _fault_of_columns(table: Table, name: str) -> str | None:
    """What the numbered columns of a name lack to be scores; None where there are none."""
    numbered = {
        int(match[1]): column
        for column in table.columns
        if (match := re.fullmatch(rf"{re.escape(name)}_?([0-9]{{1,9}})", column))
    }
    if len(numbered) < 2:
        return None
    for column in numbered.values():
        if (kind := table.columns[column].kind) not in ("float", "integer"):
            return f"numbers in {column}, got {kind}"
    first = min(numbered)
    missing = next(number for number in range(min(first, 1), max(numbered) + 2) if number not in numbered)
    return f"a column for each class, got {', '.join(numbered.values())} without {name}_{missing}"


def _class_columns(name: str, columns: Iterable[str], classes: Iterable[str]) -> ScoreColumns:
    columns = tuple(columns)
    return ScoreColumns(name=name or "''", columns=columns, classes=tuple(classes))


def _only(table: Table, what: str, found: list[str]) -> str | None:
    if len(found) > 1:
        raise InputError(
            f"{table.path} holds {' and '.join(found)}: say which are the {what.replace('_', ' ')} "
            f"with --{what.replace('_', '-')} NAME"
        )
    return found[0] if found else None
