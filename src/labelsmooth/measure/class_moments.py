"""Means of classes and the scatter around them, from batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from labelsmooth.errors import InputError
from labelsmooth.measure.arrays import pieces
from labelsmooth.measure.inputs import Array, labelled_rows, require_finite


class ClassMoments:
    """The number of rows of each class, their mean, and the sum of their squared distances from it."""

    count: Tensor  # (K,) int64
    mean: Tensor  # (K, D), as long as there are no rows (K, 0)
    square: Tensor  # (K,)

    def __init__(self, num_classes: int) -> None:
        self.count = torch.zeros(num_classes, dtype=torch.int64)
        self.mean = torch.zeros(num_classes, 0, dtype=torch.float64)
        self.square = torch.zeros(num_classes, dtype=torch.float64)

    def arrays(self) -> dict[str, Tensor]:
        """All that was counted, by name."""
        return {"count": self.count, "mean": self.mean, "square": self.square}

    def add(
        self,
        h: Tensor,  # (N, D) float64
        y: Tensor,  # (N,)
    ) -> tuple[Tensor, Tensor]:
        """Count rows; returns their deviations (N, D) from their class means, and what `merge` returns."""
        num_classes = len(self.count)
        batch = ClassMoments(num_classes)
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

    def merge(self, other: ClassMoments) -> Tensor:
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


def class_pieces(rows: Tensor, labels: Tensor, num_classes: int) -> Iterator[tuple[Tensor, ...]]:
    """Features in float64 with their labels, a bounded number of them at a time."""
    # a piece costs a pass over the (K, D) table of means, so that it should have as many rows
    return pieces(rows, labels, at_least=num_classes)


def within_class_spread(features: Array, target: Array) -> float:
    """Scatter of features around their class means relative to that of the class means, a ratio in 0..∞.

    tr Σ_W / tr Σ_B with Σ_W = Ave_c Ave_{i in c} (h_i − μ_c)(h_i − μ_c)ᵀ and
    Σ_B = Ave_c (μ_c − μ_G)(μ_c − μ_G)ᵀ, where μ_c is the mean feature of class c and μ_G = Ave_c μ_c. Every
    class has the same share, so splits with other class frequencies compare. 0 is full collapse; scaling,
    shifting or rotating the features changes nothing.

    Args:
        features: (…, D) floats.
        target: (…) integers, of any range; at least two different ones.

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
    rows, row_labels = labelled_rows(features, target, "features", "target")
    require_finite(rows, "features")
    present, class_of_row = torch.unique(row_labels, return_inverse=True)
    if len(present) < 2:
        raise InputError(f"a spread needs features of at least two classes, got {len(present)}")
    moments = ClassMoments(len(present))
    for h, y in class_pieces(rows, class_of_row, len(present)):
        moments.add(h, y)
    return moments.spread()
