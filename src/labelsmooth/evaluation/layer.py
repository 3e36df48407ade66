"""The last layer: the geometry of its features, and a picture of three classes."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.evaluation.numbers import Numbers, exactly, ordered
from labelsmooth.measure import Geometry, PlaneProjection, plane_projection
from labelsmooth.measure.projection import spans_plane
from labelsmooth.predictions import Batch, Source

# rows of each of three classes in the picture; more would only cover one another
_SHOWN_ROWS = 300


class Layer:
    """The measures of the penultimate features, and of the weight that follows them where it is known."""

    def __init__(self, source: Source) -> None:
        self._classifier = source.classifier()
        self._geometry = Geometry(source.num_classes)
        self._shown = min(3, source.num_classes)
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._left = [_SHOWN_ROWS] * self._shown  # rows still to be kept of each class

    def update(self, batch: Batch) -> None:
        """Count rows of features."""
        assert batch.features is not None
        self._geometry.update(batch.features, batch.labels)
        for label in range(self._shown):
            at = (batch.labels == label).nonzero().squeeze(1)[: self._left[label]]
            self._left[label] -= len(at)
            if len(at):
                self._rows.append((batch.features[at].float(), batch.labels[at]))

    def numbers(self) -> Numbers:
        """The numbers of `layer_numbers`."""
        return layer_numbers(self._geometry, self._classifier)

    def projection(self) -> PlaneProjection | None:
        """Rows of the first three classes in the plane of their templates; None where these span none."""
        features, labels = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        return _in_plane(features, labels, self._classifier)


def layer_numbers(geometry: Geometry, classifier: tuple[Tensor, Tensor] | None) -> Numbers:
    """The numbers of a last layer, without intervals: they are about the network more than about the rows.

    Args:
        geometry: that has counted rows of at least two classes.
        classifier: the weight (K, D) and the bias (K,), where they are known.
    """
    result = geometry.compute(None if classifier is None else classifier[0])
    values = result.values()
    means = _in_plane(torch.from_numpy(result.means), torch.from_numpy(result.classes), classifier)
    if means is not None and len(means.points) == 3:
        triangle = Geometry(3)
        triangle.update(means.points, means.labels)
        values["nc2_triangle"] = triangle.compute().frame.nc2
    return ordered({name: exactly(value) for name, value in values.items()})


def _in_plane(
    features: Tensor, labels: Tensor, classifier: tuple[Tensor, Tensor] | None
) -> PlaneProjection | None:
    if classifier is None or not spans_plane(*classifier):
        return None
    weight, bias = classifier
    return plane_projection(features, labels, weight, bias, (0, 1, 2))
