"""Accuracy and mean confidence of a study's arms by the true class of the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labelsmooth.measure.catalogue import QUANTITIES
from labelsmooth.measure.crossed import Crossed
from labelsmooth.report.shared.figure import Cell, Figure, short, table
from labelsmooth.report.study.estimate import Estimate, estimate, show
from labelsmooth.report.study.numbers import Networks
from labelsmooth.study import Study
from labelsmooth.study.tasks import find_task
from labelsmooth.tables import Table

MOST_CLASSES = 12  # that are shown
NAMES = ("accuracy", "mean_confidence")  # of the catalogue


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """The predictions of the networks of a study for the test rows of each class.

    Attributes:
        class_names: (K).
        labels: (N,), the true classes.
        arms: names of the A arms.
        numbers: by their names in the catalogue, (A, S, N): of each arm, seed and row.
    """

    class_names: Sequence[str]
    labels: npt.NDArray[np.int64]
    arms: Sequence[str]
    numbers: dict[str, npt.NDArray[np.float64]]

    @cached_property
    def shown(self) -> list[int]:
        """All classes, or of many those in which the accuracies of the arms are furthest apart."""
        present: list[int] = np.unique(self.labels).tolist()
        if len(present) <= MOST_CLASSES:
            return present
        accuracy = self.numbers["accuracy"].mean(1)
        apart = {label: float(np.ptp(accuracy[:, self.labels == label].mean(1))) for label in present}
        return sorted(present, key=lambda label: -apart[label])[:MOST_CLASSES]

    def estimate(self, name: str, arm: int, label: int) -> Estimate:
        """The mean over the seeds and the rows of a class."""
        rows = self.numbers[name][arm][:, self.labels == label]
        return estimate(Crossed(rows.mean(1), {"test": rows}))

    def table(self) -> Table:
        """The classes that are shown against the arms."""
        count = np.bincount(self.labels)
        rows = [
            [
                f"{self.class_names[label]} ({count[label]:,})",
                *(show(self.estimate(name, arm, label), name, unit=False) for arm in range(len(self.arms))),
            ]
            for name in NAMES
            for label in self.shown
        ]
        return Table(
            head=("class (test rows)", *self.arms),
            rows=rows,
            sections={at * len(self.shown): QUANTITIES[name].label for at, name in enumerate(NAMES)},
        )

    def figure(self) -> Figure:
        """Every class of every arm and seed, with those that are shown."""
        count = np.bincount(self.labels, minlength=len(self.class_names))
        present: list[int] = np.flatnonzero(count).tolist()
        rows: list[tuple[Cell, ...]] = []
        for arm in range(len(self.arms)):
            for seed in range(self.numbers["accuracy"].shape[1]):
                sums = [np.bincount(self.labels, self.numbers[name][arm, seed], len(count)) for name in NAMES]
                for label in present:
                    means = [short(one[label] / count[label]) for one in sums]
                    rows.append((arm, seed, self.class_names[label], int(count[label]), *means))
        return Figure(
            name="classes",
            columns=table(("arm", "seed", "class", "rows", *NAMES), rows),
            constants={
                "shown": [self.class_names[label] for label in self.shown],
                "series": [{"name": name, "title": QUANTITIES[name].label} for name in NAMES],
            },
        )


def by_class(study: Study) -> Classes | None:
    """The numbers of a finished study by class, as trained; None where its task names no classes."""
    task = find_task(study.recipe.task)
    class_names, labels = task.class_names(study.data), task.test_labels(study.trials[0].arrays)
    if not class_names or labels is None:
        return None
    arms = [Networks(trials) for trials in study.arms().values()]
    return Classes(
        class_names=class_names,
        labels=labels,
        arms=[objective.name for objective in study.recipe.objectives],
        # the influence of a row on a mean is its own value
        numbers={name: np.stack([arm[f"test.{name}"].influences["test"] for arm in arms]) for name in NAMES},
    )
