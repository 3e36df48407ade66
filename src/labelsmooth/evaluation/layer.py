"""The last layer: the geometry of its features, and a picture of three classes."""

from __future__ import annotations

import torch
from torch import Tensor

from labelsmooth.evaluation.numbers import Numbers, exactly, ordered
from labelsmooth.measure import Geometry, PlaneProjection, plane_projection
from labelsmooth.predictions import Batch, Source

# rows of each of three classes in the picture; more would only cover one another
_SHOWN_ROWS = 300


class Layer:
    """What is measured of the penultimate features, and of the weight that follows them where it is known."""

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
            self._rows.append((batch.features[at].float(), batch.labels[at]))

    def numbers(self) -> Numbers:
        """The numbers, without intervals: they are about the network more than about the rows."""
        result = self._geometry.compute(None if self._classifier is None else self._classifier[0])
        values = result.values()
        means = self._in_plane(torch.from_numpy(result.means), torch.from_numpy(result.classes))
        if means is not None and len(means.points) == 3:
            triangle = Geometry(3)
            triangle.update(means.points, means.labels)
            values["nc2_triangle"] = triangle.compute().frame.nc2
        return ordered({name: exactly(value) for name, value in values.items()})

    def projection(self) -> PlaneProjection | None:
        """Rows of the first three classes in the plane of their templates; None where these span none."""
        features, labels = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        return self._in_plane(features, labels)

    def _in_plane(self, features: Tensor, labels: Tensor) -> PlaneProjection | None:
        if self._classifier is None or self._shown < 3:
            return None
        weight, bias = self._classifier
        if torch.linalg.matrix_rank(weight[1:3] - weight[0]) < 2:
            return None  # templates on one line span no plane
        return plane_projection(features, labels, weight, bias, (0, 1, 2))
