"""What is kept of a language model beside what is kept of every network that predicts tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labelsmooth.errors import InputError
from labelsmooth.evaluation import Scores
from labelsmooth.measure.arrays import State
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.influence import NUM_BINS, ece_l2_influence, influences, log_temperature_influence
from labelsmooth.measure.rows import numbers_from_stats
from labelsmooth.row_stats import RowStats
from labelsmooth.study.tasks.base import Influence, Metrics
from labelsmooth.study.tasks.classifier import plain_values
from labelsmooth.study.tasks.influences import influences_with_temperature
from labelsmooth.study.tasks.language_model.choices import (
    WAYS,
    Chosen,
    check_choices,
    choice_state,
    chosen_of,
    option_log_probs,
)
from labelsmooth.study.tasks.language_model.data import LanguageData
from labelsmooth.study.tasks.language_model.models import CausalModel
from labelsmooth.study.tasks.sequences.forced import ForcedTokens, plain_state
from labelsmooth.study.tasks.sequences.series import token_series
from labelsmooth.study.tasks.sequences.tokens import (
    TokenArrays,
    assembled,
    by_sentence,
    measure_tokens,
    sums_by_sentence,
    token_constant_guess,
    token_influences,
)
from labelsmooth.study.tasks.shown import Floats, Headline, Series

BEFORE = "test_before"  # the part of the test tokens before training
SCALED = "_with_temperature"  # what parts at a fitted temperature end in
_NUMBERS = ("rows", "accuracy", "nll", "ece", "ece_l2")  # of choices, and of tokens before training


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageArrays(TokenArrays):
    """What the numbers and pictures of one language model are computed from.

    Sentences are pieces of D documents; of multiple choice these are questions, with O options in all.
    """

    test_pieces: NDArray[np.int32]  # (D,) of each document
    validation_pieces: NDArray[np.int32]
    # statistics of the test tokens, and predictions, before a network that was saved is trained further
    test_before: State = field(default_factory=dict)
    # `choice_state` of the questions; log_probs_before likewise before training, of a network that was saved
    test_choices: State = field(default_factory=dict)
    validation_choices: State = field(default_factory=dict)

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        super().check()
        for part in ("test", "validation"):
            pieces, sentences = getattr(self, f"{part}_pieces"), len(getattr(self, f"{part}_lengths"))
            if pieces.dtype.kind != "i" or not len(pieces) or pieces.min() < 1 or pieces.sum() != sentences:
                raise InputError(f"{part}_pieces must hold how many of {sentences:,} each document has")
            if self.test_choices:
                check_choices(f"{part}_choices", getattr(self, f"{part}_choices"), len(pieces))

    def statistics(self, part: str) -> RowStats:
        """Give the row statistics of the tokens of a part of these arrays."""
        if part != BEFORE:
            return super().statistics(part)
        columns = {name: torch.from_numpy(column) for name, column in self.test_before.items()}
        predictions = columns.pop("predictions").long()
        labels = torch.from_numpy(self.test_labels).long()
        return assembled(labels, predictions, {name: column.double() for name, column in columns.items()})

    @property
    def chosen(self) -> dict[str, Chosen]:
        """The choices among options, by part of the metrics; empty where questions have none."""
        kept = {
            "test": (self.test_choices, "log_probs"),
            BEFORE: (self.test_choices, "log_probs_before"),
            "validation": (self.validation_choices, "log_probs"),
        }
        return {
            f"{part}_{way}": chosen
            for part, (state, name) in kept.items()
            if name in state
            for way, chosen in chosen_of(state, name).items()
        }


@torch.no_grad()
def before_training(network: CausalModel, data: LanguageData) -> dict[str, State]:
    """Keep of a network as its training begins what is compared with it at the end."""
    network.eval()
    test = ForcedTokens(network.predict(data.test), data.test.labels, "the test tokens")
    found: dict[str, State] = {"test_before": plain_state(test)}
    if data.choices:
        found["choices"] = {"log_probs_before": option_log_probs(network, data.choices["test"].options)}
    network.train()
    return found


def language_arrays(
    tokens: TokenArrays, network: CausalModel, data: LanguageData, before: Mapping[str, State]
) -> LanguageArrays:
    """Add to what was kept of a network's tokens its choices, and what is known of it before training.

    Args:
        tokens: that were kept of it.
        network: in evaluation mode.
        data: that it was trained on.
        before: of `before_training`; empty of a network that knew nothing.
    """
    choices = {part: choice_state(network, asked) for part, asked in data.choices.items()}
    return LanguageArrays(
        **vars(tokens),
        test_pieces=data.test.pieces,
        validation_pieces=data.validation.pieces,
        test_before=before.get("test_before", {}),
        test_choices={**choices.get("test", {}), **before.get("choices", {})},
        validation_choices=choices.get("validation", {}),
    )


def measure_language(arrays: LanguageArrays) -> Metrics:
    """Measure a language model.

    Returns:
        The numbers of `measure_tokens`, and accuracy, NLL, ECE and RMS calibration error (ece_l2) of

        - test_before: the test tokens before training, of a network that was saved
        - test_choice, test_choice_by_mean: the choices of multiple choice, by `WAYS`; and validation_choice
          and so on
        - test_before_choice, test_before_choice_by_mean: the same before training
        - fitted_choice, fitted_choice_by_mean: the number of validation questions, and the temperature that
          was fitted on their choices, which is missing where they could not tell one
        - test_choice_with_temperature, test_choice_by_mean_with_temperature: the choices at that temperature,
          which is 1 where it is missing
    """
    found = dict(measure_tokens(arrays))
    if arrays.test_before:
        found[BEFORE] = _measured(arrays.statistics(BEFORE), len(arrays.class_counts))
    chosen = arrays.chosen
    for part, each in chosen.items():
        found[part] = _measured(each.statistics(), each.logits.shape[1])
    for way in WAYS if chosen else ():
        temperature, test = chosen[f"validation_{way}"].fit_temperature(), chosen[f"test_{way}"]
        told = {} if temperature is None else {"temperature": temperature}
        found[f"fitted_{way}"] = {"rows": len(chosen[f"validation_{way}"].answers), **told}
        found[f"test_{way}{SCALED}"] = _measured(test.statistics(temperature or 1.0), test.logits.shape[1])
    return found


def _measured(stats: RowStats, num_classes: int) -> dict[str, float]:
    scores = Scores(num_classes, NUM_BINS)
    scores.update_stats(stats, None)
    numbers = scores.numbers(intervals=False)
    return plain_values({name: numbers[name] for name in _NUMBERS})


def language_headlines(metrics: Metrics) -> list[Headline]:
    """Name the accuracy and the ECE of choices by log-likelihood; none where there was nothing to choose."""
    way = "choice"
    return [
        Headline(
            quantity=replace(QUANTITIES[name], title=f"{QUANTITIES[name].title} of choices"),
            field=f"test_{way}.{name}",
            with_temperature=f"test_{way}{SCALED}.{name}",
            way="by log-likelihood",
        )
        for name in ("accuracy", "ece")
        if f"test_{way}" in metrics
    ]


def language_influences(arrays: LanguageArrays, metrics: Metrics) -> dict[str, Influence]:
    """The influence of each document, or question, on the numbers of `measure_language`, by part and name."""
    known = token_influences(arrays, metrics)
    if arrays.test_before:
        for name, moved in _moved(arrays.statistics(BEFORE)).items():
            known[f"{BEFORE}.{name}"] = {"test": by_sentence(moved, arrays.test_lengths)}
    pieces = {"test": arrays.test_pieces, "validation": arrays.validation_pieces}
    by_document: dict[str, Influence] = {
        field: {rows: of_documents(moved, pieces[rows]) for rows, moved in influence.items()}
        for field, influence in known.items()
    }
    chosen = arrays.chosen
    for part, each in chosen.items():
        rows = part.partition("_")[0]
        by_document |= {f"{part}.{name}": {rows: moved} for name, moved in _moved(each.statistics()).items()}
    for way in WAYS if chosen else ():
        by_document |= _with_temperature(way, chosen, metrics)
    return by_document


def _with_temperature(way: str, chosen: Mapping[str, Chosen], metrics: Metrics) -> dict[str, Influence]:
    """The influence of each question on the temperature of choices, and on their numbers at it."""
    validation, test = chosen[f"validation_{way}"], chosen[f"test_{way}"]
    told = metrics[f"fitted_{way}"].get("temperature")
    temperature = told or 1.0
    on_log = (
        np.zeros(len(validation.answers))
        if told is None
        else log_temperature_influence(validation.logits.numpy(), validation.answers.numpy(), temperature)
    )
    scaled = influences_with_temperature(lambda at: _moved(test.statistics(at)), temperature, on_log)
    return {
        f"fitted_{way}.temperature": {"validation": temperature * on_log},
        **{f"test_{way}{SCALED}.{name}": moved for name, moved in scaled.items()},
    }


def _moved(stats: RowStats) -> dict[str, Floats]:
    """The influence of each row on those numbers of which it is known."""
    rows = numbers_from_stats(stats)
    moved = {**influences(rows).of(rows), "ece_l2": ece_l2_influence(rows)}
    return {name: moved[name] for name in _NUMBERS if name in moved}


def of_documents(
    moved: Floats,  # (S,)
    pieces: NDArray[np.int32],  # (D,)
) -> Floats:
    """Give the influence of each document on a number, of the influence of each of its pieces.

    A number that S pieces move by φ/S is moved by a document, one of D, by Σ φ/S over its pieces; the mean of
    both is the number.
    """
    mean = moved.mean()
    influence: Floats = sums_by_sentence(moved - mean, pieces) * len(pieces) / len(moved) + mean
    return influence


def language_series(arrays: LanguageArrays) -> dict[str, list[Series]]:
    """Give the numbers of `token_series` with the influence of each document, or question."""

    def of(series: Series) -> Series:
        moved = [of_documents(one, arrays.test_pieces) for one in series.influences["test"]]
        return replace(series, influences={"test": np.stack(moved)})

    return {name: [of(series) for series in found] for name, found in token_series(arrays).items()}


def language_constant_guess(arrays: LanguageArrays) -> dict[str, Floats]:
    """Give accuracy and nll by test document (D,) where all tokens are given the shares of the vocabulary."""
    guess = token_constant_guess(arrays)
    return {name: of_documents(values, arrays.test_pieces) for name, values in guess.items()}


def part_words(metrics: Metrics) -> dict[str, str]:
    """Name the parts of `measure_language` that no other network has, in words behind each number."""
    words = {BEFORE: "test rows, before training"}
    for way, chosen in WAYS.items():
        words |= {
            f"test_{way}": chosen,
            f"{BEFORE}_{way}": f"{chosen}, before training",
            f"fitted_{way}": chosen,
            f"test_{way}{SCALED}": f"{chosen}, at the temperature fitted on choices",
        }
    return {part: shown for part, shown in words.items() if part in metrics}
