"""Every number of a study's networks with the influence of each row on it, from the stored logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.measure import PNorm, Selective, logit_gaps
from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.compare import influences
from labelsmooth.measure.crossed import Crossed
from labelsmooth.measure.influence import AurcInfluence, log_temperature_influence
from labelsmooth.measure.rows import numbers_from_logits
from labelsmooth.measure.smooth import smooth_ece_influence
from labelsmooth.study import Metrics, Trial

Floats: TypeAlias = npt.NDArray[np.float64]
Influence: TypeAlias = Mapping[str, Floats]  # by the set of rows, (N,)


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of one arm, one for each seed, with their teachers where they had any."""

    trials: Sequence[Trial]
    teachers: Sequence[Trial] = ()

    def __getitem__(self, field: str) -> Crossed:
        """A number of each network by its part and its name in the catalogue, as in test.nll.

        Test and validation rows are counted in the numbers whose influences of rows are known, and validation
        rows also in what depends on the temperature that was fitted on them, which is 1 where they could not
        tell one. In all else only the seeds vary: of features only some are stored, and how the p of a p-norm
        hangs on the rows is not known. A number that the rows of a network cannot tell is nan.

        Raises:
            KeyError: there is no such part, or the catalogue has no such number.
        """
        part, _, name = field.partition(".")
        quantity = QUANTITIES[name]
        values = np.array(
            [
                float(with_unit_temperature(trial.metrics)[part].get(quantity.name, math.nan))
                for trial in self.trials
            ]
        )
        known = [influence.get(field, {}) for influence in self._influences]
        return Crossed(values, {rows: np.stack([each[rows] for each in known]) for rows in known[0]})

    @cached_property
    def _influences(self) -> list[dict[str, Influence]]:
        found = [_influences_of(trial) for trial in self.trials]
        if self.teachers:
            pairs = zip(found, self.trials, self.teachers, strict=True)
            found = [known | _of_student(student, teacher) for known, student, teacher in pairs]
        return found


def with_unit_temperature(metrics: Metrics) -> Metrics:
    """Fill in the temperature T = 1 and what follows where the validation rows could not tell one."""
    if "temperature" in metrics["fitted"]:
        return metrics
    scaled = {f"{rows}_with_temperature": metrics[rows] for rows in ("test", "validation")}
    return {**metrics, **scaled, "fitted": {**metrics["fitted"], "temperature": 1.0}}


# verdict, tables and figures of one page ask for the same networks
_KNOWN: WeakKeyDictionary[Trial, dict[str, Influence]] = WeakKeyDictionary()


def _influences_of(trial: Trial) -> dict[str, Influence]:
    """The influence of rows on the numbers of one network, by its dotted name."""
    if trial not in _KNOWN:
        _KNOWN[trial] = _measured(trial)
    return _KNOWN[trial]


def _measured(trial: Trial) -> dict[str, Influence]:
    arrays, metrics = trial.arrays, with_unit_temperature(trial.metrics)
    test, validation = arrays.test_logits.astype(np.float64), arrays.validation_logits.astype(np.float64)
    labels = arrays.validation_labels
    temperature, scaled_smece = metrics["fitted"]["temperature"], metrics["test_with_temperature"]["smece"]
    plain = score_influences(test, arrays.test_labels, metrics["test"]["smece"])
    scaled = score_influences(test / temperature, arrays.test_labels, scaled_smece)
    known: dict[str, Influence] = {f"test.{name}": {"test": moved} for name, moved in plain.items()}
    if "temperature" not in trial.metrics["fitted"]:
        of_log = np.zeros(len(labels))
    else:
        of_log = log_temperature_influence(validation, labels, temperature)
    known["fitted.temperature"] = {"validation": temperature * of_log}
    # how the scores move with log T, over its standard error to each side
    step = float(of_log.std() / np.sqrt(len(of_log)))
    lower, upper = (
        score_influences(test / (temperature * np.exp(way)), arrays.test_labels, scaled_smece)
        for way in (-step, step)
    )
    for name, moved in scaled.items():
        slope = float((upper[name] - lower[name]).mean()) / (2 * step) if step else 0.0
        known[f"test_with_temperature.{name}"] = {"test": moved, "validation": slope * of_log}
    pnorm = PNorm()
    pnorm.p = int(metrics["fitted"]["pnorm"]) or None
    known["test_with_pnorm.aurc"] = {
        "test": _aurc_influence(pnorm.confidence(test), test.argmax(-1) == arrays.test_labels)
    }
    known["test.logit_gap"] = {"test": logit_gaps(test, arrays.test_labels)}
    known["validation.logit_gap"] = {"validation": logit_gaps(validation, labels)}
    return known


def score_influences(logits: Floats, labels: npt.NDArray[np.int64], smece: float) -> dict[str, Floats]:
    """The influence of each row on each of the scores, which is their mean; the smECE is known or nearly."""
    rows = numbers_from_logits(torch.from_numpy(logits), torch.from_numpy(labels))
    return {
        **influences(rows).of(rows),
        "smece": smooth_ece_influence(rows.confidence, rows.correct, smece),
    }


def _aurc_influence(confidence: Floats, correct: npt.NDArray[np.bool_]) -> Floats:
    selective = Selective(len(correct))  # each confidence by itself
    selective.update_scores(confidence, correct)
    return AurcInfluence(selective.compute()).of(confidence, correct)


def _of_student(student: Trial, teacher: Trial) -> dict[str, Influence]:
    """The influence of test rows on how near a student is to its teacher, of each row its own value."""
    temperature = student.config.temperature
    own, its = student.arrays.test_logits.astype(np.float64), teacher.arrays.test_logits.astype(np.float64)
    log_p, log_q = (torch.from_numpy(z / temperature).log_softmax(-1) for z in (its, own))
    kl = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return {
        "distilled.agreement": {"test": (own.argmax(-1) == its.argmax(-1)).astype(np.float64)},
        "distilled.kl": {"test": kl.numpy()},
    }
