"""Single numbers of a set of predictions, in one call.

All take `predictions` (…, K), which are logits unless `probs=True` says that they are probabilities, `target`
(…) with classes in 0..K−1, and by keyword what `Rows` lists. For more than one of these numbers make a
`Calibration` or a `Selective`, which find all of theirs from one pass, with intervals.
"""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack, cast

from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.calibration import Calibration
from labelsmooth.measure.calibration_result import CalibrationResult
from labelsmooth.measure.inputs import Array, as_tensor
from labelsmooth.measure.peers import Edges, Peer
from labelsmooth.measure.scaling import TemperatureScaling
from labelsmooth.measure.selective import Selective
from labelsmooth.measure.selective_result import Peer as SelectivePeer
from labelsmooth.measure.selective_result import SelectiveResult
from labelsmooth.measure.smooth import moments_of_rows, smooth_ece


class _Layout(TypedDict, total=False):
    weight: Array | None
    ignore_index: int | None
    class_axis: int


class Rows(_Layout, total=False):
    """The form in which rows are given, and which of them count.

    Attributes:
        probs: whether the predictions are probabilities; it is never guessed.
        weight: (…) finite and at least 0, in the shape of `target`; None for rows that count alike.
        ignore_index: the target whose rows are left out; None for none.
        class_axis: where the K predictions of a row lie, −1 by default, 1 for maps (N, K, H, W).
    """

    probs: bool


def accuracy(predictions: Array, target: Array, **rows: Unpack[Rows]) -> float:
    """Share of rows whose label has the largest prediction, the first of equal ones, in 0..1.

    Example:
        >>> accuracy(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        0.5
    """
    return _calibration(Calibration(), predictions, target, rows).accuracy


def nll(predictions: Array, target: Array, **rows: Unpack[Rows]) -> float:
    """Mean −log p_y, in nats; inf as soon as one label has the probability 0.

    Example:
        >>> round(nll(torch.tensor([[0.25, 0.75]]), torch.tensor([1]), probs=True), 4)
        0.2877
    """
    return _calibration(Calibration(), predictions, target, rows).nll


def brier(predictions: Array, target: Array, **rows: Unpack[Rows]) -> float:
    """Mean Σ_k (p_k − [k = y])², in 0..2.

    Example:
        >>> brier(torch.tensor([[0.25, 0.75]]), torch.tensor([1]), probs=True)
        0.125
    """
    return _calibration(Calibration(), predictions, target, rows).brier


def ece(
    predictions: Array,
    target: Array,
    *,
    num_bins: int = 15,
    edges: Edges | None = None,
    peer: Peer | None = None,
    **rows: Unpack[Rows],
) -> float:
    """Expected calibration error Σ_b (n_b/N)·|accuracy_b − confidence_b|, in 0..1; bins as of `Calibration`.

    Example:
        >>> ece(torch.tensor([[0.25, 0.75], [0.25, 0.75]]), torch.tensor([1, 0]), probs=True)
        0.25
    """
    calibration = Calibration(num_bins, edges, peer=peer)
    return _calibration(calibration, predictions, target, rows).ece


def mce(
    predictions: Array,
    target: Array,
    *,
    num_bins: int = 15,
    edges: Edges | None = None,
    peer: Peer | None = None,
    **rows: Unpack[Rows],
) -> float:
    """Maximum calibration error, the largest |accuracy_b − confidence_b|, in 0..1; bins as of `Calibration`.

    Example:
        >>> mce(torch.tensor([[0.25, 0.75], [0.5, 0.5]]), torch.tensor([1, 0]), probs=True)
        0.5
    """
    calibration = Calibration(num_bins, edges, peer=peer)
    return _calibration(calibration, predictions, target, rows).mce


def classwise_ece(
    predictions: Array,
    target: Array,
    *,
    num_bins: int = 15,
    edges: Edges | None = None,
    **rows: Unpack[Rows],
) -> float:
    """Mean over classes of the calibration error of each class's own probability, in 0..1.

    Example:
        >>> classwise_ece(torch.tensor([[0.25, 0.75], [0.25, 0.75]]), torch.tensor([1, 0]), probs=True)
        0.25
    """
    calibration = Calibration(num_bins, edges, classwise=True)
    error = _calibration(calibration, predictions, target, rows).classwise_ece
    assert error is not None
    return error


