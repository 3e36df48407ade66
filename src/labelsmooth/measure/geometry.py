"""The geometry of penultimate features around their class means and the templates of the last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from labelsmooth.checks import FLOAT_DTYPES, require_classes, require_num_classes
from labelsmooth.errors import InputError, InputTypeError
from labelsmooth.measure.arrays import IN_MEMORY, Counts, Floats, State, pieces
from labelsmooth.measure.class_moments import ClassMoments, class_pieces
from labelsmooth.measure.collapse import (
    ClassifierGeometry,
    FrameShape,
    classifier_geometry,
    frame_shape,
    nc1,
)
from labelsmooth.measure.inputs import Array, as_tensor, finite, labelled_rows, require_finite
from labelsmooth.measure.protocol import Measure, require_same_options
from labelsmooth.measure.result import Result

_MOMENTS = ("features", "directions")  # whose moments are kept


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GeometryResult(Result):
    """The numbers of `Geometry.compute` over `rows` rows of features."""

    rows: int
    classes: Counts  # (C,), those that have rows; each of the following is about them
    counts: Counts  # (C,), their rows
    means: Floats  # (C, D), their mean features
    spread: float  # as `within_class_spread`, in 0..∞
    class_separation: float  # R², in 0..1; 1 for features that point the same way throughout a class
    nc1: float  # tr(Σ_W Σ_B⁺)/C, in 0..∞
    frame: FrameShape  # NC2, of the class means
    classifier: ClassifierGeometry | None  # None where `compute` got no classifier

    def values(self) -> dict[str, float]:
        """The numbers that the catalogue knows: without a classifier those of the features alone."""
        values = super().values() | {"nc2": self.frame.nc2}
        values.pop("rows")  # those of the other measures
        if self.classifier is None:
            return values
        return values | {
            "nc2_templates": self.classifier.templates.nc2,
            "nc3": self.classifier.nc3,
            "duality_error": self.classifier.duality_error,
            "nc1_in_span": self.classifier.nc1_in_span,
            "spread_in_span": self.classifier.spread_in_span,
        }


class Geometry(Measure):
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
        >>> result = geometry.compute(classifier_weight=torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        >>> result.spread, result.nc1, result.classifier.nc1_in_span, result.classifier.nc3
        (0.25, 0.0, 0.0, 0.0)
        >>> geometry.nearest_mean(torch.tensor([[1.0, 9.0], [3.0, 9.0]]))
        tensor([0, 1])

    Source: Papyan, Han & Donoho 2020, "Prevalence of neural collapse during the terminal phase of deep
    learning training"; there classes are balanced and templates not centred, here a vector added to all of
    them, which changes no probability, changes no number. Kornblith et al. 2021, "Why Do Better Loss
    Functions Lead to Less Transferable Features?", for the class separation. `nc1`, `nc2` and, for
    centred templates, `duality_error` are `covariance_ratio`, `simplex_etf_error` and `self_duality_error` of
    rhubarbwu/neural-collapse.
    """

    def __init__(self, num_classes: int) -> None:
        require_num_classes(num_classes)
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forget every row."""
        self._moments = ClassMoments(self.num_classes)
        self._directions = ClassMoments(self.num_classes)
        self._within: Tensor | None = None  # (D, D), Σ_i (h_i − μ_{y_i})(h_i − μ_{y_i})ᵀ

    def update(self, features: Array, target: Array) -> None:
        """Count rows of features.

        Args:
            features: (…, D) floats, the input of the last linear layer.
            target: (…) integers in 0..K−1.

        Raises:
            TypeError: an argument is no tensor or array, or does not hold floats or integers.
            ValueError: the shapes do not fit, D is not that of the rows before, a label is out of range or a
                feature is not finite.

        Cost: N·D² multiplications in float64, of 8 MB of the features at a time.
        """
        rows, row_labels = labelled_rows(features, target, "features", "target")
        require_classes(row_labels.cpu(), self.num_classes, "target")
        self._require_width(rows)
        require_finite(rows, "features")  # all of them before any of the state changes
        for h, y in class_pieces(rows, row_labels, self.num_classes):
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
        require_same_options(self.options(), other.options())
        if other._within is None:
            return
        if self._within is None:
            self._within = torch.zeros_like(other._within)
        self._require_width(other._within)
        shift = self._moments.merge(other._moments)
        self._directions.merge(other._directions)
        self._within += other._within + shift.T @ shift

    def options(self) -> str:
        """All that two measures must share to be merged, in words."""
        return f"num_classes={self.num_classes}"

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was counted: moments of features, those of their directions, and the scatter within."""
        return {name: tensor.numpy().copy() for name, tensor in self._tensors().items()}

    def load(self, state: State) -> None:
        """Take the rows of a `state` in place of those counted here.

        Raises:
            ValueError: it is the state of a measure with other options.
        """
        shapes = {name: array.shape for name, array in state.items()}
        width = shapes.get("within", (0,))[0]
        num_classes = self.num_classes
        shapes_of_moments = {"count": (num_classes,), "mean": (num_classes, width), "square": (num_classes,)}
        expected = {f"{kind}_{name}": shape for kind in _MOMENTS for name, shape in shapes_of_moments.items()}
        if shapes != expected | {"within": (width, width)}:
            raise InputError(f"a measure of {self.options()} needs other arrays, got {shapes}")
        self.reset()
        for kind, moments in zip(_MOMENTS, (self._moments, self._directions), strict=True):
            for name in shapes_of_moments:
                setattr(moments, name, torch.from_numpy(state[f"{kind}_{name}"].copy()))
        self._within = torch.from_numpy(state["within"].copy()) if width else None

    def _tensors(self) -> dict[str, Tensor]:
        within = torch.zeros(0, 0, dtype=torch.float64) if self._within is None else self._within
        moments = zip(_MOMENTS, (self._moments, self._directions), strict=True)
        return {f"{kind}_{name}": t for kind, of in moments for name, t in of.arrays().items()} | {
            "within": within
        }

    def compute(self, classifier_weight: Array | None = None) -> GeometryResult:
        """The measures of all rows counted so far.

        Args:
            classifier_weight: (K, D) floats, the templates of the linear classifier on these features; None
                leaves out what needs them. The bias does not enter.

        Raises:
            TypeError: `classifier_weight` is no tensor or array of floats.
            ValueError: fewer than two classes have rows, or the templates are not finite or of another shape.

        Cost: a singular value decomposition of one or two (K, D) tables, products with the (D, D) table, and
            K²·D multiplications for the cosines of all pairs, 2 MB of them at a time.
        """
        present = self._moments.count.nonzero().squeeze(-1)
        if len(present) < 2 or self._within is None:
            raise InputError(f"geometry needs features of at least two classes, got {len(present)}")
        counts, means = self._moments.count[present], self._moments.mean[present]
        rows = int(counts.sum())
        centred = means - means.mean(0)
        within = self._within / rows
        classifier = None
        if classifier_weight is not None:
            classifier = classifier_geometry(self._templates(classifier_weight)[present], centred, within)
        return GeometryResult(
            rows=rows,
            classes=present.numpy(),
            counts=counts.numpy(),
            means=means.numpy(),
            spread=self._moments.spread(),
            class_separation=1 / (1 + self._directions.spread()),
            nc1=nc1(within, centred),
            frame=frame_shape(centred),
            classifier=classifier,
        )

    def values(self, classifier_weight: Array | None = None) -> dict[str, float]:
        """The numbers of `compute` that the catalogue knows."""
        return self.compute(classifier_weight).values()

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

        Cost: N·C·D multiplications, of 8 MB of the features or of the distances in float64 at a time.
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
        num_classes, width = means.shape
        of_features = IN_MEMORY * width // max(num_classes, width)
        nearest = [
            present[((piece - centre) @ means.T - half_square).argmax(-1)]
            for (piece,) in pieces(rows, numbers=of_features)
        ]
        return torch.cat([present[:0], *nearest]).reshape(h.shape[:-1])

    def _require_width(self, rows: Tensor) -> None:
        if self._within is not None and rows.shape[-1] != len(self._within):
            raise InputError(
                f"features must be as wide as those before, {len(self._within)}, got {rows.shape[-1]}"
            )

    def _templates(self, classifier_weight: Array) -> Tensor:  # (K, D)
        assert self._within is not None
        name = "classifier_weight"
        templates, width = as_tensor(classifier_weight, name), len(self._within)
        if templates.dtype not in FLOAT_DTYPES:
            raise InputTypeError(f"{name} must hold floating-point values, got {templates.dtype}")
        if templates.shape != (self.num_classes, width):
            raise InputError(
                f"{name} must have shape ({self.num_classes}, {width}), got {tuple(templates.shape)}"
            )
        return finite(templates.cpu(), name)
