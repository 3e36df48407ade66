"""How each row moves the numbers of a classifier, from its stored logits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from labelsmooth.measure import PNorm, Selective, logit_gaps
from labelsmooth.measure.compare import influences
from labelsmooth.measure.influence import AurcInfluence, log_temperature_influence
from labelsmooth.measure.rows import RowNumbers, numbers_from_logits
from labelsmooth.measure.smooth import smooth_ece_influence
from labelsmooth.study.tasks.base import Floats, Influence, Metrics, with_unit_temperature
from labelsmooth.study.tasks.classifier import TrialArrays


def classifier_influences(
    arrays: TrialArrays, metrics: Metrics, temperature_of_distillation: float | None
) -> dict[str, Influence]:
    """The influence of each row on the numbers of `measure_classifier`, by part and name as in test.nll.

    Test and validation rows are counted in the numbers whose influences of rows are known, and validation
    rows also in what depends on the temperature that was fitted on them, which is 1 where they could not tell
    one. Of features only some are stored, and how the p of a p-norm hangs on the rows is not known.
    """
    told, metrics = "temperature" in metrics["fitted"], with_unit_temperature(metrics)
    test, validation = arrays.test_logits.astype(np.float64), arrays.validation_logits.astype(np.float64)
    labels = arrays.validation_labels
    temperature, scaled_smece = metrics["fitted"]["temperature"], metrics["test_with_temperature"]["smece"]
    plain = score_influences(test, arrays.test_labels, metrics["test"]["smece"])
    scaled = score_influences(test / temperature, arrays.test_labels, scaled_smece)
    known: dict[str, Influence] = {f"test.{name}": {"test": moved} for name, moved in plain.items()}
    on_log = log_temperature_influence(validation, labels, temperature) if told else np.zeros(len(labels))
    known["fitted.temperature"] = {"validation": temperature * on_log}
    # how the scores move with log T, over its standard error to each side
    step = float(on_log.std() / np.sqrt(len(on_log)))
    lower, upper = (
        score_influences(test / (temperature * np.exp(way)), arrays.test_labels, scaled_smece)
        for way in (-step, step)
    )
    for name, moved in scaled.items():
        slope = float((upper[name] - lower[name]).mean()) / (2 * step) if step else 0.0
        known[f"test_with_temperature.{name}"] = {"test": moved, "validation": slope * on_log}
    pnorm = PNorm()
    pnorm.p = int(metrics["fitted"]["pnorm"]) or None
    known["test_with_pnorm.aurc"] = {
        "test": _aurc_influence(pnorm.confidence(test), test.argmax(-1) == arrays.test_labels)
    }
    known["test.logit_gap"] = {"test": logit_gaps(test, arrays.test_labels)}
    known["validation.logit_gap"] = {"validation": logit_gaps(validation, labels)}
    if temperature_of_distillation is not None:
        known |= _agreement(arrays, temperature_of_distillation)
    return known


def score_influences(logits: Floats, labels: NDArray[np.int64], smece: float) -> dict[str, Floats]:
    """The influence of each row of logits on each of the scores, as `influences_on_scores` gives it."""
    return influences_on_scores(
        numbers_from_logits(torch.from_numpy(logits), torch.from_numpy(labels)), smece
    )


def influences_on_scores(rows: RowNumbers, smece: float) -> dict[str, Floats]:
    """The influence of each row on each of the scores, which is their mean; `smece` is known, or nearly."""
    return {
        **influences(rows).of(rows),
        "smece": smooth_ece_influence(rows.confidence, rows.correct, smece),
    }


def _aurc_influence(confidence: Floats, correct: NDArray[np.bool_]) -> Floats:
    selective = Selective(len(correct))  # each confidence by itself
    selective.update_scores(confidence, correct)
    return AurcInfluence(selective.compute()).of(confidence, correct)


def _agreement(arrays: TrialArrays, temperature: float) -> dict[str, Influence]:
    """The influence of test rows on how near a student is to its teacher, of each row its own value."""
    assert arrays.teacher_test_logits is not None
    student, teacher = arrays.test_logits.astype(np.float64), arrays.teacher_test_logits.astype(np.float64)
    log_q, log_p = (torch.from_numpy(z / temperature).log_softmax(-1) for z in (student, teacher))
    kl = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return {
        "distilled.agreement": {"test": (student.argmax(-1) == teacher.argmax(-1)).astype(np.float64)},
        "distilled.kl": {"test": kl.numpy()},
    }