def smece(predictions: Array, target: Array, **rows: Unpack[Rows]) -> float:
    """Smooth calibration error: the width σ of a reflected Gaussian kernel at which smECE_σ = σ, in 0..1.

    Example:
        >>> round(smece(torch.tensor([[0.25, 0.75], [0.25, 0.75]]), torch.tensor([1, 0]), probs=True), 4)
        0.25
    """
    return _calibration(Calibration(), predictions, target, rows).smece


def aurc(
    predictions: Array,
    target: Array,
    *,
    peer: SelectivePeer | None = None,
    **rows: Unpack[Rows],
) -> float:
    """Area under the risk–coverage curve of `Selective`, in 0..1, or as `SelectiveResult.peer_aurc` has it.

    Example:
        >>> round(aurc(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 0])), 4)
        0.3889
    """
    result = _selective(predictions, target, rows)
    return result.aurc if peer is None else result.peer_aurc(peer)


def augrc(
    predictions: Array,
    target: Array,
    *,
    peer: Literal["fd_shifts", "torch_uncertainty"] | None = None,
    **rows: Unpack[Rows],
) -> float:
    """Area under the generalised risk–coverage curve of `Selective`, in 0..1/2, or as a peer has it.

    Example:
        >>> round(augrc(torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 0])), 4)
        0.2222
    """
    result = _selective(predictions, target, rows)
    return result.augrc if peer is None else result.peer_augrc(peer)


def temperature(predictions: Array, target: Array, **rows: Unpack[Rows]) -> float:
    """The temperature of `TemperatureScaling`, fitted on these rows.

    Example:
        >>> round(temperature(torch.tensor([[4.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 4)
        3.641
    """
    probs, options = _split(rows)
    scaling = TemperatureScaling()
    (scaling.fit_probs if probs else scaling.fit)(predictions, target, **options)
    return scaling.temperature


def smece_of_scores(confidence: Array, correct: Array) -> float:
    """`smece` where a row is one probability and whether what it was given to came true.

    Args:
        confidence: (…) floats in 0..1.
        correct: (…) of 0 and 1, or bool.

    Raises:
        TypeError: an argument is no tensor or array, or `confidence` does not hold floats.
        ValueError: the shapes differ, there is no row, or a value is out of range.

    Cost: four sums over the rows, so 40 ms for a million.

    Example:
        >>> round(smece_of_scores(torch.tensor([0.75, 0.75]), torch.tensor([1, 0])), 4)
        0.25
    """
    given, outcome = as_tensor(confidence, "confidence"), as_tensor(correct, "correct")
    if not given.is_floating_point():
        raise InputTypeError(f"confidence must hold floating-point values, got {given.dtype}")
    if given.shape != outcome.shape or given.numel() == 0:
        raise InputError(
            f"confidence and correct must have the same shape, with at least one row, got "
            f"{tuple(given.shape)} and {tuple(outcome.shape)}"
        )
    scores, hits = given.reshape(-1).cpu().double().numpy(), outcome.reshape(-1).cpu().numpy()
    if not (scores.min() >= 0 and scores.max() <= 1):  # written so that NaN is refused
        raise InputError(f"confidence must lie in 0..1, got {scores[~((scores >= 0) & (scores <= 1))][0]}")
    right = hits == 1
    if not (right | (hits == 0)).all():
        raise InputError(f"correct must be 0 or 1, got {hits[~(right | (hits == 0))][0]}")
    return float(smooth_ece(moments_of_rows(scores, right)))


def count(measure: Calibration | Selective, predictions: Array, target: Array, rows: Rows) -> None:
    """Count rows of predictions in a measure, given as they are here."""
    probs, options = _split(rows)
    (measure.update_probs if probs else measure.update)(predictions, target, **options)


def _calibration(measure: Calibration, predictions: Array, target: Array, rows: Rows) -> CalibrationResult:
    count(measure, predictions, target, rows)
    return measure.compute()


def _selective(predictions: Array, target: Array, rows: Rows) -> SelectiveResult:
    measure = Selective()
    count(measure, predictions, target, rows)
    return measure.compute()


def _split(rows: Rows) -> tuple[bool, _Layout]:
    """Whether predictions are probabilities, and what an update takes."""
    options = rows.copy()
    probs = options.pop("probs", False)
    return probs, cast("_Layout", options)
