"""The shape of what the last layer sees and says: features around class templates, gaps between logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from labelsmooth.checks import FLOAT_DTYPES, require_classes, require_num_classes
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.inputs import Array, as_tensor, classified_rows, labelled_rows
from labelsmooth.measure.ranks import merge_over_ranks, require_same_options
from labelsmooth.measure.result import Result

Floats: TypeAlias = npt.NDArray[np.float64]

QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)

# features widened to float64 at a time: 8 MB
_PIECE = 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
class PlaneProjection:
    """Rows of three classes in the plane through the templates of these classes, in units of the features."""

    points: Floats  # (n, 2)
    labels: npt.NDArray[np.int64]  # (n,), each one of `classes`
    templates: Floats  # (3, 2), in the order of `classes`
    classes: tuple[int, int, int]

    @property
    def borders(self) -> Floats:
        """Where predictions change: unit vectors (3, 2) from the origin, in the order of `classes`.

        Along each, the two logits other than that class's are equal, and above its own.
        """
        borders = np.empty((3, 2))
        for third in range(3):
            one, other = np.delete(self.templates, third, axis=0)
            x, y = other - one
            direction = np.array([-y, x]) / np.hypot(x, y)
            borders[third] = direction if direction @ (one - self.templates[third]) > 0 else -direction
        return borders


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitGap:
    """The distribution over rows of the gap between the label's logit and the mean of the others."""

    rows: int
    mean: float
    sd: float  # over the rows, dividing by their number
    quantile_levels: Floats  # (5,): 0.05, 0.25, 0.5, 0.75, 0.95
    quantiles: Floats  # (5,)


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameShape:
    """How near K centred vectors, class means or templates, are to a simplex equiangular tight frame.

    In such a frame all lengths are equal and all angles have the cosine −1/(K−1); every number here is 0.
    """

    equinorm: float  # sd of the lengths over their mean
    equiangular: float  # sd of the cosines between two different vectors
    maximal_angle: float  # mean |cosine + 1/(K−1)| of two different vectors
    frame_error: float  # ‖G/‖G‖ − E/‖E‖‖ of the K×K inner products G, with E = δ_jk − 1/K, in 0..2


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierGeometry:
    """How the templates of a linear classifier lie, and how the features lie to them."""

    templates: FrameShape  # NC2 of the templates
    self_duality: float  # NC3: ‖W/‖W‖ − M/‖M‖‖ of centred templates W and class means M, in 0..2
    duality_error: float  # ‖WMᵀ/‖WMᵀ‖ − E/‖E‖‖ with E = δ_jk − 1/K, in 0..2
    nc1_in_span: float  # NC1 of the features projected onto the span of the centred templates
    spread_in_span: float  # tr Σ_W / tr Σ_B there: what of the features' scatter the logits can see


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GeometryResult(Result):
    """What `Geometry.compute` found over `rows` rows of features."""

    rows: int
    classes: npt.NDArray[np.int64]  # (C,), those that have rows; each of the following is about them
    counts: npt.NDArray[np.int64]  # (C,), their rows
    means: Floats  # (C, D), their mean features
    spread: float  # as `within_class_spread`, in 0..∞
    class_separation: float  # R², in 0..1; 1 for features that point the same way throughout a class
    nc1: float  # tr(Σ_W Σ_B⁺)/C, in 0..∞
    frame: FrameShape  # NC2, of the class means
    classifier: ClassifierGeometry | None  # None where `compute` got no classifier


