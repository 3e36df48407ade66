"""What is measured of one model, and of two on the same rows: every call of a measure is in here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.audit.pairs import side_by_side
from labelsmooth.audit.split import Fitting
from labelsmooth.errors import InputError
from labelsmooth.measure import (
    Calibration,
    CalibrationResult,
    Geometry,
    PlaneProjection,
    PNorm,
    RecoveredSmoothing,
    Selective,
    SelectiveResult,
    SmoothingRecovery,
    Teacher,
    TeacherResult,
    TemperatureScaling,
    logit_gaps,
    plane_projection,
)
from labelsmooth.measure.influence import AurcInfluence, Influences, Mean, PairedDifferences
from labelsmooth.measure.interval import Interval
from labelsmooth.measure.rows import RowNumbers, of_logits, of_probs
from labelsmooth.predictions import Batch, Predictions, Scan
from labelsmooth.progress import Progress
from labelsmooth.row_stats import RowStats, row_stats

Floats: TypeAlias = npt.NDArray[np.float64]
Metrics: TypeAlias = dict[str, Interval]

# Rows of each of three classes in the picture of the last layer; more would only cover one another.
_SHOWN_ROWS = 300

# Width of the cells that logit gaps are counted in, in nats, and how many there may be before it doubles.
_GAP_WIDTH, _GAP_CELLS = 2.0**-6, 2**14

# With fewer errors the intervals of `Selective` hold the true value in less than 92 %.
_FEW_ERRORS = 20

_UNTOLD = Interval(value=math.nan, low=math.nan, high=math.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Rows counted in bins of equal width."""

    edges: Floats  # (B + 1,)
    count: npt.NDArray[np.int64]  # (B,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What was measured of one model."""

    name: str
    path: Path
    rows: int  # that count
    num_classes: int
    chance: float  # the highest accuracy that one answer for all rows has
    are_probs: bool
    fitted_on: str  # in words
    fitted_rows: int
    measured_rows: int  # that what was fitted is measured on
    metrics: Metrics  # nan where it could not be told, then a note says why
    groups: dict[str, Metrics]
    calibration: CalibrationResult  # of all rows
    calibration_before: CalibrationResult  # of `measured_rows`
    calibration_after: CalibrationResult | None  # at the temperature, of `measured_rows`
    curve: SelectiveResult  # of all rows
    curve_repaired: SelectiveResult | None  # of `measured_rows`, where a p was found
    gaps: Histogram
    recovered: RecoveredSmoothing
    teacher: TeacherResult
    projection: PlaneProjection | None  # of three classes, where the file holds features and the last layer
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One model's metrics minus another's, on the same rows."""

    of: str
    minus: str
    metrics: Metrics


def measure(
    name: str, predictions: Predictions, fitting: Fitting, scan: Scan, bins: int, progress: Progress
) -> Measured:
    """Fit temperature and repair, then measure everything in one pass over the rows.

    What is not fitted is measured on all rows; what is fitted, and the same without it beside it, on the rows
    that it was not fitted on.

    Raises:
        ValueError: there are no rows to fit on, or none left to measure.
    """
    are_probs = predictions.are_probs
    fit = _fit(name, predictions, fitting, scan, progress)
    progress.begin(f"{name}: measuring", scan.rows)
    measured, drawn_for_fit = _Rows(bins), _Rows(bins)
    after, repaired = Calibration(bins), Selective()
    change = Mean()  # of the NLL by the temperature
    gaps, recovery, teacher = _Gaps(), SmoothingRecovery(predictions.num_classes), Teacher()
    layer = _Layer(predictions) if predictions.has_features and (scan.label_weights > 0).sum() > 1 else None
    groups = {group: Calibration(bins) for group in scan.groups}
    for batch, drawn in fitting.measured():
        logits = as_logits(batch.scores, are_probs)
        drawn_for_fit.update(batch.select(drawn), are_probs)
        rest = batch.select(~drawn)
        measured.update(rest, are_probs)
        rest_logits = logits[torch.from_numpy(~drawn)]
        if fit.temperature is not None:
            stats = _stats(rest_logits / fit.temperature.temperature, rest.labels)
            after.update_stats(stats, rest.weights)
            gain = stats.nll - _stats(rest_logits, rest.labels).nll
            change.update(gain.numpy(), _weights(rest))
        right = rest_logits.argmax(-1) == rest.labels
        repaired.update_scores(fit.repair.confidence(rest_logits), right, rest.weights)
        gaps.update(logits, batch.labels)
        recovery.update(logits, batch.labels)
        teacher.update(logits, batch.labels, batch.weights)
        if layer is not None:
            layer.update(batch)
        for group in np.unique(batch.groups) if batch.groups is not None else ():
            _calibrate(groups[str(group)], batch.select(batch.groups == group), are_probs)
        progress.advance(len(batch.labels))
    if measured.rows == 0:
        raise _too_few(predictions, fitting, scan)
    whole = measured.with_rows_of(drawn_for_fit)
    calibration = whole.calibration.compute()
    calibrated, selective = whole.calibration.intervals(), whole.selective.intervals()
    before = {**calibrated, **selective}
    if drawn_for_fit.rows:
        before = {**measured.calibration.intervals(), **measured.selective.intervals()}
    metrics = {
        "rows": _exactly(scan.rows),
        **calibrated,
        "infinite_nll_rows": _exactly(calibration.infinite_nll_rows),
        "temperature": _UNTOLD if fit.temperature is None else fit.temperature.interval(),
        "nll_before_temperature": before["nll"],
        "nll_after_temperature": _UNTOLD,
        "nll_change_by_temperature": change.interval(),
        "ece_before_temperature": before["ece"],
        "ece_after_temperature": _UNTOLD,
        **{name: selective[name] for name in ("aurc", "augrc", "coverage_at_1pct_risk")},
        "aurc_before_repair": before["aurc"],
        "aurc_repaired": before["aurc"] if fit.repair.p is None else repaired.intervals()["aurc"],
        "aurc_change_by_repair": _change_by_repair(
            fitting, fit.repair, measured.selective, repaired, are_probs
        ),
        "repair_p": _UNTOLD if fit.repair.p is None else _exactly(fit.repair.p),
    }
    if layer is not None:
        metrics |= layer.metrics()
    if fit.temperature is not None:
        scaled = after.intervals()
        metrics |= {"nll_after_temperature": scaled["nll"], "ece_after_temperature": scaled["ece"]}
    return Measured(
        name=name,
        path=predictions.path,
        rows=scan.rows,
        num_classes=predictions.num_classes,
        chance=float(scan.label_weights.max() / scan.label_weights.sum()),
        are_probs=are_probs,
        fitted_on=fitting.words,
        fitted_rows=fit.rows,
        measured_rows=measured.rows,
        metrics=metrics,
        groups={group: _of_group(of_group) for group, of_group in groups.items()},
        calibration=calibration,
        calibration_before=measured.calibration.compute(),
        calibration_after=None if fit.temperature is None else after.compute(),
        curve=whole.selective.compute(),
        curve_repaired=None if fit.repair.p is None else repaired.compute(),
        gaps=gaps.histogram(),
        recovered=recovery.compute(),
        teacher=teacher.compute(),
        projection=None if layer is None else layer.projection(),
        notes=(*fit.notes, *_notes(predictions, calibration, whole.selective.compute())),
    )


def as_logits(scores: Tensor, are_probs: bool) -> Tensor:  # (n, K)
    """Logits in float64: of probabilities their logarithms, with the same softmax."""
    scores = scores.double()
    return scores.clamp_min(0).log() if are_probs else scores  # what rounding has put below 0 is 0


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """What was fitted."""

    rows: int
    temperature: TemperatureScaling | None  # None where the rows could not tell one
    repair: PNorm
    notes: tuple[str, ...]


class _FitBatches:
    """The rows to fit on as (logits, labels, weights), which can be gone through again."""

    def __init__(self, fitting: Fitting, are_probs: bool) -> None:
        self._fitting = fitting
        self._are_probs = are_probs
        self.rows = 0  # of the last pass
        self.zeros = 0  # rows of it whose label has the probability 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        self.rows = self.zeros = 0
        for batch in self._fitting.batches():
            logits = as_logits(batch.scores, self._are_probs)
            self.rows += len(logits)
            self.zeros += int((logits.gather(1, batch.labels.unsqueeze(1)) == -math.inf).sum())
            weights = torch.ones(len(logits)) if batch.weights is None else batch.weights
            yield logits, batch.labels, weights


def _too_few(predictions: Predictions, fitting: Fitting, scan: Scan) -> InputError:
    return InputError(
        f"{predictions.path} has too few rows to fit on {fitting.share:g} of them and measure the rest, "
        f"got {scan.rows}: give other rows to fit on with --validation"
    )


def _fit(name: str, predictions: Predictions, fitting: Fitting, scan: Scan, progress: Progress) -> _Fit:
    progress.begin(f"{name}: fitting", 0)
    batches = _FitBatches(fitting, predictions.are_probs)
    if next(iter(batches), None) is None:
        raise _too_few(predictions, fitting, scan)
    repair = PNorm().fit_batches(batches)
    if batches.zeros:
        note = (
            f"No temperature can be told: {batches.zeros:,} of the {_in_words(batches.rows)} that it is "
            "fitted on give their label the probability 0, which no temperature changes."
        )
        return _Fit(rows=batches.rows, temperature=None, repair=repair, notes=(note,))
    temperature = TemperatureScaling().fit_batches(batches)
    if temperature.at_boundary:
        end, where = (
            ("lowest", "every label has the largest score")
            if temperature.temperature < 1
            else ("highest", "the labels' scores are no better than chance")
        )
        note = (
            f"No temperature can be told: the NLL of the {_in_words(batches.rows)} fitted on still falls at "
            f"{temperature.temperature:g}, the {end} that is tried, as it does where {where}."
        )
        return _Fit(rows=batches.rows, temperature=None, repair=repair, notes=(note,))
    return _Fit(rows=batches.rows, temperature=temperature, repair=repair, notes=())


class _Rows:
    """The measures of one set of rows."""

    def __init__(self, bins: int) -> None:
        self.bins = bins
        self.rows = 0
        self.calibration = Calibration(bins)
        self.selective = Selective()

    def update(self, batch: Batch, are_probs: bool) -> None:
        self.rows += len(batch.labels)
        if are_probs:
            self.calibration.update_probs(batch.scores, batch.labels, batch.weights)
            self.selective.update_probs(batch.scores, batch.labels, batch.weights)
        else:
            stats = _stats(as_logits(batch.scores, are_probs), batch.labels)
            self.calibration.update_stats(stats, batch.weights)
            self.selective.update_stats(stats, batch.weights)

    def with_rows_of(self, other: _Rows) -> _Rows:
        """The measures of both sets together."""
        both = _Rows(self.bins)
        for part in (self, other):
            both.rows += part.rows
            both.calibration.merge(part.calibration)
            both.selective.merge(part.selective)
        return both


class _Layer:
    """The geometry of the penultimate features, and the rows of three classes for a picture."""

    def __init__(self, predictions: Predictions) -> None:
        self._classifier = predictions.classifier()
        self._geometry = Geometry(predictions.num_classes)
        self._shown = min(3, predictions.num_classes)
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._left = [_SHOWN_ROWS] * self._shown  # rows still to be kept of each class

    def update(self, batch: Batch) -> None:
        assert batch.features is not None
        self._geometry.update(batch.features, batch.labels)
        for label in range(self._shown):
            at = (batch.labels == label).nonzero().squeeze(1)[: self._left[label]]
            self._left[label] -= len(at)
            self._rows.append((batch.features[at].float(), batch.labels[at]))

    def metrics(self) -> Metrics:
        """Without intervals: these numbers are about the network more than about the rows."""
        result = self._geometry.compute(None if self._classifier is None else self._classifier[0])
        found = {
            "spread": result.spread,
            "class_separation": result.class_separation,
            "nc1": result.nc1,
            "nc2": result.frame.nc2,
        }
        if result.classifier is not None:
            found |= {
                "nc3": result.classifier.nc3,
                "spread_in_span": result.classifier.spread_in_span,
            }
        return {name: _exactly(value) for name, value in found.items()}

    def projection(self) -> PlaneProjection | None:
        if self._classifier is None or self._shown < 3:
            return None
        features, labels = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        weight, bias = self._classifier
        if torch.linalg.matrix_rank(weight[1:3] - weight[0]) < 2:
            return None  # templates on one line span no plane
        return plane_projection(features, labels, weight, bias, (0, 1, 2))


class _Gaps:
    """Counts of logit gaps, in cells that grow where the gaps spread too far."""

    def __init__(self) -> None:
        self._width = _GAP_WIDTH
        self._count: Counter[int] = Counter()

    def update(self, logits: Tensor, labels: Tensor) -> None:
        finite = logits.isfinite().all(-1)  # a gap to a class of probability 0 is infinite
        gaps = logit_gaps(logits[finite], labels[finite])
        cells, counts = np.unique(np.floor(gaps / self._width), return_counts=True)
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            self._count[int(cell)] += count
        while len(self._count) > _GAP_CELLS:
            self._widen()

    def histogram(self, bins: int = 60) -> Histogram:
        """Over all gaps, with at most so many bins; without any where there are no gaps."""
        if not self._count:
            return Histogram(edges=np.zeros(1), count=np.zeros(0, np.int64))
        while max(self._count) - min(self._count) >= bins:
            self._widen()
        low, high = int(min(self._count)), int(max(self._count))
        return Histogram(
            edges=np.arange(low, high + 2, dtype=np.float64) * self._width,
            count=np.array([self._count[cell] for cell in range(low, high + 1)]),
        )

    def _widen(self) -> None:
        self._width *= 2
        wider: Counter[int] = Counter()
        for cell, count in self._count.items():
            wider[cell // 2] += count
        self._count = wider


def _stats(logits: Tensor, labels: Tensor) -> RowStats:
    return row_stats(logits, labels.unsqueeze(-1), log_sum_sq=True, mean_logit=True)


def _calibrate(calibration: Calibration, batch: Batch, are_probs: bool) -> None:
    if are_probs:
        calibration.update_probs(batch.scores, batch.labels, batch.weights)
    else:
        stats = _stats(as_logits(batch.scores, are_probs), batch.labels)
        calibration.update_stats(stats, batch.weights)


def _numbers(batch: Batch, are_probs: bool) -> RowNumbers:
    if are_probs:
        return of_probs(batch.scores, batch.labels)
    return of_logits(batch.scores.double(), batch.labels)


def _weights(batch: Batch) -> Floats | None:
    return None if batch.weights is None else batch.weights.numpy()


def _of_group(calibration: Calibration) -> Metrics:
    return {"rows": _exactly(calibration.compute().rows), **calibration.intervals()}


def _in_words(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _exactly(value: float) -> Interval:
    """A number that has no interval."""
    return Interval(value=value, low=math.nan, high=math.nan)


def _notes(predictions: Predictions, calibration: CalibrationResult, curve: SelectiveResult) -> Iterator[str]:
    if calibration.infinite_nll_rows:
        yield (
            f"The NLL is infinite: {calibration.infinite_nll_rows:,} of {calibration.rows:,} rows give their "
            "label the probability 0."
        )
    if round(curve.rows * (1 - curve.accuracy)) < _FEW_ERRORS:
        yield (
            f"Fewer than {_FEW_ERRORS} of its rows are wrong: the intervals of AURC, AUGRC and the coverage "
            "are too short then, since a bootstrap knows nothing of errors that did not occur."
        )
    if predictions.has_weights:
        yield "All numbers are weighted by row, but for the logit gaps and what is said of smoothing."


def measure_pair(
    one: tuple[Measured, Predictions], other: tuple[Measured, Predictions], progress: Progress
) -> Pair:
    """The differences of the first minus the second, which must be on the same rows."""
    (a, its_rows), (b, other_rows) = one, other
    progress.begin(f"{a.name} and {b.name}", a.rows)
    differences = PairedDifferences(_influences(a), _influences(b))
    for left, right in side_by_side(its_rows.batches(), other_rows.batches()):
        numbers = _numbers(left, a.are_probs), _numbers(right, b.are_probs)
        differences.update(*numbers, _weights(left))
        progress.advance(len(left.labels))
    return Pair(of=a.name, minus=b.name, metrics=differences.intervals())


def _influences(model: Measured) -> Influences:
    bins = model.calibration.bins
    return Influences(bins.edges, np.sign(np.nan_to_num(bins.confidence - bins.accuracy)), model.curve)


def _change_by_repair(
    fitting: Fitting, repair: PNorm, before: Selective, after: Selective, are_probs: bool
) -> Interval:
    """What the repair does to the AURC of the rows that it was not fitted on."""
    if repair.p is None:
        return _exactly(0)
    old, new = (AurcInfluence(selective.compute()) for selective in (before, after))
    moved = Mean()
    for batch, drawn in fitting.measured():
        rest = batch.select(~drawn)
        rows = _numbers(rest, are_probs)
        confidence = repair.confidence(as_logits(rest.scores, are_probs)).numpy()
        change = new.of(confidence, rows.correct) - old.of(rows.confidence, rows.correct)
        moved.update(change, _weights(rest))
    return moved.interval()
