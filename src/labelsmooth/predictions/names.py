"""What the arrays of a file of predictions are called, and where they are not named, what is looked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labelsmooth.errors import InputError
from labelsmooth.predictions.table import Table

# of what a file holds, in a sentence that misses something
_MOST_NAMES = 20

USUAL = {
    "logits": ("logits", "logit", "test_logits"),
    "probs": ("probs", "prob", "probabilities", "probability", "proba", "test_probs"),
    "labels": ("labels", "label", "targets", "target", "y", "y_true", "test_labels"),
    "weights": ("weights", "weight", "sample_weight"),
    "groups": ("groups", "group"),
    "features": ("features",),
    "classifier_weight": ("classifier_weight",),
    "classifier_bias": ("classifier_bias",),
}
# What is fitted needs these alone.
FOR_FITTING = ("logits", "probs", "labels", "weights")


def _named(what: str, shape: str) -> Any:
    return field(default=None, metadata={"help": f"name of the {what}, {shape}", "metavar": "NAME"})


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the arrays or columns of a file are called; None looks for the usual names."""

    logits: str | None = _named("logits", "(N, K)")
    probs: str | None = _named("probabilities, where a file holds no logits", "(N, K)")
    labels: str | None = _named("labels", "(N,) integers in 0..K-1")
    weights: str | None = _named("weights of the rows", "(N,)")
    groups: str | None = _named("groups of the rows", "(N,) integers or text")
    features: str | None = _named("penultimate features", "(N, D)")
    classifier_weight: str | None = _named("last layer's weight", "(K, D)")
    classifier_bias: str | None = _named("last layer's bias", "(K,)")


def find(table: Table, what: str, given: str | None, prefix: str) -> str | None:
    if given is not None:
        if given in table.columns:
            return given
        raise InputError(f"{table.path} has no {given}, {what_it_holds(table)}")
    found = [prefix + name for name in USUAL[what] if prefix + name in table.columns]
    if len(found) > 1:
        raise InputError(
            f"{table.path} holds {' and '.join(found)}: say which are the {what.replace('_', ' ')} "
            f"with --{what.replace('_', '-')} NAME"
        )
    return found[0] if found else None


def takes_probs(table: Table, logits: str | None, probs: str | None, names: Names) -> bool:
    """Whether to take the probabilities rather than the logits."""
    if logits is None and probs is None:
        raise InputError(
            f"{table.path} holds neither logits ({usual('logits')}) nor probabilities ({usual('probs')}), "
            f"{what_it_holds(table)}"
        )
    if logits is None or probs is None:
        return logits is None
    if (names.logits is None) == (names.probs is None):
        raise InputError(
            f"{table.path} holds logits in {logits} and probabilities in {probs}: "
            "name the ones to take with --logits or --probs"
        )
    return names.probs is not None


def usual(what: str) -> str:
    return ", ".join(USUAL[what])


def what_it_holds(table: Table) -> str:
    names = list(table.columns)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"it holds {', '.join(names[:_MOST_NAMES]) or 'nothing'}{more}"
