"""Every measure of the predictions of one model, in one pass over their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch

from labelsmooth.evaluation.answered import Answered
from labelsmooth.evaluation.fit import Fitted, fit
from labelsmooth.evaluation.layer import Layer
from labelsmooth.evaluation.numbers import Numbers, exactly, find, numbers_of, ordered, standard_measures
from labelsmooth.evaluation.result import Evaluation
from labelsmooth.evaluation.scores import Scores, as_logits, row_numbers, statistics
from labelsmooth.evaluation.split import Split
from labelsmooth.measure import Calibration, Selective, SelectiveResult, SmoothingRecovery
from labelsmooth.measure.catalogue import OF_LOGITS, QUANTITIES
from labelsmooth.measure.influence import AurcInfluence, Mean
from labelsmooth.predictions import Batch

# with fewer errors the intervals of `Selective` hold the true value in less than 92 %
_FEW_ERRORS = 20
# groups of numbers of the logits that are parts of their own; all others are among those of all rows
_PARTS_BY_GROUP = ("teacher", "smoothing")


def evaluate(
    split: Split,
    fitted: Fitted | None = None,
    *,
    bins: int = 15,
    intervals: bool = True,
    by_logits: bool = True,
    done: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Measure predictions, as given and with what is fitted.

    What needs no fitting is measured on all rows; what was fitted, and the same without it beside it, on the
    rows that it was not fitted on.

    Args:
        split: the rows to measure and to fit on.
        fitted: of `fit`; None fits on the split.
        bins: of confidence, of equal width.
        intervals: whether to compute 95 % intervals.
        by_logits: whether to take the numbers of logits too, which say something of a network where the
            classes are those that it was trained on.
        done: called with a number of rows that were measured.

    Returns:
        All numbers, and tables for pictures.

    Raises:
        ValueError: there are no rows to fit on, or none left to measure.

    Cost: one pass over the rows, in float64, and one more for the interval of the p-norm's change; intervals
        take about eight seconds, whatever the number of rows.

    Example:
        >>> from labelsmooth.predictions import InMemory
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]])
        >>> rows = InMemory(logits, torch.tensor([0, 1, 1, 0]))
        >>> found = evaluate(Split(rows, validation=rows), intervals=False)
        >>> found.numbers["all"]["accuracy"].value
        0.75
        >>> round(found.temperature, 3)
        7.426
    """
    fitted = fit(split) if fitted is None else fitted
    counted = _Counted(split, fitted, bins, by_logits)
    for batch, drawn in split.measured():
        counted.update(batch, drawn)
        done(len(batch.labels))
    if counted.held_out.rows == 0:
        raise split.too_few(counted.drawn.rows)
    return counted.evaluation(intervals)