class Geometry:
    """Neural collapse NC1–NC4 and class separation of penultimate features, from a stream of batches.

    With class means μ_c, their mean μ_G = Ave_c μ_c, the centred means M = [μ_c − μ_G] and
    Σ_W = Ave_i (h_i − μ_{y_i})(h_i − μ_{y_i})ᵀ over all rows, Σ_B = MᵀM/C:

    - NC1, collapse within classes: tr(Σ_W Σ_B⁺)/C, where eigenvalues of Σ_B up to D·2⁻⁵² of the largest
      count as 0.
    - NC2, a simplex frame of the means: `FrameShape` of M, and of the centred templates.
    - NC3, self-duality: ‖W/‖W‖ − M/‖M‖‖ with the centred templates W and Frobenius norms.
    - NC4, the classifier decides as the nearest class mean does: `nearest_mean` in a second pass, as the
      means are known only after the first.
    - the in-span measures: Σ_W and Σ_B restricted to the span of W. A feature's part orthogonal to it changes
      no probability, so scatter there is none that the loss could have collapsed.
    - class separation: R² = 1 − (Ave_c of the mean cosine distance within class c) / (Ave_{c,c′} of that
      between classes c and c′, the same one included), over pairs of rows. A feature of length 0 has no
      direction and is left out of this one.

    Args:
        num_classes: K ≥ 2, the labels being 0..K−1.

    Raises:
        TypeError: `num_classes` is not an int.
        ValueError: `num_classes` < 2.

    Cost: the state is two (K, D) tables and one (D, D) table in float64, whatever the number of rows. Counts
        are the same under every order and split of the rows; sums are too up to float64 rounding, also where
        the features have a large offset, because scatter is kept around the means and means are merged by
        their differences.

    Example:
        >>> geometry = Geometry(2)
        >>> geometry.update(torch.tensor([[0.0, 1.0], [0.0, -1.0]]), torch.tensor([0, 0]))
        >>> geometry.update(torch.tensor([[4.0, 1.0], [4.0, -1.0]]), torch.tensor([1, 1]))
        >>> result = geometry.compute(weight=torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        >>> result.spread, result.nc1, result.classifier.nc1_in_span, result.classifier.self_duality
        (0.25, 0.0, 0.0, 0.0)
        >>> geometry.nearest_mean(torch.tensor([[1.0, 9.0], [3.0, 9.0]]))
        tensor([0, 1])

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse during the terminal phase of deep
    learning training"; there classes are balanced and templates not centred, here a vector added to all of
    them, which changes no probability, changes no number. Kornblith et al. 2021, "Why Do Better Loss
    Functions Lead to Less Transferable Features?", for the class separation. `nc1`, `frame_error` and, for
    centred templates, `duality_error` are `covariance_ratio`, `simplex_etf_error` and `self_duality_error` of
    rhubarbwu/neural-collapse.
    """

    def __init__(self, num_classes: int) -> None:
        require_num_classes(num_classes)
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._moments = _ClassMoments(self.num_classes)
        self._directions = _ClassMoments(self.num_classes)
        self._within: Tensor | None = None  # (D, D), Σ_i (h_i − μ_{y_i})(h_i − μ_{y_i})ᵀ

    def update(self, features: Array, labels: Array) -> None:
        """Count rows of features.

        Args:
            features: (…, D) floats, the input of the last linear layer.
            labels: (…) integers in 0..K−1.

        Raises:
            TypeError: an argument is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, D is not that of the rows before, a label is out of range or a
                feature is not finite.

        Cost: N·D² multiplications in float64, of 8 MB of the features at a time.
        """
        rows, row_labels = labelled_rows(features, labels, "features", "labels")
        require_classes(row_labels.cpu(), self.num_classes, "labels")
        self._require_width(rows)
        _require_finite(rows, "features")  # all of them before any of the state changes
        for h, y in _pieces(rows, row_labels, self.num_classes):
            if self._within is None:
                self._within = torch.zeros(h.shape[1], h.shape[1], dtype=torch.float64)
            deviation, shift = self._moments.add(h, y)
            self._within += (deviation.T @ deviation).cpu() + shift.T @ shift
            length = h.norm(dim=-1)
            turned = length > 0
            self._directions.add(h[turned] / length[turned].unsqueeze(-1), y[turned])

    def merge(self, other: Geometry) -> None:
        """Count the rows that `other` has counted.

        Raises:
            ValueError: the two differ in the number of classes or the width of the features.
        """
        require_same_options(self._options(), other._options())
        if other._within is None:
            return
        if self._within is None:
            self._within = torch.zeros_like(other._within)
        self._require_width(other._within)
        shift = self._moments.merge(other._moments)
        self._directions.merge(other._directions)
        self._within += other._within + shift.T @ shift

    def all_merge(self, group: dist.ProcessGroup | None = None) -> None:
        """Count the rows of all processes of a `torch.distributed` group, so that each of them has them all.

        Nothing happens where no process group exists. Call it once, after the last update.

        Args:
            group: the processes; None for all.

        Raises:
            ValueError: as `merge`; each process raises it then.

        Cost: every process gets the tables of every other, as means are merged by their differences, which
            are no sums.
        """
        merge_over_ranks(self, self._options(), group)

    def _options(self) -> str:
        return f"num_classes={self.num_classes}"

    def compute(self, weight: Array | None = None) -> GeometryResult:
        """The measures of all rows counted so far.

        Args:
            weight: (K, D) floats, the templates of the linear classifier on these features; None leaves out
                what needs them. The bias does not enter.

        Raises:
            TypeError: `weight` is no tensor or array of floats.
            ValueError: fewer than two classes have rows, or the weight is not finite or of another shape.

        Cost: a singular value decomposition of one or two (K, D) tables and products with the (D, D) table.
        """
        present = self._moments.count.nonzero().squeeze(-1)
        if len(present) < 2 or self._within is None:
            raise InputError(f"geometry needs features of at least two classes, got {len(present)}")
        counts, means = self._moments.count[present], self._moments.mean[present]
        rows = int(counts.sum())
        centred = means - means.mean(0)
        within = self._within / rows
        classifier = None
        if weight is not None:
            classifier = _classifier_geometry(self._templates(weight)[present], centred, within)
        return GeometryResult(
            rows=rows,
            classes=present.numpy(),
            counts=counts.numpy(),
            means=means.numpy(),
            spread=self._moments.spread(),
            class_separation=1 / (1 + self._directions.spread()),
            nc1=_nc1(within, centred),
            frame=_frame_shape(centred),
            classifier=classifier,
        )

    def nearest_mean(self, features: Array) -> Tensor:
        """The class whose mean feature, of the rows counted so far, is nearest to each feature.

        NC4 is the share of rows where this is not the classifier's decision, in a second pass over the rows:
        `(geometry.nearest_mean(features) != logits.argmax(-1)).float().mean()`.

        Args:
            features: (…, D) floats.

        Returns:
            (…) int64, where the features are; of several nearest classes the first.

        Raises:
            TypeError: `features` is no tensor or array of floats.
            ValueError: the width is not that of the rows counted, or none were counted.

        Cost: N·C·D multiplications, of 8 MB of the features in float64 at a time.
        """
        h = as_tensor(features, "features")
        if h.dtype not in FLOAT_DTYPES:
            raise InputTypeError(f"features must hold floating-point values, got {h.dtype}")
        if self._within is None:
            raise InputError("the nearest class mean needs class means, got none: call update first")
        if h.dim() == 0:
            raise InputError("features must have shape (…, D), got ()")
        self._require_width(h)
        present = self._moments.count.nonzero().squeeze(-1).to(h.device)
        means = self._moments.mean.to(h.device)[present]
        centre = means.mean(0)
        # ‖h − μ‖² = ‖h‖² − 2(h·μ − ‖μ‖²/2), relative to the centre so that a common offset costs no digits
        means = means - centre
        half_square = means.square().sum(-1) / 2
        rows = h.reshape(-1, h.shape[-1])
        nearest = [
            present[((piece.double() - centre) @ means.T - half_square).argmax(-1)]
            for piece in torch.split(rows, max(1, _PIECE // rows.shape[1]))
        ]
        return torch.cat(nearest).reshape(h.shape[:-1])

    def _require_width(self, rows: Tensor) -> None:
        if self._within is not None and rows.shape[-1] != len(self._within):
            raise InputError(
                f"features must be as wide as those before, {len(self._within)}, got {rows.shape[-1]}"
            )

    def _templates(self, weight: Array) -> Tensor:  # (K, D)
        assert self._within is not None
        templates, width = as_tensor(weight, "weight"), len(self._within)
        if templates.dtype not in FLOAT_DTYPES:
            raise InputTypeError(f"weight must hold floating-point values, got {templates.dtype}")
        if templates.shape != (self.num_classes, width):
            raise InputError(
                f"weight must have shape ({self.num_classes}, {width}), got {tuple(templates.shape)}"
            )
        return _finite(templates.cpu(), "weight")


def plane_projection(
    features: Array,  # (..., D)
    labels: Array,  # (...)
    templates: Array,  # (K, D)
    bias: Array,  # (K,)
    classes: Sequence[int],  # (3,)
) -> PlaneProjection:
    """Project the features of three classes onto the plane through the templates of these classes.

    The bias is part of the template and a 1 is appended to each activation, t_k = [w_k, b_k] and x̃ = [x, 1],
    so that a logit is one inner product, z_k = x̃·t_k. With the QR decomposition Q·R = [t_b−t_a, t_c−t_a] of
    the classes (a, b, c), a row is at u = Qᵀx̃ and a template at Qᵀt_k.

    The origin is the foot of x̃ = 0, not a template: then z_k − z_j = u·(Qᵀt_k − Qᵀt_j) for any two of the
    three, so the lines where two logits are equal all pass through it, each perpendicular to the line between
    its two templates. The diagonal of R is taken positive: b lies to the right of a, and c above that line,
    whatever the network, so pictures of several networks can be compared.

    Args:
        features: (…, D) floats, the input of the last linear layer.
        labels: (…) integers in 0..K−1.
        templates: (K, D) floats, the weight of that layer.
        bias: (K,) floats, its bias.
        classes: three different classes in 0..K−1, in the order (a, b, c).

    Returns:
        `PlaneProjection` with the rows whose label is one of `classes`, in the order given, in float64.

    Raises:
        TypeError: an argument is no tensor or array, or does not hold floats or integers.
        ValueError: shapes that do not fit, values that are not finite, a class out of range or named twice,
            or three templates on one line, which span no plane.

    Cost: one float64 copy of the features of the three classes.

    Example:
        >>> weight, bias = torch.eye(3), torch.zeros(3)
        >>> projection = plane_projection(torch.eye(3), torch.tensor([0, 1, 2]), weight, bias, (0, 1, 2))
        >>> projection.points.round(3) + 0.0
        array([[-0.707, -0.408],
               [ 0.707, -0.408],
               [ 0.   ,  0.816]])

    Source: Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?", §2, in which the rows are
    projected onto the plane through three templates; the bias and the fixed orientation are ours.
    """
    rows, row_labels = labelled_rows(features, labels, "features", "labels")
    weight, offsets = as_tensor(templates, "templates"), as_tensor(bias, "bias")
    for name, value in (("templates", weight), ("bias", offsets)):
        if value.dtype not in FLOAT_DTYPES:
            raise InputTypeError(f"{name} must hold floating-point values, got {value.dtype}")
    if weight.dim() != 2 or weight.shape[1] != rows.shape[1]:
        raise InputError(f"templates must have shape (K, {rows.shape[1]}), got {tuple(weight.shape)}")
    num_classes = weight.shape[0]
    if offsets.shape != (num_classes,):
        raise InputError(f"bias must have shape ({num_classes},), got {tuple(offsets.shape)}")
    require_classes(row_labels.cpu(), num_classes, "labels")
    if len(classes) != 3 or len(set(classes)) != 3:
        raise InputError(f"classes must name three different classes, got {tuple(classes)}")
    chosen = torch.tensor([int(label) for label in classes])
    require_classes(chosen, num_classes, "classes")

    chosen = chosen.to(rows.device)
    shown = torch.isin(row_labels, chosen)
    rows, row_labels = _finite(rows[shown], "features"), row_labels[shown]
    t = torch.cat([weight, offsets.unsqueeze(-1)], -1).to(rows.device)[chosen]
    t = _finite(t, "templates and bias")  # (3, D + 1)
    q, r = torch.linalg.qr((t[1:] - t[0]).T)
    q = q * torch.where(r.diagonal() < 0, -1, 1)  # (D + 1, 2)
    if r.diagonal().abs().min() <= 1e-12 * r.abs().max():
        raise InputError(
            f"the templates of three classes must span a plane, got {tuple(classes)} on one line"
        )
    a, b, c = chosen.tolist()
    return PlaneProjection(
        points=(rows @ q[:-1] + q[-1]).cpu().numpy(),
        labels=row_labels.cpu().numpy(),
        templates=(t @ q).cpu().numpy(),
        classes=(a, b, c),
    )


def within_class_spread(features: Array, labels: Array) -> float:
    """Scatter of features around their class means relative to that of the class means, a ratio in 0..∞.

    tr Σ_W / tr Σ_B with Σ_W = Ave_c Ave_{i in c} (h_i − μ_c)(h_i − μ_c)ᵀ and
    Σ_B = Ave_c (μ_c − μ_G)(μ_c − μ_G)ᵀ, where μ_c is the mean feature of class c and μ_G = Ave_c μ_c. Every
    class has the same share, so splits with other class frequencies compare. 0 is full collapse; scaling,
    shifting or rotating the features changes nothing.

    Args:
        features: (…, D) floats.
        labels: (…) integers, of any range; at least two different ones.

    Returns:
        A float; inf where all class means coincide, nan where all features do.

    Raises:
        TypeError: an argument is no tensor or array, or does not hold floats or integers.
        ValueError: the shapes do not fit, a feature is not finite, or there are fewer than two classes.

    Cost: two passes over the features, 8 MB of them in float64 at a time; `Geometry` gives the same number of
        a stream.

    Example:
        >>> features = torch.tensor([[0.0, 1.0], [0.0, -1.0], [4.0, 1.0], [4.0, -1.0]])
        >>> within_class_spread(features, torch.tensor([0, 0, 1, 1]))
        0.25

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse during the terminal phase of deep
    learning training", for Σ_W and Σ_B, there of balanced classes; the ratio of traces stands in for its
    tr(Σ_W Σ_B⁺)/K, as it needs no (D, D) table. Of features scaled to length 1 it is 1/R² − 1, with the class
    separation R² of Kornblith et al. 2021, "Why Do Better Loss Functions Lead to Less Transferable
    Features?".
    """
    rows, row_labels = labelled_rows(features, labels, "features", "labels")
    _require_finite(rows, "features")
    present, of_row = torch.unique(row_labels, return_inverse=True)
    if len(present) < 2:
        raise InputError(f"a spread needs features of at least two classes, got {len(present)}")
    moments = _ClassMoments(len(present))
    for h, y in _pieces(rows, of_row, len(present)):
        moments.add(h, y)
    return moments.spread()


def logit_gaps(logits: Array, target: Array) -> Floats:
    """How far each row's label logit stands above the mean of its other logits, in nats.

    gap = z_y − (1/(K−1)) Σ_{k≠y} z_k = K/(K−1)·(z_y − (1/K) Σ_k z_k).

    This is what theory's optimal gap z_y − z_k is to be compared with. At the optimum all wrong logits are
    equal, so any summary of them would do; in a trained network they are not, and the mean is the one that
    averages z_y − z_k over the wrong classes, while the largest of K−1 noisy logits lies above them all by an
    amount that grows with K and has nothing to do with smoothing.

    Args:
        logits: (…, K) finite floats, K ≥ 2.
        target: (…) integers in 0..K−1.

    Returns:
        (N,) float64, the rows in their order.

    Raises:
        TypeError: `logits` or `target` is no tensor or array, or does not hold floats or integers.
        ValueError: the shapes do not fit, a target is out of range or a logit is not finite.

    Cost: one float64 copy of the logits.

    Example:
        >>> logit_gaps(torch.tensor([[3.0, 1.0, -1.0], [0.0, 5.0, 2.0]]), torch.tensor([0, 1]))
        array([3., 4.])

    Source: He et al. 2019, "Bag of Tricks for Image Classification with Convolutional Neural Networks", §5.2,
    which sets the largest logit against the mean of the rest; a row that is classified wrongly differs.
    """
    rows, labels = classified_rows(logits, target, "logits")
    z = _finite(rows, "logits")
    label_logit = z.gather(-1, labels.unsqueeze(-1))
    # relative to the label's logit, so that a large common offset costs no digits
    return ((label_logit - z).sum(-1) / (z.shape[1] - 1)).cpu().numpy()


def logit_gap(logits: Array, target: Array) -> LogitGap:
    """The distribution of `logit_gaps` over all rows, in nats.

    Args:
        logits: (…, K) finite floats, K ≥ 2.
        target: (…) integers in 0..K−1.

    Returns:
        `LogitGap`, in float64.

    Raises:
        TypeError, ValueError: as `logit_gaps`, or there is no row.

    Cost: that of `logit_gaps`.

    Example:
        >>> gap = logit_gap(torch.tensor([[3.0, 1.0, -1.0], [0.0, 4.0, 2.0]]), torch.tensor([0, 1]))
        >>> gap.mean, gap.sd
        (3.0, 0.0)
    """
    gaps = logit_gaps(logits, target)
    if len(gaps) == 0:
        raise InputError("a logit gap needs at least one row, got none")
    return LogitGap(
        rows=len(gaps),
        mean=float(gaps.mean()),
        sd=float(gaps.std()),
        quantile_levels=np.array(QUANTILE_LEVELS),
        quantiles=np.quantile(gaps, QUANTILE_LEVELS),
    )


class _ClassMoments:
    """Of each class the number of rows, their mean, and the sum of their squared distances from it."""

    count: Tensor  # (K,) int64
    mean: Tensor  # (K, D), as long as there are no rows (K, 0)
    square: Tensor  # (K,)

    def __init__(self, num_classes: int) -> None:
        self.count = torch.zeros(num_classes, dtype=torch.int64)
        self.mean = torch.zeros(num_classes, 0, dtype=torch.float64)
        self.square = torch.zeros(num_classes, dtype=torch.float64)

    def add(
        self,
        h: Tensor,  # (N, D) float64
        y: Tensor,  # (N,)
    ) -> tuple[Tensor, Tensor]:
        """Count rows; returns their deviations (N, D) from their class means, and what `merge` returns."""
        num_classes = len(self.count)
        batch = _ClassMoments(num_classes)
        # sums of small numbers: an offset common to the rows would cost them digits
        shift = h[0] if len(h) else h.sum(0)
        count = torch.bincount(y, minlength=num_classes)
        total = torch.zeros(num_classes, h.shape[1], dtype=h.dtype, device=h.device).index_add(
            0, y, h - shift
        )
        mean = total / count.clamp_min(1).unsqueeze(-1)
        deviation = h - shift - mean[y]
        square = torch.zeros(num_classes, dtype=h.dtype, device=h.device).index_add(
            0, y, deviation.square().sum(-1)
        )
        batch.count, batch.mean, batch.square = count.cpu(), (mean + shift).cpu(), square.cpu()
        return deviation, self.merge(batch)

    def merge(self, other: _ClassMoments) -> Tensor:
        """Count the rows of `other`; returns √(n·n′/(n+n′))·(μ′ − μ) of each class that `other` has, (C, D).

        The sum of the outer products of these is what the scatter of all rows around the new means has beyond
        the two scatters around the old ones (Chan, Golub & LeVeque 1983).
        """
        if self.mean.shape[1] == 0:
            self.mean = torch.zeros_like(other.mean)
        total = self.count + other.count
        share = other.count.double() / total.clamp_min(1)
        difference = torch.where((other.count > 0).unsqueeze(-1), other.mean - self.mean, 0)
        shift = (self.count * share).sqrt().unsqueeze(-1) * difference
        self.mean = self.mean + share.unsqueeze(-1) * difference
        self.square = self.square + other.square + shift.square().sum(-1)
        self.count = total
        return shift[other.count > 0]

    def spread(self) -> float:
        """tr Σ_W / tr Σ_B with the same share for every class that has rows."""
        present = self.count > 0
        means = self.mean[present]
        within = (self.square[present] / self.count[present]).mean()
        return float(within / (means - means.mean(0)).square().sum(-1).mean())


def _classifier_geometry(
    weight: Tensor,  # (C, D)
    centred: Tensor,  # (C, D)
    within: Tensor,  # (D, D)
) -> ClassifierGeometry:
    templates = weight - weight.mean(0)
    _, lengths, axes = _principal(templates)
    onto = axes[lengths > 0]  # (R, D), orthonormal rows that span the templates
    seen, within_seen = centred @ onto.T, onto @ within @ onto.T
    return ClassifierGeometry(
        templates=_frame_shape(templates),
        self_duality=float((templates / templates.norm() - centred / centred.norm()).norm()),
        duality_error=_frame_error(templates @ centred.T),
        nc1_in_span=_nc1(within_seen, seen),
        spread_in_span=float(within_seen.trace() / seen.square().sum(-1).mean()),
    )


def _nc1(
    within: Tensor,  # (D, D), Σ_W
    centred: Tensor,  # (C, D), M
) -> float:
    _, lengths, axes = _principal(centred)
    # with M = U·diag(s)·V the eigenvectors of Σ_B = MᵀM/C are the rows v of V, and its eigenvalues s²/C
    scatter = ((axes @ within) * axes).sum(-1)
    filled = lengths > 0
    return float((scatter[filled] / lengths[filled].square()).sum()) if filled.any() else float("nan")


def _principal(centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition, with values that only rounding made set to 0.

    The threshold is the one of `torch.linalg.pinv` for MᵀM, whose eigenvalues are the squares.
    """
    u, s, v = torch.linalg.svd(centred, full_matrices=False)
    eps = torch.finfo(s.dtype).eps
    return u, torch.where(s.square() > centred.shape[1] * eps * s.max().square(), s, 0), v


def _frame_shape(centred: Tensor) -> FrameShape:  # of (C, D)
    num_classes = len(centred)
    lengths = centred.norm(dim=-1)
    directions = centred / lengths.unsqueeze(-1)
    cosines = (directions @ directions.T)[~torch.eye(num_classes, dtype=torch.bool, device=centred.device)]
    return FrameShape(
        equinorm=float(lengths.std(correction=0) / lengths.mean()),
        equiangular=float(cosines.std(correction=0)),
        maximal_angle=float((cosines + 1 / (num_classes - 1)).abs().mean()),
        frame_error=_frame_error(centred @ centred.T),
    )


def _frame_error(products: Tensor) -> float:  # (C, C)
    frame = torch.eye(len(products), dtype=products.dtype) - 1 / len(products)
    return float((products / products.norm() - frame / frame.norm()).norm())


def _pieces(rows: Tensor, labels: Tensor, num_classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Features in float64 with their labels, a bounded number of them at a time."""
    # a piece costs a pass over the (K, D) table of means, so that it should have as many rows
    size = max(num_classes, _PIECE // max(1, rows.shape[1]))
    for piece, piece_labels in zip(torch.split(rows, size), torch.split(labels, size), strict=True):
        yield piece.double(), piece_labels


def _finite(values: Tensor, name: str) -> Tensor:
    """The values in float64, refused where one is not finite."""
    _require_finite(values, name)
    return values.double()


def _require_finite(values: Tensor, name: str) -> None:
    if not values.isfinite().all():
        raise InputError(f"{name} must be finite, got {float(values[~values.isfinite()][0])}")
