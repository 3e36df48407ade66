"""Every number of a study's networks with the influence of each row on it, as their task knows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.crossed import Crossed
from labelsmooth.study import Trial
from labelsmooth.study.tasks import find_task
from labelsmooth.study.tasks.base import Influence, with_unit_temperature


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of one arm, one for each seed."""

    trials: Sequence[Trial]

    def __getitem__(self, field: str) -> Crossed:
        """A number of each network by its part and its name in the catalogue, as in test.nll.

        Rows are counted in the numbers whose influences the task knows; in all else only the seeds vary. A
        number that the rows of a network cannot tell is nan.

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

    def __contains__(self, field: str) -> bool:
        """Whether the rows of a network told this number."""
        part, _, name = field.partition(".")
        return any(name in with_unit_temperature(trial.metrics).get(part, {}) for trial in self.trials)

    def get(self, field: str) -> Crossed:
        """A number of each network, which is nan where their task has no such number."""
        return self[field] if field in self else Crossed(np.full(len(self.trials), math.nan))

    @cached_property
    def _influences(self) -> list[Mapping[str, Influence]]:
        return [_influences(trial) for trial in self.trials]


# verdict, tables and figures of one page ask for the same networks
_KNOWN: WeakKeyDictionary[Trial, Mapping[str, Influence]] = WeakKeyDictionary()


def _influences(trial: Trial) -> Mapping[str, Influence]:
    if trial not in _KNOWN:
        task = find_task(trial.config.task)
        _KNOWN[trial] = task.influences(trial.config, trial.arrays, trial.metrics)
    return _KNOWN[trial]