class _Counted:
    """The measures of one model while its rows are counted."""

    def __init__(self, split: Split, fitted: Fitted, bins: int, by_logits: bool) -> None:
        self._split, self._fitted = split, fitted
        self._are_probs, num_classes = split.source.are_probs, split.source.num_classes
        self.held_out, self.drawn, self._scaled = (Scores(num_classes, bins) for _ in range(3))
        self._pnorm = Selective()
        threshold = fitted.threshold
        self._answered = None if threshold is None else Answered(threshold, are_probs=self._are_probs)
        self._nll_change = Mean()  # by the temperature
        self._groups: defaultdict[str, Calibration] = defaultdict(lambda: Calibration(bins))
        self._layer: Layer | None = None
        self._label_weights = np.zeros(num_classes)
        self._weighted = False
        self._wrong = 0  # rows, whatever their weight
        places = OF_LOGITS if by_logits else ()
        self._by_logits = standard_measures(places, num_classes=num_classes, num_bins=bins)

    def update(self, batch: Batch, drawn: npt.NDArray[np.bool_]) -> None:
        """Count rows, some of which were drawn to be fitted on."""
        self._weighted |= batch.weights is not None
        self._label_weights += np.bincount(
            batch.labels.numpy(), _weights(batch), minlength=len(self._label_weights)
        )
        self.drawn.update(batch.select(drawn), are_probs=self._are_probs)
        held_out = batch.select(~drawn)
        self.held_out.update(held_out, are_probs=self._are_probs)
        logits = as_logits(batch.scores, are_probs=self._are_probs)
        right = logits.argmax(-1) == batch.labels
        self._wrong += int((~right).sum())
        kept = torch.from_numpy(~drawn)
        self._update_fitted(held_out, logits[kept], right[kept])
        for measure in self._by_logits:
            measure.update(logits, batch.labels, batch.weights)
        if batch.features is not None:
            self._layer = self._layer or Layer(self._split.source)
            self._layer.update(batch)
        for group in np.unique(batch.groups) if batch.groups is not None else ():
            self._update_group(self._groups[str(group)], batch.select(batch.groups == group))

    def _update_fitted(self, batch: Batch, logits: torch.Tensor, right: torch.Tensor) -> None:
        if self._fitted.scaling is not None:
            scaled = statistics(logits / self._fitted.temperature, batch.labels)
            self._scaled.update_stats(scaled, batch.weights)
            change = scaled.nll - statistics(logits, batch.labels).nll
            self._nll_change.update(change.numpy(), _weights(batch))
        self._pnorm.update_scores(self._fitted.pnorm.confidence(logits), right, batch.weights)
        if self._answered is not None:
            self._answered.update(batch)

    def _update_group(self, calibration: Calibration, batch: Batch) -> None:
        if self._are_probs:
            calibration.update_probs(batch.scores, batch.labels, batch.weights)
        else:
            stats = statistics(as_logits(batch.scores, are_probs=False), batch.labels)
            calibration.update_stats(stats, batch.weights)

    def evaluation(self, intervals: bool) -> Evaluation:
        """Everything that was measured."""
        whole = self.held_out
        if self.drawn.rows:
            whole = self.held_out.together_with(self.drawn)
        scores = {"all": whole, "held_out": self.held_out}
        if self._fitted.scaling is not None:
            scores["with_temperature"] = self._scaled
        figures = {part: dict(counted.figures()) for part, counted in scores.items()}
        figures["with_pnorm"] = dict(self._pnorm.figures())
        for measure in self._by_logits:
            figures["all"] |= measure.figures()
        curve = whole.selective.compute()
        return Evaluation(
            num_classes=self._split.source.num_classes,
            are_probs=self._are_probs,
            chance=float(self._label_weights.max() / self._label_weights.sum()),
            numbers=self._numbers(scores, intervals),
            groups={
                group: numbers_of([self._groups[group]], intervals=intervals)
                for group in sorted(self._groups)
            },
            recovered=find(self._by_logits, SmoothingRecovery).compute() if self._by_logits else None,
            untold=self._fitted.untold,
            notes=tuple(self._notes(curve, whole.calibration.compute().infinite_nll_rows)),
            figures=figures,
            projection=self._layer.projection() if self._layer and self._has_classes else None,
            influences={
                part: scores[part].influences() for part in ("all", "with_temperature") if part in scores
            },
        )

    @property
    def _has_classes(self) -> bool:
        """Whether there are two classes, which a geometry takes."""
        return bool((self._label_weights > 0).sum() > 1)

    def _numbers(self, scores: Mapping[str, Scores], intervals: bool) -> dict[str, Numbers]:
        parts = {"all": scores["all"].numbers(intervals=intervals)}
        parts["held_out"] = self.held_out.numbers(intervals=intervals) if self.drawn.rows else parts["all"]
        if "with_temperature" in scores:
            parts["with_temperature"] = self._scaled.numbers(intervals=intervals)
            change = self._nll_change.interval()
            parts["change_by_temperature"] = {"nll": change if intervals else exactly(change.value)}
        parts |= self._numbers_with_pnorm(parts["held_out"], intervals)
        if self._answered is not None:
            parts["above_threshold"] = self._answered.numbers(intervals=intervals)
        parts["fitted"] = self._fitted.numbers(intervals=intervals)
        if self._layer is not None and self._has_classes:
            parts["layer"] = self._layer.numbers()
        for name, number in numbers_of(self._by_logits, intervals=intervals).items():
            part = QUANTITIES[name].group if QUANTITIES[name].group in _PARTS_BY_GROUP else "all"
            parts[part] = {**parts.get(part, {}), name: number}
        return parts

    def _numbers_with_pnorm(self, held_out: Numbers, intervals: bool) -> dict[str, Numbers]:
        if self._fitted.pnorm.p is None:  # the largest probability as before
            same = {name: held_out[name] for name in ordered(self._pnorm.values())}
            return {"with_pnorm": same, "change_by_pnorm": {"aurc": exactly(0)}}
        numbers = numbers_of([self._pnorm], intervals=intervals)
        if intervals:
            change = self._aurc_change().interval()
        else:
            change = exactly(numbers["aurc"].value - held_out["aurc"].value)
        return {"with_pnorm": numbers, "change_by_pnorm": {"aurc": change}}

    def _aurc_change(self) -> Mean:
        """The change of the AURC by the p-norm, on the rows that it was not fitted on."""
        old, new = (
            AurcInfluence(selective.compute()) for selective in (self.held_out.selective, self._pnorm)
        )
        moved = Mean()
        for batch in self._split.held_out():
            rows = row_numbers(batch, are_probs=self._are_probs)
            logits = as_logits(batch.scores, are_probs=self._are_probs)
            confidence = self._fitted.pnorm.confidence(logits).numpy()
            change = new.of(confidence, rows.correct) - old.of(rows.confidence, rows.correct)
            moved.update(change, _weights(batch))
        return moved

    def _notes(self, curve: SelectiveResult, infinite: int) -> Iterator[str]:
        if self._fitted.untold is not None:
            yield self._fitted.untold
        if infinite:
            rows = f"{infinite:,} of {curve.rows:,} rows"
            yield f"The NLL is infinite: {rows} give their label the probability 0."
        if self._wrong < _FEW_ERRORS:
            yield (
                f"Fewer than {_FEW_ERRORS} of its rows are wrong: the intervals of AURC, AUGRC and the "
                "coverage are too short then, since a bootstrap knows nothing of errors that did not occur."
            )
        if self._weighted:
            layer = "those of the last layer and " if self._layer is not None else ""
            yield f"All numbers are weighted by row, but for {layer}the counts of the logit gaps."


def _weights(batch: Batch) -> npt.NDArray[np.float64] | None:
    return None if batch.weights is None else batch.weights.numpy()
