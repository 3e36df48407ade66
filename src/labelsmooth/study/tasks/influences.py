"""How each row moves the numbers of a classifier, from its stored logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import kl_div

from labelsmooth.measure import PNorm, Selective, logit_gaps
from labelsmooth.measure.arrays import pieces
from labelsmooth.measure.influence import AurcInfluence, influences, log_temperature_influence
from labelsmooth.measure.rows import RowNumbers, joined, numbers_from_logits
from labelsmooth.measure.smooth import smooth_ece_influence
from labelsmooth.study.tasks.base import Influence, Metrics, with_unit_temperature
from labelsmooth.study.tasks.classifier import TrialArrays
from labelsmooth.study.tasks.shown import Floats

Logits: TypeAlias = NDArray[np.floating[Any]]  # (N, K)


def classifier_influences(
    arrays: TrialArrays, metrics: Metrics, temperature_of_distillation: float | None
) -> dict[str, Influence]:
    """The influence of each row on the numbers of `measure_classifier`, by part and name as in test.nll.

    Test and validation rows are counted in the numbers whose influences of rows are known, and validation
    rows also in what depends on the temperature that was fitted on them, which is 1 where they could not tell
    one. Of features only some are stored, and how the p of a p-norm hangs on the rows is not known.
    """
    told, metrics = "temperature" in metrics["fitted"], with_unit_temperature(metrics)
    temperature, scaled_smece = metrics["fitted"]["temperature"], metrics["test_with_temperature"]["smece"]
    test = arrays.test_logits, arrays.test_labels
    validation = arrays.validation_logits, arrays.validation_labels
    plain = score_influences(*test, metrics["test"]["smece"])
    known: dict[str, Influence] = {f"test.{name}": {"test": moved} for name, moved in plain.items()}
    on_log = (
        log_temperature_influence(*validation, temperature)
        if told
        else np.zeros(len(arrays.validation_labels))
    )
    known["fitted.temperature"] = {"validation": temperature * on_log}
    scaled = influences_with_temperature(
        lambda at: score_influences(*test, scaled_smece, at), temperature, on_log
    )
    known |= {f"test_with_temperature.{name}": moved for name, moved in scaled.items()}
    pnorm = PNorm()
    pnorm.p = int(metrics["fitted"]["pnorm"]) or None
    known["test_with_pnorm.aurc"] = {
        "test": _aurc_influence(
            pnorm.confidence(arrays.test_logits), arrays.test_logits.argmax(-1) == arrays.test_labels
        )
    }
    known["test.logit_gap"] = {"test": _gaps(*test)}
    known["validation.logit_gap"] = {"validation": _gaps(*validation)}
    if temperature_of_distillation is not None:
        known |= _agreement(arrays, temperature_of_distillation)
    return known


def influences_with_temperature(
    of_test: Callable[[float], Mapping[str, Floats]], temperature: float, on_log: Floats
) -> dict[str, Influence]:
    """The influence of each row on numbers at a temperature that was fitted on the validation rows.

    Args:
        of_test: gives the influence of each test row on each number at a temperature.
        temperature: that was fitted.
        on_log: (N,) of each validation row on its logarithm.
    """
    step = float(on_log.std() / np.sqrt(len(on_log)))  # the standard error of the logarithm
    below, at, above = (of_test(temperature * np.exp(way)) for way in (-step, 0.0, step))
    return influences_beside(below, at, above, step, on_log)


def influences_beside(
    below: Mapping[str, Floats],
    at: Mapping[str, Floats],
    above: Mapping[str, Floats],
    step: float,
    on_log: Floats,
) -> dict[str, Influence]:
    """Give `influences_with_temperature` where those of the test rows are known at log T − step, log T and
    log T + step.
    """
    found: dict[str, Influence] = {}
    for name, moved in at.items():
        slope = float(above[name].mean() - below[name].mean()) / (2 * step) if step else 0.0
        found[name] = {"test": moved, "validation": slope * on_log}
    return found


def score_influences(
    logits: Logits, labels: NDArray[np.int64], smece: float, temperature: float = 1.0
) -> dict[str, Floats]:
    """The influence of each row of logits on each of the scores at a temperature (`influences_on_scores`)."""
    rows = joined([numbers_from_logits(z / temperature, y) for z, y in _pieces(logits, labels)])
    return influences_on_scores(rows, smece)


def influences_on_scores(rows: RowNumbers, smece: float) -> dict[str, Floats]:
    """The influence of each row on each of the scores, which is their mean; `smece` is known, or nearly."""
    return {
        **influences(rows).of(rows),
        "smece": smooth_ece_influence(rows.confidence, rows.correct, smece),
    }


def _pieces(*rows: NDArray[Any]) -> Iterator[tuple[Tensor, ...]]:
    return pieces(*map(torch.from_numpy, rows))


def _gaps(logits: Logits, labels: NDArray[np.int64]) -> Floats:
    return np.concatenate([logit_gaps(z, y) for z, y in _pieces(logits, labels)])


def _aurc_influence(confidence: Floats, correct: NDArray[np.bool_]) -> Floats:
    selective = Selective(len(correct))  # each confidence by itself
    selective.update_scores(confidence, correct)
    return AurcInfluence(selective.compute()).of(confidence, correct)


def _agreement(arrays: TrialArrays, temperature: float) -> dict[str, Influence]:
    """The influence of test rows on how near a student is to its teacher, of each row its own value."""
    assert arrays.teacher_test_logits is not None
    same, kl = [], []
    for student, teacher in _pieces(arrays.test_logits, arrays.teacher_test_logits):
        log_q, log_p = ((z.double() / temperature).log_softmax(-1) for z in (student, teacher))
        same.append(student.argmax(-1) == teacher.argmax(-1))
        kl.append(kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1))
    return {
        "distilled.agreement": {"test": torch.cat(same).double().numpy()},
        "distilled.kl": {"test": torch.cat(kl).numpy()},
    }
